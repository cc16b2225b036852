"""InfoNCE: the right key among many, for methods whose keys carry no gradient."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_lab.losses.blocks import LOG2_E, fits_unshifted, product, refuse_second_derivative

_BLOCK = 4096  # rows of the queue at a time: a block of similarities to 256 queries takes 4 MiB


def info_nce(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    queue: Float[Tensor, "m d"],
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """Tells each query's key from the keys of earlier batches (He et al. 2020, arXiv 1911.05722, eq. 1).

    With s the cosine similarity, k the query's key, k_1 ... k_m the queue and T the temperature,

        loss = mean over queries of  log(exp(s(q, k) / T) + sum_j exp(s(q, k_j) / T)) - s(q, k) / T.

    query and key are normalised here; the queue holds rows of length 1 and gets no gradient. Its similarities are made
    in one pass that leaves the gradient behind, so the queue may be overwritten before the backward pass.
    Differentiable once. Raises ValueError on a temperature that is not positive and finite.
    """
    _check(temperature)
    loss: Tensor = _Contrast.apply(F.normalize(query, dim=1), F.normalize(key, dim=1), queue.detach(), temperature)
    return loss


def moco_v3(query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], temperature: float = 1.0) -> Float[Tensor, ""]:
    """InfoNCE among the keys of the batch, scaled: 2 T x cross entropy of s(q_i, k_j) / T, i's own key being right.

    Chen, Xie, He 2021 (arXiv 2104.02057, algorithm 1). The factor keeps the size of the gradient when T changes.
    """
    _check(temperature)
    similarity = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T
    own = torch.arange(len(query), device=query.device)
    return 2 * temperature * F.cross_entropy(similarity / temperature, own)


def _check(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"info_nce: got temperature={temperature}, needs 0 < temperature < inf; MoCo v2's is 0.2")


class _Contrast(torch.autograd.Function):
    """The loss of unit rows, with its gradient made on the way: softmax-weighted keys minus the right one."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "n d"],
        key: Float[Tensor, "n d"],
        queue: Float[Tensor, "m d"],
        temperature: float,
    ) -> Float[Tensor, ""]:
        logits = (query * key).sum(1) / temperature
        add = _add if fits_unshifted(temperature, query.dtype) else _add_shifted
        top, total, mixture = add(query, key, queue, logits, temperature)
        ctx.save_for_backward(query, key, mixture / total, torch.exp(logits - top)[:, None] / total)
        ctx.scale = 1 / (temperature * len(query))
        return (top + total[:, 0].log() - logits).mean()

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Tensor, Tensor, None, None]:
        refuse_second_derivative("info_nce")
        query, key, expected, right = ctx.saved_tensors
        grad = grad * ctx.scale
        return grad * (expected - key), grad * (right - 1) * query, None, None


def _add(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    queue: Float[Tensor, "m d"],
    logits: Float[Tensor, " n"],
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of exponentials and the keys weighed by them, added as they are; the shift is 0."""
    right = logits.exp()[:, None]
    total, mixture = right.clone(), right * key
    scaled = query * (LOG2_E / temperature)
    for block in queue.split(_BLOCK):
        weights = torch.mm(scaled, block.T).exp2_()
        total += weights.sum(1, keepdim=True)
        mixture += product(weights, block)
    return torch.zeros_like(logits), total, mixture


def _add_shifted(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    queue: Float[Tensor, "m d"],
    logits: Float[Tensor, " n"],
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the largest logit so far taken out."""
    top, total, mixture = logits, torch.ones_like(logits)[:, None], key.clone()
    for block in queue.split(_BLOCK):
        similarity = query @ block.T / temperature
        higher = torch.maximum(top, similarity.amax(1))
        kept = torch.exp(top - higher)[:, None]
        weights = torch.exp(similarity - higher[:, None])
        top, total, mixture = higher, total * kept + weights.sum(1, keepdim=True), mixture * kept + weights @ block
    return top, total, mixture
