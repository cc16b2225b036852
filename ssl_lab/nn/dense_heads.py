"""Heads that answer at every pixel."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Upsampler(nn.Module):
    """From the last stage alone: doubled and convolved until a pixel of the map is one of the answer.

    All that an answer needs has to pass the backbone's last map, which is what is kept. The context encoder's layer
    that joins all places of a channel is left out: a map of small images has few.

    stage_channels, stage_strides: of the backbone; stride: of the answers. All given by the method.
    width: channels after the first convolution; they halve with each doubling, down to 32.
    """

    def __init__(
        self,
        stage_channels: Sequence[int],
        stage_strides: Sequence[int],
        num_outputs: int,
        stride: int,
        width: int = 128,
    ):
        super().__init__()
        doublings = max(0, round(math.log2(stage_strides[-1] / stride)))
        widths = [max(min(32, width), width >> i) for i in range(doublings + 1)]
        incoming = [stage_channels[-1], *widths]
        self.layers = nn.ModuleList(_convolution(i, o) for i, o in zip(incoming, widths, strict=False))
        self.out = nn.Conv2d(widths[-1], num_outputs, 1)

    def forward(self, maps: list[Tensor], height: int, width: int) -> Float[Tensor, "n o height width"]:
        x = self.layers[0](maps[-1])
        for layer in list(self.layers)[1:]:
            x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.out(_resized(x, height, width))  # type: ignore[no-any-return]  # modules return Any


class Hypercolumn(nn.Module):
    """From all stages, resized and put side by side (Larsson et al. 2016, arXiv 1603.06668), then two 1x1 convolutions.

    stage_channels, stage_strides: of the backbone; stride: of the answers. All given by the method.
    width: channels between the convolutions.
    """

    def __init__(
        self,
        stage_channels: Sequence[int],
        stage_strides: Sequence[int],
        num_outputs: int,
        stride: int,
        width: int = 128,
    ):
        super().__init__()
        self.layers = nn.Sequential(_convolution(sum(stage_channels), width, 1), nn.Conv2d(width, num_outputs, 1))

    def forward(self, maps: list[Tensor], height: int, width: int) -> Float[Tensor, "n o height width"]:
        columns = torch.cat([_resized(x, height, width) for x in maps], 1)
        return self.layers(columns)  # type: ignore[no-any-return]  # nn.Sequential returns Any


class LinearStages(nn.Module):
    """A linear classifier of every pixel: each stage's maps normalised, weighed by a 1x1 convolution, resized, summed.

    The same as one convolution of all maps resized and side by side, without holding them.
    stage_channels, stage_strides: of the backbone; stride: of the answers. All given by the caller.
    """

    def __init__(self, stage_channels: Sequence[int], stage_strides: Sequence[int], num_outputs: int, stride: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, num_outputs, 1))
            for channels in stage_channels
        )

    def forward(self, maps: list[Tensor], height: int, width: int) -> Float[Tensor, "n o height width"]:
        parts = [_resized(layer(x), height, width) for layer, x in zip(self.layers, maps, strict=True)]
        return torch.stack(parts).sum(0)


def _convolution(incoming: int, outgoing: int, kernel: int = 3) -> nn.Module:
    convolution = nn.Conv2d(incoming, outgoing, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outgoing), nn.ReLU(inplace=True))


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
