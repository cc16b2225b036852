"""Cutting squares out of images, each row its own places."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cut(
    images: Float[Tensor, "n c h w"], top: Int[Tensor, "n k"], left: Int[Tensor, "n k"], side: int
) -> Float[Tensor, "n k c {side} {side}"]:
    """`k` squares of `side` pixels of every image, from these corners."""
    steps = torch.arange(side, device=images.device)
    rows = top.to(images.device)[..., None] + steps  # n k side
    columns = left.to(images.device)[..., None] + steps
    row = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    return images.permute(0, 2, 3, 1)[row, rows[..., None], columns[..., None, :]].permute(0, 1, 4, 2, 3)


def standardise(patches: Float[Tensor, "n k c h w"]) -> Float[Tensor, "n k c h w"]:
    """Each patch with mean 1/2 and standard deviation 1/4 in each channel: its light says nothing about its place."""
    mean, std = patches.mean((3, 4), keepdim=True), patches.std((3, 4), keepdim=True)
    return 0.5 + 0.25 * (patches - mean) / (std + 1e-3)
