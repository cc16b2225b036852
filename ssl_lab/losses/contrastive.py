"""Contrastive losses: an image's other views attract, everything else in the batch repels."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_lab.losses.blocks import LOG2_E, fits_unshifted, product, refuse_second_derivative

# Rows of one square block of the similarity matrix; results do not depend on it. On a CPU a block should fit in the
# cache, but be no smaller: threads wait for each other after every operation, which on busy cores makes small blocks
# several times slower. An accelerator needs more to be full.
_CPU_BLOCK, _ACCELERATOR_BLOCK = 1024, 8192


def nt_xent(*projections: Float[Tensor, "_n _d"], temperature: float = 0.5) -> Float[Tensor, ""]:
    """Tells the views of one image apart from the whole batch: normalised temperature-scaled cross entropy.

    With s the cosine similarity, T the temperature and P(i) the other views of anchor i's image,

        loss_i = log sum_{j != i} exp(s_ij / T) - mean_{p in P(i)} s_ip / T,

    averaged over all k*n anchors of k >= 2 views of n images; row r of every view shows the same image. Two views give
    SimCLR's loss (Chen, Kornblith, Norouzi, Hinton, 2020, arXiv 2002.05709, eq. 1), more views the form with the mean
    outside the logarithm (Khosla et al., 2020, arXiv 2004.11362, eq. 2, each image being its own class).

    The (kn, kn) matrix is never held: memory grows with k*n*d. Differentiable once. Raises ValueError on fewer than
    two views, on shapes that are not one (n, d), and on a temperature that is not positive and finite; RuntimeError
    under create_graph=True.
    """
    _check(projections, temperature)
    z = F.normalize(torch.stack(projections), dim=-1)  # k n d
    positives = (z * (z.sum(dim=0) - z)).sum(dim=-1).mean() / (len(projections) - 1)
    others: Tensor = _LogSumExpOfOthers.apply(z.flatten(0, 1), temperature)
    return others.mean() - positives / temperature


def _check(projections: tuple[Tensor, ...], temperature: float) -> None:
    shapes = [tuple(view.shape) for view in projections]
    if len(shapes) < 2:
        raise ValueError(
            f"nt_xent: got {len(shapes)} projections, needs two or more: pass z1, z2, … of the same images"
        )
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(
            f"nt_xent: got projections of shapes {shapes}, needs one shape (n, d) for all, n and d at least 1"
        )
    if not 0 < temperature < math.inf:
        raise ValueError(f"nt_xent: got temperature={temperature}, needs 0 < temperature < inf; SimCLR's is 0.5")


class _LogSumExpOfOthers(torch.autograd.Function):
    """l_i = log sum_{j != i} exp(z_i . z_j / T), for rows of length 1, in blocks that the backward pass makes again.

    The matrix is symmetric, so only blocks on and above its diagonal are made: each serves its rows and its columns.
    Inside, rows are scaled by sqrt(log2(e) / T), so that exponentials are powers of 2: on a CPU `torch.exp2` takes a
    quarter of the time of `torch.exp`.
    """

    @staticmethod
    def forward(ctx: Any, z: Float[Tensor, "m d"], temperature: float) -> Float[Tensor, "m"]:
        y = z * math.sqrt(LOG2_E / temperature)
        ctx.temperature = temperature
        log_sums = _log_sums(y) if fits_unshifted(temperature, y.dtype) else _log_sums_shifted(y)
        ctx.save_for_backward(y, log_sums)
        return log_sums / LOG2_E

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, "m"]) -> tuple[Float[Tensor, "m d"], None]:
        """dz_i = sum_j w_ij z_j / T, where w_ij = grad_i exp(s_ij - l_i) + grad_j exp(s_ij - l_j) is symmetric too."""
        refuse_second_derivative("nt_xent")
        y, log_sums = ctx.saved_tensors
        weigh = _weigh if fits_unshifted(ctx.temperature, y.dtype) else _weigh_shifted
        grad_y = torch.zeros_like(y)
        for rows, columns, block in _upper_blocks(y):
            weigh(block, grad[rows, None], log_sums[rows, None], grad[columns], log_sums[columns])
            if rows == columns:
                block.fill_diagonal_(0)
            else:
                grad_y[columns] += product(y[rows].T, block).T
            grad_y[rows] += product(block, y[columns])
        return grad_y.mul_(1 / math.sqrt(LOG2_E * ctx.temperature)), None


def _upper_blocks(y: Float[Tensor, "m d"]) -> Iterator[tuple[slice, slice, Float[Tensor, "r c"]]]:
    """Rows, columns and entries of each block on and above the diagonal of y y^T. All blocks share their memory."""
    size = min(len(y), _CPU_BLOCK if y.device.type == "cpu" else _ACCELERATOR_BLOCK)
    memory = y.new_empty(size * size)
    parts = [slice(start, min(start + size, len(y))) for start in range(0, len(y), size)]
    for i, rows in enumerate(parts):
        for columns in parts[i:]:
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            block = memory[: math.prod(shape)].view(shape)
            yield rows, columns, torch.mm(y[rows], y[columns].T, out=block)


def _log_sums(y: Float[Tensor, "m d"]) -> Float[Tensor, "m"]:
    """log2 sum_{j != i} 2^(y_i . y_j), the powers added as they are."""
    sums = y.new_zeros(len(y))
    for rows, columns, block in _upper_blocks(y):
        block.exp2_()
        if rows == columns:
            block.fill_diagonal_(0)
        else:
            sums[columns] += block.sum(dim=0)
        sums[rows] += block.sum(dim=1)
    return sums.log2_()


def _log_sums_shifted(y: Float[Tensor, "m d"]) -> Float[Tensor, "m"]:
    """The same for powers beyond the range of numbers: a running log-sum-exp with the maximum taken out."""
    log_sums = y.new_full((len(y),), -math.inf)

    def add(part: slice, block: Tensor, dim: int) -> None:
        log_sums[part] = torch.logaddexp2(log_sums[part], torch.logsumexp(block / LOG2_E, dim) * LOG2_E)

    for rows, columns, block in _upper_blocks(y):
        if rows == columns:
            block.fill_diagonal_(-math.inf)
        else:
            add(columns, block, dim=0)
        add(rows, block, dim=1)
    return log_sums


def _weigh(block: Tensor, row_grad: Tensor, row_log_sums: Tensor, grad: Tensor, log_sums: Tensor) -> None:
    """Makes the block's entries the weights of the backward pass: one exponential an entry serves both its terms."""
    block.exp2_().mul_(row_grad * torch.exp2(-row_log_sums) + grad * torch.exp2(-log_sums))


def _weigh_shifted(block: Tensor, row_grad: Tensor, row_log_sums: Tensor, grad: Tensor, log_sums: Tensor) -> None:
    """The same for powers beyond the range of numbers: an exponential for each term, neither of them above 1."""
    by_row = torch.exp2(block - row_log_sums).mul_(row_grad)
    block.sub_(log_sums).exp2_().mul_(grad).add_(by_row)
