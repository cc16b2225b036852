"""What the parts hand to each other: plain named tuples without behaviour.

Axes, everywhere: `n` rows of a batch, `k` inputs an image, `d` width, `c h w` channels, height, width.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What a loader yields. A method sees `inputs` only; `targets` travel beside them to the callbacks."""

    inputs: Tensor | dict[str, Tensor]  # images (n, c, h, w) uint8
    targets: dict[str, Tensor]  # empty when the data has no labels
    index: Tensor  # type: ignore[assignment]  # (n,) row of each input in its set; the field hides tuple.index


class Step(NamedTuple):
    """What a method makes of one batch."""

    loss: Tensor  # scalar, of the whole batch
    features: Tensor  # (n, d) of the backbone, one row for each source row, detached
    logs: dict[str, Tensor]  # scalars to log beside the loss


class TaskBatch(NamedTuple):
    """What a pretext task makes of images: inputs, what to predict, and which image each row came from."""

    inputs: Tensor  # (m, k, c, h, w) float
    targets: Tensor  # (m,) classes, or dense (m, c, h, w)
    source: Tensor  # (m,) row of the image in the batch
    weights: Tensor | None = None  # (m, 1, h, w) how much each pixel of dense targets counts, mean 1; none: all alike


class Result(NamedTuple):
    """What a protocol measured, with every setting that made it."""

    figures: dict[str, Any]
    settings: dict[str, Any]
    shown: tuple[str, ...] = ("top1",)  # the figures that stand for it in a table, each from 0 to 1
    pictures: Mapping[str, Tensor] = MappingProxyType({})  # (3, y, x) uint8, to be kept beside the figures
