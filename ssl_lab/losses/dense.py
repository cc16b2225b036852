"""Losses of answers at every pixel. `weights` say how much a pixel counts; they have mean 1."""

from jaxtyping import Float
from torch import Tensor


def soft_cross_entropy(
    outputs: Float[Tensor, "n q h w"], distribution: Float[Tensor, "n q h w"], weights: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, ""]:
    """Mean over pixels of -w sum_q z_q log softmax(outputs)_q (Zhang et al. 2016, arXiv 1603.08511, eq. 2)."""
    return -((distribution * outputs.log_softmax(1)).sum(1, keepdim=True) * weights).mean()


def squared_error(
    outputs: Float[Tensor, "n c h w"], values: Float[Tensor, "n c h w"], weights: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, ""]:
    """Mean over pixels and channels of w (outputs - values)^2."""
    return ((outputs - values).square() * weights).mean()
