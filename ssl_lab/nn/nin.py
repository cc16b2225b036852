"""RotNet's network for CIFAR."""

from jaxtyping import Float
from torch import Tensor, nn


class NetworkInNetwork(nn.Module):
    """Blocks of a convolution and two 1x1 convolutions (Lin et al. 2014, arXiv 1312.4400), as in RotNet's paper.

    Gidaris et al. 2018 (arXiv 1803.07728); made for images of 32 pixels.
    Every convolution has batch norm and ReLU behind it. The first two blocks begin with 5x5 and end in a 3x3 pool of
    stride 2, a maximum and a mean; the others begin with 3x3. The features are the average of the last map over space.

    blocks: how many; 3 to 5 in the paper. width: of all layers but the second and third, which have 5/6 and 1/2 of it.
    """

    def __init__(self, blocks: int = 4, width: int = 192):
        super().__init__()
        if blocks < 2:
            raise ValueError(f"method.backbone.blocks={blocks}: the first two blocks are there always; set 2 or more")
        first = [width, width * 5 // 6, width // 2]
        self.blocks = nn.ModuleList([_block(3, first, 5, nn.MaxPool2d(3, 2, 1))])
        for i in range(1, blocks):
            pool = nn.AvgPool2d(3, 2, 1) if i == 1 else None
            self.blocks.append(_block(first[-1] if i == 1 else width, [width] * 3, 5 if i == 1 else 3, pool))
        self.stage_channels = [first[-1], *[width] * (blocks - 1)]
        self.stage_strides = [2, *[4] * (blocks - 1)]
        self.num_features = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The map after each block, its pool included; `stage_channels` and `stage_strides` describe them."""
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return maps

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Average of the last map over space."""
        return self.stages(images)[-1].mean((2, 3))

    def parts(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output, a list a part: each block."""
        return [list(block.parameters()) for block in self.blocks]


def _block(incoming: int, widths: list[int], kernel: int, pool: nn.Module | None) -> nn.Module:
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        side = kernel if i == 0 else 1
        layers += [nn.Conv2d(incoming, width, side, padding=side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        incoming = width
    return nn.Sequential(*layers, *([] if pool is None else [pool]))
