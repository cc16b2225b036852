"""Gaussian blur, each sample with its own width.

Blurring a line of pixels is linear, reflected borders included; so it has a matrix, and a blur is two matrix products.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_lab.views.separable import separable


def gaussian(sigma: Float[Tensor, " n"], kernel: int) -> Float[Tensor, "n r"]:
    """The weights at distance 0, 1, …, kernel // 2 of a Gaussian of deviation `sigma` pixels; both sides sum to 1."""
    distance = torch.arange(kernel // 2 + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (distance / sigma.unsqueeze(1)) ** 2)
    return weights / (2 * weights.sum(1, keepdim=True) - 1)


def blur_weights(sigma: Float[Tensor, " n"], kernel: int, side: int) -> Float[Tensor, "n {side} {side}"]:
    """Row i weighs the pixels that output i sees: each from where it is, and from its reflection in either border."""
    pixel = torch.arange(side, device=sigma.device)
    output, last = pixel.unsqueeze(1), side - 1
    straight = (output - pixel).abs()
    before = torch.where(pixel > 0, output + pixel, side)  # the border pixels are not reflected
    behind = torch.where(pixel < last, 2 * last - output - pixel, side)
    weights = gaussian(sigma, kernel)
    weights = F.pad(weights, (0, 2 * side - weights.shape[1]))  # nothing is seen from farther away
    return weights[:, straight] + weights[:, before] + weights[:, behind]


def gaussian_blur(
    images: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], kernel: int
) -> Float[Tensor, "n c h w"]:
    """Each row blurred by its own `sigma`: torchvision's `gaussian_blur`."""
    height, width = images.shape[-2:]
    sigma = sigma.to(images.device)
    vertical = blur_weights(sigma, kernel, height)
    horizontal = vertical if width == height else blur_weights(sigma, kernel, width)
    return separable(images, vertical, horizontal).clamp_(0, 1)
