"""A backbone with one layer more."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Widened(nn.Module):
    """A backbone followed by a linear layer, batch norm and ReLU, whose output are the features (EMP-SSL's).

    The stages are the backbone's own.
    backbone: any. width: of the features.
    """

    def __init__(self, backbone: Any, width: int = 4096):
        super().__init__()
        self.backbone = backbone
        self.layer = nn.Sequential(nn.Linear(backbone.num_features, width), nn.BatchNorm1d(width), nn.ReLU())
        self.num_features = width
        self.stage_channels, self.stage_strides = backbone.stage_channels, backbone.stage_strides

    def fit(self, images: Float[Tensor, "n 3 h w"]) -> None:
        """Let the backbone see some images before training, where it wants to."""
        if hasattr(self.backbone, "fit"):
            self.backbone.fit(images)

    def stages(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The backbone's maps."""
        return self.backbone.stages(images)  # type: ignore[no-any-return]  # a backbone is untyped here

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.layer(self.backbone(images))  # type: ignore[no-any-return]  # the same

    def parts(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output, a list a part: the backbone's, then the layer."""
        return [*self.backbone.parts(), list(self.layer.parameters())]
