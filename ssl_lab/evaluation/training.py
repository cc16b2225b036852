"""What protocols that train on augmented images share."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ssl_lab.draws import Draws, seed_from
from ssl_lab.evaluation.subject import LabelledImages
from ssl_lab.views import Policy, Views

Schedule = Literal["cosine", "steps"]


class Augmented:
    """Batches of cropped and flipped images with their labels, epoch after epoch, in an order that follows from a seed.

    images: a labelled set. labels: of its rows. size: side of the crops. scale: share of the image a crop takes.
    """

    def __init__(
        self,
        images: LabelledImages,
        labels: Int[Tensor, " n"],
        size: int,
        scale: Sequence[float],
        batch_size: int,
        seed: int,
    ):
        self.images, self.labels = images, labels
        self.views = Views([Policy(size=size, scale=(scale[0], scale[1]), flip=0.5)], count=1)
        self.batch_size, self.seed = min(batch_size, len(images)), seed

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def epoch(self, number: int) -> Iterator[tuple[Float[Tensor, "n 3 s s"], Int[Tensor, " n"]]]:
        """The batches of an epoch; a last partial one is left out."""
        draw = torch.Generator().manual_seed(seed_from("probe", self.seed, number))
        order = torch.randperm(len(self.images), generator=draw)
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            draws = Draws(self.seed, number * len(self) + i, total=len(rows))
            images = self.images.gather(rows).to(self.labels.device)
            yield self.views(images, draws)[0], self.labels[rows.to(self.labels.device)]


def side(encoder: Any, images: LabelledImages) -> int:
    """Of the square that an encoder sees of these images."""
    return int(getattr(encoder, "crop", None) or images.gather(torch.arange(1)).shape[-1])


def features(encoder: Any, view: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
    """Of an augmented view; encoders that are no `nn.Encoder` take bytes alone."""
    if hasattr(encoder, "normalize"):
        return encoder.backbone(encoder.normalize(view))  # type: ignore[no-any-return]  # encoders are untyped here
    as_bytes: UInt8[Tensor, "n 3 s s"] = (view * 255).round().to(torch.uint8)
    return encoder(as_bytes)  # type: ignore[no-any-return]  # the same


def factor(schedule: Schedule, progress: float) -> float:
    """On the rate: half a cosine to zero, or a tenth at 60 % and a hundredth at 80 % of the training (MoCo)."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 0.1 ** ((progress >= 0.6) + (progress >= 0.8))


def autocast(device: torch.device, precision: str) -> Any:
    """bfloat16 where the evaluation's precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def descend(
    module: nn.Module,
    groups: list[dict[str, Any]],
    batches: Augmented,
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
    momentum: float,
    weight_decay: float,
    schedule: Schedule,
) -> None:
    """SGD with Nesterov's momentum on `loss(view, labels)`; each group brings its own rate."""
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay)
    tops = [group["lr"] for group in optimizer.param_groups]
    steps = max(1, epochs * len(batches))
    for epoch in range(epochs):
        for i, (view, labels) in enumerate(batches.epoch(epoch)):
            now = factor(schedule, (epoch * len(batches) + i) / steps)
            for group, top in zip(optimizer.param_groups, tops, strict=True):
                group["lr"] = top * now
            optimizer.zero_grad(set_to_none=True)
            loss(view, labels).backward()
            optimizer.step()
    module.eval()
