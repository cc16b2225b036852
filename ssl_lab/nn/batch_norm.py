"""Batch norm over other rows than those at hand: parts of the batch, or the batch of all processes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lab.distributed import total, world_size

# Normalised, with the means and the variances of each part.
_Parts = tuple[Float[Tensor, "n channels *hw"], Float[Tensor, "p c"], Float[Tensor, "p c"]]


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
        way = self.in_turn if input.device.type == "cpu" else self.side_by_side
        normalised, means, variances = way(input, here)
        self.follow(total(means.mean(0)) / world_size(), total(variances.mean(0)) / world_size())
        return normalised

    def in_turn(self, input: Float[Tensor, "n c *hw"], parts: int) -> _Parts:
        """Each part by itself: the fastest where launching an operation costs nothing."""
        found = zip(*(self._by_own(part, 1) for part in input.chunk(parts)), strict=True)
        normalised, means, variances = (torch.cat(same) for same in found)
        return normalised, means, variances

    def side_by_side(self, input: Float[Tensor, "n c *hw"], parts: int) -> _Parts:
        """The same in one pass, the parts laid beside each other as channels of a smaller batch."""
        beside = input.movedim(1, -1).unflatten(0, (parts, -1)).movedim(0, -2).flatten(-2)  # (n / parts, *hw, parts c)
        normalised, means, variances = self._by_own(beside.movedim(-1, 1), parts)
        apart = normalised.movedim(1, -1).unflatten(-1, (parts, -1)).movedim(-2, 0).flatten(0, 1)  # (n, *hw, c)
        return apart.movedim(-1, 1), means, variances

    def _by_own(self, input: Float[Tensor, "n channels *hw"], parts: int) -> _Parts:
        """By the input's own statistics, and these: what running averages of momentum 1 are left with.

        parts: how often the channels stand beside each other.
        """
        mean, variance = (
            kept.new_zeros(parts * self.num_features)
            for kept in (self.running_mean, self.running_var)
            if kept is not None
        )
        scale, shift = (None if each is None else each.repeat(parts) for each in (self.weight, self.bias))
        normalised = F.batch_norm(input, mean, variance, scale, shift, True, 1.0, self.eps)
        return normalised, mean.unflatten(0, (parts, -1)), variance.unflatten(0, (parts, -1))


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
