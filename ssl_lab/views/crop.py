"""Random resized crop and horizontal flip, each sample its own, as two matrices a sample.

The antialiased resize is a weighted mean of pixels along each axis (Pillow's and torchvision's `antialias=True`):
output i looks at source position p_i = start + (i + 1/2) length / size, and pixel j weighs k((j + 1/2 - p_i) / s)
with s = max(1, length / size), within the crop only, weights summing to 1. A flip mirrors the output positions.
"""

from collections.abc import Callable, Sequence
from math import log
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ssl_lab.draws import Draws
from ssl_lab.views.separable import separable

ATTEMPTS = 10  # as torchvision: then the largest crop of an allowed ratio, in the middle


class Geometry(NamedTuple):
    """Where each view was taken: for whoever needs to know which pixels two views share."""

    boxes: Int[Tensor, "n 4"]  # left, top, right, bottom in source pixels; right and bottom exclusive
    flipped: Bool[Tensor, " n"]  # mirrored left to right, after the crop


def draw_sides(
    draws: Draws, height: int, width: int, scale: Sequence[float], ratio: Sequence[float]
) -> Int[Tensor, "n 2"]:
    """Height and width of a crop for each row: area uniform within `scale`, ratio log-uniform, the first that fits.

    Szegedy et al. 2015 (arXiv 1409.4842), in torchvision's form.
    """
    area, aspect = draws.uniform(ATTEMPTS, 2).unbind(2)
    area = (scale[0] + (scale[1] - scale[0]) * area) * (height * width)
    aspect = torch.exp(log(ratio[0]) + (log(ratio[1]) - log(ratio[0])) * aspect)
    tried = torch.stack([(area / aspect).sqrt_(), (area * aspect).sqrt_()], 2).round_().long()
    last = torch.tensor([min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))])
    tried = torch.cat([tried, last.expand(len(tried), 1, 2)], 1)
    fits = ((tried > 0) & (tried <= torch.tensor([height, width]))).all(2)
    first = fits.byte().argmax(1)
    return tried[torch.arange(len(tried)), first]


def draw_geometry(
    draws: Draws, height: int, width: int, scale: Sequence[float], ratio: Sequence[float], flip: float
) -> Geometry:
    """A crop for each row, anywhere in the image, and whether it is mirrored."""
    sides = draw_sides(draws, height, width, scale, ratio)
    room = torch.tensor([height, width]) - sides
    start = (draws.uniform(2) * (room + 1)).long()
    flipped = draws.uniform() < flip if flip else torch.zeros(len(draws), dtype=torch.bool)
    return Geometry(torch.cat([start.flip(1), (start + sides).flip(1)], 1), flipped)


def triangle(distance: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The bilinear kernel: max(0, 1 - |x|). Works in place."""
    return distance.abs_().clamp_(max=1).neg_().add_(1)


def cubic(distance: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The bicubic kernel with a = -1/2 (Keys 1981), as in Pillow."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": triangle, "bicubic": cubic}


def resize_weights(
    start: Int[Tensor, " n"],
    stop: Int[Tensor, " n"],
    mirrored: Bool[Tensor, " n"] | None,
    source: int,
    size: int,
    kernel: Callable[[Tensor], Tensor] = triangle,
) -> Float[Tensor, "n {size} {source}"]:
    """One axis of a crop from `start` to `stop`, resized to `size`: row i weighs the pixels that output i sees."""
    step = (stop - start).view(-1, 1, 1) / size
    output = (torch.arange(size, device=start.device) + 0.5).view(1, -1, 1)
    if mirrored is not None:
        output = torch.where(mirrored.view(-1, 1, 1), size - output, output)
    pixel = torch.arange(source, device=start.device).view(1, 1, -1)
    spread = step.clamp(min=1)
    middle = (start.view(-1, 1, 1) + step * output) / spread
    inside = (pixel >= start.view(-1, 1, 1)) & (pixel < stop.view(-1, 1, 1))
    weights = torch.where(inside, kernel((pixel + 0.5) / spread - middle), 0.0)
    return weights.div_(weights.sum(2, keepdim=True))


def crop_resize(
    images: Float[Tensor, "n c h w"],
    geometry: Geometry,
    size: int,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "n c {size} {size}"]:
    """Each row's box, antialiased to a square of `size` and mirrored where asked: torchvision's `resized_crop`."""
    left, top, right, bottom = geometry.boxes.to(images.device).unbind(1)
    height, width = images.shape[-2:]
    kernel = KERNELS[interpolation]
    vertical = resize_weights(top, bottom, None, height, size, kernel)
    horizontal = resize_weights(left, right, geometry.flipped.to(images.device), width, size, kernel)
    return separable(images, vertical, horizontal).clamp_(0, 1)


def crop_nearest(masks: UInt8[Tensor, "n h w"], geometry: Geometry, size: int) -> UInt8[Tensor, "n {size} {size}"]:
    """The same boxes of maps whose values are names, not amounts: each output takes the pixel under its middle."""
    boxes, flipped = geometry.boxes.to(masks.device), geometry.flipped.to(masks.device)[:, None]
    left, top, right, bottom = (side[:, None] for side in boxes.unbind(1))
    output = (torch.arange(size, device=masks.device) + 0.5)[None] / size
    rows = top + (output * (bottom - top)).long()
    columns = left + (torch.where(flipped, 1 - output, output) * (right - left)).long()
    n = torch.arange(len(masks), device=masks.device)
    return masks[n[:, None, None], rows[:, :, None], columns[:, None, :]]
