"""A multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["batch", "layer", "none"]
LastNorm = Literal["batch", "batch_without_affine", "none"]


class MLP(nn.Module):
    """Linear layers with norm and ReLU between them; a projector, a predictor or a classifier.

    in_features: width of the input; given by the method.
    widths: of the layers, the last one the output's; null stands for `in_features`.
    norm: after each layer but the last. last_norm: after the last.
    last_bias: whether the last layer has one; where a norm follows, a bias has no effect and is left out.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int | None] = (None, 128),
        norm: Literal["batch", "layer", "none"] = "batch",
        last_norm: Literal["batch", "batch_without_affine", "none"] = "none",
        last_bias: bool = True,
    ):
        super().__init__()
        sizes = [in_features, *(in_features if width is None else width for width in widths)]
        layers: list[nn.Module] = []
        for incoming, outgoing in pairwise(sizes[:-1]):
            layers += [
                nn.Linear(incoming, outgoing, bias=norm != "batch"),
                *_norm(norm, outgoing),
                nn.ReLU(inplace=True),
            ]
        layers += [
            nn.Linear(sizes[-2], sizes[-1], bias=last_bias and last_norm == "none"),
            *_norm(last_norm, sizes[-1]),
        ]
        self.layers = nn.Sequential(*layers)
        self.num_features = sizes[-1]

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        return self.layers(features)  # type: ignore[no-any-return]  # nn.Sequential returns Any


def classifier(
    in_features: int,
    num_outputs: int,
    hidden: Sequence[int] = (),
    norm: Literal["batch", "layer", "none"] = "batch",
) -> MLP:
    """A head that answers one of `num_outputs` classes: linear, or with hidden layers of these widths before."""
    return MLP(in_features, [*hidden, num_outputs], norm=norm)


def _norm(kind: Norm | LastNorm, width: int) -> list[nn.Module]:
    match kind:
        case "batch":
            return [nn.BatchNorm1d(width)]
        case "batch_without_affine":
            return [nn.BatchNorm1d(width, affine=False)]
        case "layer":
            return [nn.LayerNorm(width)]
        case "none":
            return []
