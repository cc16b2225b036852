"""Pixels as networks want them, the same for views, tasks and Encoder: pure functions of a batch on any device."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num, UInt8
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, the digits torchvision uses

# CIE 1931, 2 degrees, D65: linear sRGB to XYZ, and the XYZ of white. The digits scikit-image uses.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)


def to_float(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Stored bytes as numbers in [0, 1], of the default type: of 64 bits under `trainer.precision=64-true`."""
    return images.to(torch.get_default_dtype()).div_(255)


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
    return (images - centre).div_(spread)


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


def lab(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """CIE L*a*b* of sRGB images: lightness in [0, 100], then green to red and blue to yellow in some [-110, 110]."""
    return torch.cat([lightness(images), chroma(images)], 1)


def lightness(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """L* of sRGB images, in [0, 100]."""
    return 116 * _root(_relative(_linear(images), 1)) - 16


def chroma(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2 h w"]:
    """a* and b* of sRGB images."""
    linear = _linear(images)
    x, y, z = (_root(_relative(linear, i)) for i in range(3))
    return torch.cat([500 * (x - y), 200 * (y - z)], 1)


def rgb(lab_images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """sRGB of CIE L*a*b* images, cut to [0, 1] where a screen cannot show the colour."""
    light, a, b = lab_images.split(1, 1)
    y = (light + 16) / 116
    roots = torch.cat([y + a / 500, y, (y - b / 200).clamp_(min=0)], 1)
    xyz = torch.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 3 * (6 / 29) ** 2)
    xyz = xyz * xyz.new_tensor(_WHITE).view(3, 1, 1)
    inverse = torch.linalg.inv(xyz.new_tensor(_XYZ).double()).to(xyz)
    linear = torch.einsum("ij,njhw->nihw", inverse, xyz).clamp_(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def _linear(images: Tensor) -> Tensor:
    return torch.where(images > 0.04045, ((images + 0.055) / 1.055) ** 2.4, images / 12.92)


def _relative(linear: Tensor, i: int) -> Tensor:
    """X, Y or Z over that of white."""
    row = linear.new_tensor(_XYZ[i]).view(3, 1, 1)
    return (linear * row).sum(1, keepdim=True) / _WHITE[i]


def _root(t: Tensor) -> Tensor:
    return torch.where(t > (6 / 29) ** 3, t ** (1 / 3), t / (3 * (6 / 29) ** 2) + 4 / 29)
