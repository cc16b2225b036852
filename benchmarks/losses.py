"""Barlow Twins and InfoNCE beside lightly's, forward and backward, the two in turn. `python -m benchmarks losses`."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.nt_xent import relative
from benchmarks.rows import Row
from ssl_lab.losses import barlow_twins, info_nce

Loss = Callable[[Tensor, Tensor], Tensor]
QUEUE, TEMPERATURE = 65536, 0.2


def measure(rounds: int = 5) -> list[Row]:
    """Time beside lightly's, and the distance of value and gradient from it."""
    from lightly.loss import BarlowTwinsLoss, NTXentLoss

    torch.manual_seed(0)
    queue = F.normalize(torch.randn(QUEUE, 128), dim=1)
    with_bank = NTXentLoss(temperature=TEMPERATURE, memory_bank_size=(QUEUE, 128))
    with_bank.memory_bank.bank = queue.clone()
    with_bank.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)

    def theirs(query: Tensor, key: Tensor) -> Tensor:
        with_bank.memory_bank.bank[: len(key)] = queue[: len(key)]  # as it was before the last call wrote its keys
        with_bank.memory_bank.bank_ptr.zero_()
        return with_bank(query, key)  # type: ignore[no-any-return]  # lightly has no stubs

    def ours(query: Tensor, key: Tensor) -> Tensor:
        return info_nce(query, key.detach(), queue, TEMPERATURE)

    return [
        *compare(
            "barlow_twins, 1,024 x 2,048", barlow_twins, BarlowTwinsLoss(lambda_param=0.005), (1024, 2048), 2, rounds
        ),
        *compare("info_nce, batch 256, queue 65,536", ours, theirs, (256, 128), 1, rounds),
    ]


def compare(name: str, ours: Loss, theirs: Loss, shape: tuple[int, int], learning: int, rounds: int) -> list[Row]:
    """Seconds of both by turns, their ratio, and how far the first is from the second.

    learning: views that get a gradient, the first of them: both, or the query alone.
    """
    views = [torch.randn(*shape, requires_grad=i < learning) for i in range(2)]
    turns = [(seconds(theirs, views), seconds(ours, views)) for _ in range(rounds + 1)][1:]  # the first warms up
    values = [loss(*views) for loss in (ours, theirs)]
    gradients = [torch.cat(torch.autograd.grad(value, views[:learning])) for value in values]
    return [
        Row(f"{name}: ours", statistics.median(mine for _, mine in turns), "s"),
        Row(f"{name}: lightly / ours", statistics.median(other / mine for other, mine in turns), "x", ">= 1"),
        Row(f"{name}: value from lightly's", relative(values[0].detach(), values[1].detach()), "relative", "<= 1e-5"),
        Row(f"{name}: gradient from lightly's", relative(*gradients), "relative", "<= 1e-5"),
    ]


def seconds(loss: Loss, views: list[Tensor]) -> float:
    """Of one pass forward and back, to the views that learn."""
    learning = [view for view in views if view.requires_grad]
    start = time.perf_counter()
    torch.autograd.grad(loss(*views), learning)
    return time.perf_counter() - start
