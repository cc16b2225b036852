"""NT-Xent: speed beside lightly's, memory alone, and distance from the naive form. `python -m benchmarks nt_xent`.

Rows hold name, value, unit and target. The two losses take turns, so that both meet the same neighbours on the machine.
"""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rows import Row
from ssl_lab.losses import nt_xent

Loss = Callable[[Tensor, Tensor], Tensor]
WIDTH, TEMPERATURE = 128, 0.5


def measure(pairs: int = 8192, rounds: int = 5, memory_pairs: int = 16384, naive_pairs: int = 1024) -> list[Row]:
    """Every figure of this page; about two minutes on two cores, and 5 GiB for lightly's matrices."""
    value_error, gradient_error = errors(naive_pairs)
    return [
        *speed(pairs, rounds),
        Row(f"nt_xent memory, {memory_pairs} pairs", extra_memory(memory_pairs), "GiB", "<= 0.5"),
        Row(f"nt_xent loss from naive, {naive_pairs} pairs", value_error, "relative", "<= 1e-5"),
        Row(f"nt_xent gradient from naive, {naive_pairs} pairs", gradient_error, "relative", "<= 1e-5"),
    ]


def speed(pairs: int, rounds: int) -> list[Row]:
    losses: dict[str, Loss] = {"ssl_lab": ours}
    try:
        from lightly.loss import NTXentLoss

        losses["lightly"] = NTXentLoss(temperature=TEMPERATURE)
    except ImportError:
        print("lightly is missing, so there is no ratio: pip install 'ssl_lab[bench]'", file=sys.stderr)
    views = draw_views(pairs)
    turns = [{name: forward_backward(loss, views) for name, loss in losses.items()} for _ in range(rounds + 1)]
    medians = {name: statistics.median(turn[name] for turn in turns[1:]) for name in losses}  # the first warms up
    rows = [Row(f"nt_xent {name}, {pairs} pairs", median, "s", "") for name, median in medians.items()]
    if "lightly" in medians:
        rows.append(Row("nt_xent speed beside lightly", medians["lightly"] / medians["ssl_lab"], "times", ">= 8"))
    return rows


def extra_memory(pairs: int) -> float:
    """GiB that forward and backward add to a fresh process: peaks never fall, so this one cannot be asked."""
    command = [sys.executable, "-c", f"from benchmarks.nt_xent import print_extra_memory as p; p({pairs})"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_extra_memory(pairs: int) -> None:
    forward_backward(ours, draw_views(8))  # what torch allocates once is not the loss's
    views = draw_views(pairs)
    before = peak_gib()
    forward_backward(ours, views)
    print(peak_gib() - before)


def peak_gib() -> float:
    """Largest resident memory so far, on Linux. Not `getrusage`: its peak is handed down from the parent process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].removesuffix("kB")) / 2**20


def errors(pairs: int) -> tuple[float, float]:
    """Relative distance of loss and gradient from the naive form in float64."""
    views = draw_views(pairs)
    exact = [view.detach().double().requires_grad_() for view in views]
    got, expected = ours(*views), naive(*exact)
    got_gradient = torch.cat(torch.autograd.grad(got, views))
    expected_gradient = torch.cat(torch.autograd.grad(expected, exact))
    return relative(got, expected), relative(got_gradient, expected_gradient)


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def draw_views(pairs: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(pairs, WIDTH, generator=generator).requires_grad_() for _ in range(2)]


def forward_backward(loss: Loss, views: list[Tensor]) -> float:
    start = time.perf_counter()
    torch.autograd.grad(loss(*views), views)
    return time.perf_counter() - start


def ours(z1: Tensor, z2: Tensor) -> Tensor:
    return nt_xent(z1, z2, temperature=TEMPERATURE)


def naive(z1: Tensor, z2: Tensor) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))
