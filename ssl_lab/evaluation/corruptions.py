"""Common corruptions of images, in five severities."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from ssl_lab.pixels import luma, resize, to_float

Images = Float[Tensor, "n 3 h w"]
Corruption = Callable[[Images, float, torch.Generator], Images]


def gaussian_noise(images: Images, sigma: float, draw: torch.Generator) -> Images:
    return images + sigma * torch.randn(images.shape, generator=draw)


def shot_noise(images: Images, photons: float, draw: torch.Generator) -> Images:
    return torch.poisson(images * photons, generator=draw) / photons


def impulse_noise(images: Images, share: float, draw: torch.Generator) -> Images:
    hit, white = (torch.rand(images.shape, generator=draw) for _ in range(2))
    return torch.where(hit < share, (white < 0.5).to(images), images)


def blur(images: Images, sigma: float, _: torch.Generator) -> Images:
    blurred: Tensor = gaussian_blur(images, [2 * round(4 * sigma) + 1] * 2, [sigma] * 2)
    return blurred


def brightness(images: Images, more: float, _: torch.Generator) -> Images:
    """The value of HSV, the largest channel, grows; the others keep their proportion, and black becomes gray."""
    value = images.amax(1, keepdim=True)
    brighter = (value + more).clamp_max(1)
    return torch.where(value > 0, images * (brighter / value.clamp_min(1e-6)), brighter)


def contrast(images: Images, factor: float, _: torch.Generator) -> Images:
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def saturation(images: Images, factor: float, _: torch.Generator) -> Images:
    gray = luma(images)
    return gray + factor * (images - gray)


def pixelate(images: Images, scale: float, _: torch.Generator) -> Images:
    height, width = images.shape[-2:]
    return F.interpolate(resize(images, int(height * scale), int(width * scale)), (height, width), mode="nearest")


def jpeg(images: Images, quality: float, _: torch.Generator) -> Images:
    decoded = []
    for picture in (images.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).numpy():
        coded = BytesIO()
        Image.fromarray(picture).save(coded, "jpeg", quality=int(quality))
        decoded.append(torch.from_numpy(np.array(Image.open(coded))).movedim(-1, 0))
    return to_float(torch.stack(decoded))


# What each of the five severities sets, for small images. The noises, blur, brightness, contrast, pixelate and jpeg are
# those of CIFAR-10-C (Hendrycks and Dietterich 2019, arXiv 1903.12261); saturation is ours. The code is our own, so
# figures do not compare with those on the published set.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "blur": (blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturation": (saturation, (0.6, 0.4, 1.5, 0.2, 2.5)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": (jpeg, (80, 65, 58, 50, 40)),
}


def corrupt(images: UInt8[Tensor, "n 3 h w"], name: str, severity: int, seed: int) -> UInt8[Tensor, "n 3 h w"]:
    """Images under a corruption of severity 1 to 5; the noise follows from the seed."""
    function, levels = CORRUPTIONS[name]
    draw = torch.Generator().manual_seed(seed)
    changed = function(to_float(images), levels[severity - 1], draw)
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8)
