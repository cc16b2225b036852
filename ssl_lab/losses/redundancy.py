"""Losses without negatives: views agree, and the dimensions of the embedding say different things."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def barlow_twins(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], redundancy: float = 0.005, scale: float = 1.0
) -> Float[Tensor, ""]:
    """Makes the cross-correlation C of two views the identity (Zbontar et al. 2021, arXiv 2103.03230, eq. 1).

        loss = scale x [sum_i (1 - C_ii)^2 + redundancy x sum_{i != j} C_ij^2]

    scale: 1 in the paper; 0.1 in solo-learn, which counts where LARS does not adapt. Over the whole batch; variances
    have the released code's epsilon of 1e-5. Raises ValueError on fewer than two rows, which have no correlation.
    """
    correlation = cross_correlation(z1, z2)
    diagonal = correlation.diagonal()
    others = correlation.square().sum() - diagonal.square().sum()
    return scale * ((1 - diagonal).square().sum() + redundancy * others)


def cross_correlation(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Correlation over the batch of each dimension of one view with each of the other."""
    _check(z1)
    return _standardise(z1).T @ _standardise(z2) / len(z1)


def vicreg(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Variance, invariance and covariance as three terms (Bardes, Ponce, LeCun 2022, arXiv 2105.04906, eq. 6).

        loss = invariance x mean (z1 - z2)^2 + variance x [v(z1) + v(z2)] + covariance x [c(z1) + c(z2)]

    with v = `variance_hinge` and c = `covariance_penalty`. The first mean is over rows and dimensions, as in the
    released code; the paper sums over dimensions. The other terms are the paper's, and solo-learn's; the released code
    halves the variance term, which is `variance` = 12.5 here.
    """
    agreement = F.mse_loss(z1, z2)
    spread = variance_hinge(z1) + variance_hinge(z2)
    return invariance * agreement + variance * spread + covariance * (covariance_penalty(z1) + covariance_penalty(z2))


def variance_hinge(z: Float[Tensor, "n d"], epsilon: float = 1e-4) -> Float[Tensor, ""]:
    """How far each dimension's standard deviation falls short of 1: mean_j max(0, 1 - sqrt(Var(z_j) + epsilon))."""
    _check(z)
    return F.relu(1 - (z.var(0) + epsilon).sqrt()).mean()


def covariance_penalty(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Sum of the squared covariances of different dimensions, divided by their number d."""
    _check(z)
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


def _standardise(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Mean 0 and variance 1 over the batch: the released code's batch norm without affine, its epsilon included."""
    return F.batch_norm(z, None, None, training=True, eps=1e-5)


def _check(z: Tensor) -> None:
    if len(z) < 2:
        raise ValueError(f"got {len(z)} row(s), and dimensions vary over rows: set data.batch_size to 2 or more")
