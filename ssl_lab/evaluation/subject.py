"""What a protocol evaluates: an encoder, and the sets it is measured on."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
class Sets:
    """The roles of the images in an evaluation. Nobody chooses anything on `test`.

    train: all that is neither validation nor test; the bank of neighbours. fit: what probes with settings are fitted
    on: train, or the rest of it where `select` is a part of it. select: where settings are chosen. test: what is
    reported. classes: names, in the order of the labels.
    """

    train: LabelledImages
    fit: LabelledImages
    select: LabelledImages
    test: LabelledImages
    classes: list[str]


@dataclass
class Subject:
    """An encoder with the features it gives, made once however many protocols read them.

    precision: "32-true" or "bf16-mixed", of the passes through the backbone.
    """

    encoder: nn.Module
    sets: Sets
    device: torch.device
    precision: str = "32-true"
    batch_size: int = 512
    _features: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def features(self, images: LabelledImages) -> Float[Tensor, "n d"]:
        """Features of a set, in float32 on the device."""
        if id(images) not in self._features:
            self._features[id(images)] = self.extract(images)
        return self._features[id(images)]

    def extract(self, images: LabelledImages) -> Float[Tensor, "n d"]:
        """The same, made anew and not kept."""
        return extract(self.encoder, images, self.device, self.precision, self.batch_size)

    def labels(self, images: LabelledImages) -> Tensor:
        """Labels of a set on the device; ValueError when it has none."""
        if images.labels is None:
            raise ValueError("this protocol needs labels, and the data has none: give class folders, or no protocol")
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
