"""ResNets out of torchvision's blocks, with a stem for small images and a width."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

Block = type[BasicBlock] | type[Bottleneck]

_LAYOUTS: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """ResNet (He et al. 2015, arXiv 1512.03385) without its classifier.

    Parameter names are torchvision's, so its weights load as they are.

    depth: 18, 34, 50, 101 or 152.
    stem: "imagenet" (7x7 stride 2, max-pool) or "small" (3x3 stride 1, no max-pool; SimCLR appendix B.9).
    width: factor on every layer's channels.
    stem_padding: black pixels around the image; null keeps its size in the small stem. solo-learn has 2 there.
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50, 101, 152] = 18,
        stem: Literal["imagenet", "small"] = "small",
        width: float = 1.0,
        stem_padding: int | None = None,
    ):
        super().__init__()
        block, counts = _LAYOUTS[depth]
        channels = [round(64 * 2**i * width) for i in range(4)]
        if min(channels) < 1:
            raise ValueError(f"backbone.width={width} leaves no channel; set at least {1 / 64}")
        small = stem == "small"
        kernel, stride = (3, 1) if small else (7, 2)
        padding = kernel // 2 if stem_padding is None else stem_padding
        self.conv1 = nn.Conv2d(3, channels[0], kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        incoming = channels[0]
        for i, (planes, count) in enumerate(zip(channels, counts, strict=True)):
            self.add_module(f"layer{i + 1}", _stage(block, incoming, planes, count, stride=1 if i == 0 else 2))
            incoming = planes * block.expansion
        self.stage_channels = [planes * block.expansion for planes in channels]
        self.stage_strides = [(1 if small else 4) * 2**i for i in range(4)]
        self.num_features = incoming
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The feature map after each of the four stages; `stage_channels` and `stage_strides` describe them."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
            maps.append(x)
        return maps

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Average of the last map over space."""
        return self.stages(images)[-1].mean((2, 3))

    def parts(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output, a list a part: the stem, then each stage."""
        stem = [*self.conv1.parameters(), *self.bn1.parameters()]
        return [stem, *(list(self.get_submodule(f"layer{i}").parameters()) for i in range(1, 5))]


def _stage(
    block: type[BasicBlock] | type[Bottleneck], incoming: int, planes: int, count: int, stride: int
) -> nn.Module:
    outgoing = planes * block.expansion
    shortcut = None
    if stride != 1 or incoming != outgoing:
        shortcut = nn.Sequential(nn.Conv2d(incoming, outgoing, 1, stride, bias=False), nn.BatchNorm2d(outgoing))
    first = block(incoming, planes, stride, shortcut)
    return nn.Sequential(first, *(block(outgoing, planes) for _ in range(count - 1)))
