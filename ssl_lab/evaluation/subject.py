"""What a protocol evaluates: an encoder, and the sets it is measured on."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Made = TypeVar("Made")
NO_LABELS = (
    "this protocol needs labels, and the data has none: give class folders, or choose protocols that need none: "
    "protocol=[health,gallery,duplicates]; images with masks take protocol=segment"
)


class NotApplicable(ValueError):  # noqa: N818  # for a baseline no error
    """A protocol asks an encoder for what it does not have; a baseline then goes without the figure."""


@runtime_checkable
class LabelledImages(Protocol):
    """A set of images as the evaluation reads it; `data.ImageSet` is one."""

    @property
    def labels(self) -> Tensor | None: ...

    def __len__(self) -> int: ...

    def gather(self, index: Tensor) -> Tensor: ...

    def subset(self, index: Tensor) -> "LabelledImages": ...


@runtime_checkable
class MaskedImages(LabelledImages, Protocol):
    """A set that also knows the class of each pixel."""

    def gather_masks(self, index: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Few:
    """The rows of a set whose labels may be used. The guard of all that counts labels: asking for another row raises.

    rows: of the set, ascending.
    """

    images: LabelledImages
    rows: Tensor

    def subset(self, rows: Tensor) -> LabelledImages:
        """These images, with their labels. Raises RuntimeError for one outside."""
        self._check(rows)
        return self.images.subset(rows)

    def labels(self, rows: Tensor) -> Tensor:
        """Of these images, where they are. Raises RuntimeError for one outside."""
        self._check(rows)
        if self.images.labels is None:
            raise ValueError(NO_LABELS)
        return self.images.labels.to(rows.device)[rows]

    def _check(self, rows: Tensor) -> None:
        outside = rows[~torch.isin(rows, self.rows.to(rows.device))]
        if len(outside):
            raise RuntimeError(f"a protocol asks for image {int(outside[0])}, whose label its subset does not hold")


@dataclass(frozen=True)
class Sets:
    """The roles of the images in an evaluation. Nobody chooses anything on `test`.

    train: all that is neither validation nor test; the bank of neighbours. fit: what probes with settings are fitted
    on: train, or the rest of it where `select` is a part of it. select: where settings are chosen. test: what is
    reported. classes: names, in the order of the labels. parts: the rows of train that fit and select hold, where both
    are parts of it; their features are then rows of its own.
    """

    train: LabelledImages
    fit: LabelledImages
    select: LabelledImages
    test: LabelledImages
    classes: list[str]
    parts: tuple[Tensor, Tensor] | None = None

    def rows_of(self, images: LabelledImages) -> Tensor | None:
        """The rows of train that fit or select holds; None for any other set."""
        if self.parts is None:
            return None
        fit, select = self.parts
        return fit if images is self.fit else select if images is self.select else None


@dataclass
class Subject:
    """An encoder with its features and what is fitted on them, made once however many protocols ask.

    precision: "32-true" or "bf16-mixed", of the passes through the backbone.
    """

    encoder: nn.Module
    sets: Sets
    device: torch.device
    precision: str = "32-true"
    batch_size: int = 512
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives, made when it is first asked for by this key."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def of(self, encoder: nn.Module) -> "Subject":
        """Another encoder on the same sets."""
        return replace(self, encoder=encoder, _made={})

    def features(self, images: LabelledImages) -> Float[Tensor, "n d"]:
        """Features of a set, in float32 on the device."""
        rows = self.sets.rows_of(images)
        if rows is None:
            return self.once(("features", id(images)), lambda: self.extract(images))
        return self.once(("features", id(images)), lambda: self.features(self.sets.train)[rows.to(self.device)])

    def extract(self, images: LabelledImages) -> Float[Tensor, "n d"]:
        """The same, made anew and not kept. Raises ValueError for what is not finite."""
        features = extract(self.encoder, images, self.device, self.precision, self.batch_size)
        damaged = int((~features.isfinite()).any(1).sum())
        if damaged:
            raise ValueError(
                f"the features of {damaged} of {len(images)} images are not finite: the weights are damaged or have "
                "diverged; give weights from before, or train again with a lower method.optim.lr"
            )
        return features

    def labels(self, images: LabelledImages) -> Tensor:
        """Labels of a set on the device; ValueError when it has none."""
        if images.labels is None:
            raise ValueError(NO_LABELS)
        return images.labels.to(self.device)


@torch.inference_mode()
def extract(
    encoder: nn.Module,
    images: LabelledImages,
    device: torch.device,
    precision: str = "32-true",
    batch_size: int = 512,
) -> Float[Tensor, "n d"]:
    """Features of a whole set in evaluation mode, in float32 on the device; every module's mode is left as it was."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    parts = []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        for rows in torch.arange(len(images)).split(batch_size):
            parts.append(encoder(images.gather(rows).to(device)).float())
    for module, mode in modes:
        module.training = mode
    return torch.cat(parts)
