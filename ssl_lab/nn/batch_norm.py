"""Batch norm over other rows than those at hand: parts of the batch, or the batch of all processes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lab.distributed import total, world_size


class _Elsewhere(_BatchNorm):
    """A batch norm that takes another's place, with what that did after it (timm's hold the activation)."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True):
        super().__init__(num_features, eps, momentum, affine)
        self.after: nn.Module = nn.Identity()

    def forward(self, input: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        normalised: Tensor = self.after(self.normalise(input) if self.training else super().forward(input))
        return normalised

    def normalise(self, input: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        """In training mode; moves the running averages once, alike in all processes."""
        raise NotImplementedError  # each kind below has its own

    @torch.no_grad()
    def follow(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        """Move the running averages towards what was found."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum or 0.0)
            self.running_var.lerp_(variance.to(self.running_var), self.momentum or 0.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes behind the channels."""


class SplitBatchNorm(_Elsewhere):
    """Batch norm with the statistics of each of several contiguous parts of the batch.

    Otherwise a query and its key share the statistics of their batches, and MoCo learns to tell them apart by these
    (arXiv 1911.05722, section 3.3). `splits` counts the parts of the global batch, so that several processes compute
    what one does: each takes its share of the parts, at least one.
    """

    def __init__(self, num_features: int, splits: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        super().__init__(num_features, eps, momentum, affine)
        self.splits = splits

    def normalise(self, input: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        here = max(1, self.splits // world_size())
        if len(input) % here:
            raise ValueError(
                f"method.splits={self.splits}: a batch of {len(input)} does not divide into {here} parts; "
                f"set data.batch_size to a multiple of {here * world_size()}"
            )
        parts = [self._normalise_part(part) for part in input.chunk(here)]
        means, variances = (torch.stack(same).mean(0) for same in zip(*(found for _, found in parts), strict=True))
        self.follow(total(means) / world_size(), total(variances) / world_size())
        return torch.cat([normalised for normalised, _ in parts])

    def _normalise_part(self, part: Float[Tensor, "n c *hw"]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The part by its own statistics, and these: what a running average of momentum 1 is left with."""
        mean, variance = (torch.zeros_like(kept) for kept in (self.running_mean, self.running_var) if kept is not None)
        normalised = F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        return normalised, (mean, variance)


class SharedBatchNorm(_Elsewhere):
    """Batch norm with the statistics of the batch of all processes, on any device and in any precision.

    torch's SyncBatchNorm does the same on GPUs alone. The mean is found first and the variance around it, so that
    several processes agree with one to rounding; each costs one sum over processes, and one more on the way back.
    """

    def normalise(self, input: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        values = input if input.dtype == torch.float64 else input.float()
        rows, shape = [0, *range(2, input.ndim)], (1, -1, *[1] * (input.ndim - 2))
        count = values.numel() // values.shape[1] * world_size()
        mean = total(values.sum(rows)) / count
        centred = values - mean.view(shape)
        variance = total(centred.square().sum(rows)) / count
        self.follow(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)


def split_batch_norms(module: nn.Module, splits: int) -> nn.Module:
    """The module with every batch norm in it split; parameters and running averages stay."""
    return _exchange(module, lambda n: SplitBatchNorm(n.num_features, splits, n.eps, n.momentum or 0.0, n.affine))


def share_batch_norms(module: nn.Module) -> nn.Module:
    """The module with every batch norm in it, but the split ones, over all processes."""
    return _exchange(module, lambda n: SharedBatchNorm(n.num_features, n.eps, n.momentum, n.affine))


def _exchange(module: nn.Module, make: Callable[[_BatchNorm], _Elsewhere]) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            other = make(child).to(child.running_mean)
            # Not strict: what an activation has learned comes with the activation itself, two lines below.
            other.load_state_dict(child.state_dict(), strict=False)
            other.weight, other.bias = child.weight, child.bias  # themselves: a teacher's take no gradient
            other.after = nn.Sequential(*child.children())
            other.train(child.training)
            setattr(module, name, other)
        else:
            _exchange(child, make)
    return module
