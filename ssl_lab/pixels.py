"""Pixels as networks want them, the same for views, tasks and Encoder: pure functions of a batch on any device."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num, UInt8
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, the digits torchvision uses


def to_float(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Stored bytes as numbers in [0, 1]."""
    return images.to(torch.float32).div_(255)


def normalize(
    images: Float[Tensor, "n c h w"], mean: list[float] | tuple[float, ...], std: list[float] | tuple[float, ...]
) -> Float[Tensor, "n c h w"]:
    """Centre and scale each channel: (images - mean) / std, one figure a channel, or one for all."""
    channels = images.shape[1]
    if not {len(mean), len(std)} <= {1, channels}:
        raise ValueError(
            f"normalize: got {len(mean)} means and {len(std)} deviations for images of {channels} channels; "
            f"allowed: 1 or {channels} of each; set the data's mean and std"
        )
    centre = torch.tensor(mean, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    spread = torch.tensor(std, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    return (images - centre) / spread


def resize(images: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c height width"]:
    """Bilinear with antialiasing, as torchvision's and Pillow's: what shrinks is averaged, not skipped."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


def resize_short(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c a b"]:
    """Scale so that the short side is `size`; the long side keeps the proportion, rounded down as in torchvision."""
    height, width = images.shape[-2:]
    short = min(height, width)
    return resize(images, size * height // short, size * width // short)


def centre_crop(images: Num[Tensor, "n c h w"], size: int) -> Num[Tensor, "n c size size"]:
    """The middle square of `size` pixels; odd remainders are rounded as in torchvision (to the even half)."""
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"centre_crop: got images of {height} x {width}; allowed: sides >= {size}; resize_short first")
    top, left = round((height - size) / 2), round((width - size) / 2)
    return images[..., top : top + size, left : left + size]


def luma(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Brightness as the eye weighs the colours: 0.2989 r + 0.587 g + 0.114 b."""
    red, green, blue = LUMA
    grey = images[:, 0:1] * red
    return grey.add_(images[:, 1:2], alpha=green).add_(images[:, 2:3], alpha=blue)


def grayscale(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """The images without their colour, still of three channels."""
    return luma(images).expand_as(images)
