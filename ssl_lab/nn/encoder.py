"""What evaluation sees: raw images in, features out."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab import pixels


class Backbone(Protocol):
    """What a backbone promises; see also `stages`, `stage_channels`, `stage_strides`, `parts` and, if any, `fit`."""

    num_features: int

    def __call__(self, images: Tensor) -> Tensor: ...


class Encoder(nn.Module):
    """Resize, crop, normalisation and backbone together: `(n, 3, h, w)` uint8 in, `(n, d)` features out.

    backbone: gives the features and their number.
    mean, std: of the training images, each channel, in [0, 1].
    resize: short side in pixels before the crop; null keeps the size. crop: side of the centre crop; null keeps all.
    color: "rgb", or "lightness" alone, in all three channels, for backbones that learned to tell the colours.
    """

    def __init__(
        self,
        backbone: nn.Module,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        resize: int | None = None,
        crop: int | None = None,
        color: Literal["rgb", "lightness"] = "rgb",
    ):
        super().__init__()
        self.backbone = backbone
        self.mean, self.std = tuple(mean), tuple(std)
        self.resize, self.crop, self.color = resize, crop, color

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return int(self.backbone.num_features)  # type: ignore[arg-type]  # a Backbone has it

    @property
    def preprocessing(self) -> dict[str, Any]:
        """All there is to know to build this encoder again around the same backbone."""
        units = {"mean": list(self.mean), "std": list(self.std)}
        return units | {"resize": self.resize, "crop": self.crop, "color": self.color}

    def normalize(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Images in [0, 1] to the backbone's units, in the precision of its weights."""
        images = images.to(next(self.backbone.parameters(), images).dtype)
        if self.color == "rgb":
            return pixels.normalize(images, self.mean, self.std)
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)  # one, so that no channel differs
        return pixels.normalize(pixels.lightness(images) / 100, [mean], [std]).expand_as(images)

    def prepare(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 s s2"]:
        """Raw images to what the backbone sees in evaluation."""
        floats = pixels.to_float(images)
        if self.resize is not None:
            floats = pixels.resize_short(floats, self.resize)
        if self.crop is not None:
            floats = pixels.centre_crop(floats, self.crop)
        return self.normalize(floats)

    def stages(self, images: UInt8[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The maps of the backbone's stages."""
        return self.backbone.stages(self.prepare(images))  # type: ignore[operator, no-any-return]  # a Backbone has it

    def fit(self, images: UInt8[Tensor, "n 3 h w"]) -> None:
        """Let a backbone that starts from data see some unlabelled images before training; others need none."""
        if hasattr(self.backbone, "fit"):
            self.backbone.fit(self.prepare(images))  # type: ignore[operator]  # attributes of a Module are untyped

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.backbone(self.prepare(images))  # type: ignore[no-any-return]
