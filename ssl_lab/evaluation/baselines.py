"""What any encoder has to beat: features without learning, under the same protocols."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab import pixels


class RawPixels(nn.Module):
    """The image itself, flattened."""

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return pixels.to_float(images).flatten(1)


class ColorStatistics(nn.Module):
    """Mean and standard deviation of each colour channel: six numbers."""

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 6"]:
        flat = pixels.to_float(images).flatten(2)
        return torch.cat([flat.mean(2), flat.std(2)], 1)
