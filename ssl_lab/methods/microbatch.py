"""The gradient of a large batch in the memory of a small one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def in_parts(
    embed: Callable[[int, int], tuple[Tensor, ...]], network: nn.Module, n: int, size: int
) -> tuple[Tensor, ...]:
    """What `embed(start, stop)` makes of all `n` rows, at most `size` at a time, keeping no activation.

    The backward pass makes each part again (Gao et al. 2021, arXiv 2101.06983, by checkpointing), so `embed` must
    follow from its rows alone. On a network without batch norm, or with it frozen, gradients are those of one pass.
    The parts are alike, up to one row, so that none is a small rest. A batch norm's running averages move as far as one
    pass would move them, and not again in the backward pass.
    """
    parts = -(-n // size)
    edges = [n * i // parts for i in range(parts + 1)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Around the forward pass of a part, and around making it again."""
        return moving(network, 1 / parts), moving(network, 0.0)

    def part(start: int, stop: int) -> tuple[Tensor, ...]:
        return checkpoint(embed, start, stop, use_reentrant=False, context_fn=contexts)

    return tuple(torch.cat(same) for same in zip(*(part(*ends) for ends in pairwise(edges)), strict=True))


@contextmanager
def moving(network: nn.Module, share: float) -> Iterator[None]:
    """Within, a pass moves running averages by this share of a whole pass: p times 1/p is once, 0 is not at all."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 1 - (1 - (norm.momentum or 0.0)) ** share
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None and share == 0:
                norm.num_batches_tracked.copy_(count)
