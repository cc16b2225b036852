"""Batch norm as several devices would compute it, on one."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lab.distributed import world_size


class SplitBatchNorm(_BatchNorm):
    """Batch norm with the statistics of each of several contiguous parts of the batch.

    Without, a query and its key share the statistics of their batches, and MoCo learns to tell them apart by these
    (arXiv 1911.05722, section 3.3). `splits` counts the parts of the global batch, so that several processes compute
    what one does: each takes its share of the parts, at least one.
    """

    def __init__(self, num_features: int, splits: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        super().__init__(num_features, eps, momentum, affine)
        self.splits = splits

    def forward(self, input: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        if not self.training:
            return super().forward(input)
        here = max(1, self.splits // world_size())
        if len(input) % here:
            raise ValueError(
                f"method.splits={self.splits}: a batch of {len(input)} does not divide into {here} parts; "
                f"set data.batch_size to a multiple of {here * world_size()}"
            )
        momentum = 1 - (1 - (self.momentum or 0.0)) ** (1 / here)  # the parts together move the averages once
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        parts = [
            F.batch_norm(part, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps)
            for part in input.chunk(here)
        ]
        return torch.cat(parts)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes behind the channels."""


def split_batch_norms(module: nn.Module, splits: int) -> nn.Module:
    """The module with every batch norm in it split; parameters and running averages stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, SplitBatchNorm):
            split = SplitBatchNorm(child.num_features, splits, child.eps, child.momentum or 0.0, child.affine)
            split.load_state_dict(child.state_dict())
            split.weight, split.bias = child.weight, child.bias  # themselves: a teacher's take no gradient
            setattr(module, name, split)
        else:
            split_batch_norms(child, splits)
    return module
