"""Any timm model as a backbone."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class TimmBackbone(nn.Module):
    """A timm model by name, without its classifier.

    name: as in `timm.list_models()`.
    pretrained: load timm's published weights (needs the network or timm's cache).
    options: further keywords of the model, such as `{img_size: 32, patch_size: 4}` of a vision transformer.
    """

    def __init__(self, name: str, pretrained: bool = False, options: dict[str, Any] | None = None):
        super().__init__()
        import timm  # takes a second, of every process that starts: only where it is used

        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8]) or "see timm.list_models()"
            raise ValueError(f"method.backbone.name={name}: timm has no such model; near: {near}")
        model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **(options or {}))
        self.model = model
        self.num_features = int(model.num_features)
        stages = model.feature_info  # one a stage of a pyramid, one a block of a transformer
        self.stage_channels = [int(stage["num_chs"]) for stage in stages]
        self.stage_strides = [int(stage["reduction"]) for stage in stages]

    def stages(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The feature maps timm calls intermediates; vision transformers give one a block."""
        return list(self.model.forward_intermediates(images, intermediates_only=True))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """timm's pooled features."""
        return self.model(images)  # type: ignore[no-any-return]  # timm models are untyped

    def parts(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output, a list a part: as timm divides the model."""
        from timm.models import group_parameters

        named = dict(self.model.named_parameters())
        grouped = group_parameters(self.model, self.model.group_matcher(coarse=False))
        return [[named[name] for name in names] for _, names in sorted(grouped.items())]
