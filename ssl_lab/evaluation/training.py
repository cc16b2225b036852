"""What protocols that train on augmented images share."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ssl_lab.draws import Draws, seed_from
from ssl_lab.evaluation.settings import require, require_rates
from ssl_lab.evaluation.subject import LabelledImages
from ssl_lab.views import Geometry, Policy, Views

Schedule = Literal["cosine", "steps"]
Targets = Callable[[Int[Tensor, " n"], Geometry], Tensor]  # of these rows of a set, cropped as their images were


class Recipe(NamedTuple):
    """SGD on crops and flips; `scale` is the share of the image that a crop takes."""

    epochs: int
    batch_size: int
    momentum: float
    weight_decay: float
    schedule: Schedule
    scale: tuple[float, ...]
    seed: int
    nesterov: bool = True

    def check(self, draws: int = 1) -> None:
        """Raises SettingError for what trains nothing; draws: so many subsets of the labels it is given."""
        for name, value in {"epochs": self.epochs, "batch_size": self.batch_size, "draws": draws}.items():
            require(value >= 1, name, value, "1 or more", 1)
        fine = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1
        require(fine, "scale", list(self.scale), "two shares above 0 to 1, the smaller first", "[0.3,1.0]")


class Tuned(NamedTuple):
    """What the best of several rates has made."""

    network: Any
    rate: float
    score: float  # where the rate was chosen


class Augmented:
    """Batches of cropped and flipped images with their targets, epoch after epoch, in an order that the seed makes.

    size: side of the crops.
    """

    def __init__(self, images: LabelledImages, targets: Targets, size: int, recipe: Recipe, device: torch.device):
        self.images, self.targets, self.device = images, targets, device
        self.views = Views([Policy(size=size, scale=(recipe.scale[0], recipe.scale[1]), flip=0.5)], count=1)
        self.batch_size, self.seed = min(recipe.batch_size, len(images)), recipe.seed

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def epoch(self, number: int) -> Iterator[tuple[Float[Tensor, "n 3 s s"], Tensor]]:
        """The batches of an epoch; a last partial one is left out."""
        draw = torch.Generator().manual_seed(seed_from("probe", self.seed, number))
        order = torch.randperm(len(self.images), generator=draw)
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            draws = Draws(self.seed, number * len(self) + i, total=len(rows))
            views, crops = self.views.with_geometry(self.images.gather(rows).to(self.device), draws)
            yield views[0], self.targets(rows, crops[0]).to(self.device)


def classes(labels: Int[Tensor, " n"]) -> Targets:
    """The label of each image, wherever it was cropped."""
    return lambda rows, _: labels[rows.to(labels.device)]


def tuned(rates: Sequence[float], train: Callable[[float], Any], judge: Callable[[Any], float]) -> Tuned:
    """The best, by `judge`, of what `train` makes of each rate. Raises SettingError when there is none."""
    require_rates(rates)
    made = (Tuned(network := train(rate), rate, judge(network)) for rate in rates)
    return max(made, key=lambda one: one.score)


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
    recipe: Recipe,
) -> None:
    """SGD on `loss(view, targets)`; each group brings its own rate."""
    momentum = recipe.momentum
    optimizer = torch.optim.SGD(
        groups,
        lr=0.0,
        momentum=momentum,
        nesterov=recipe.nesterov and momentum > 0,
        weight_decay=recipe.weight_decay,
    )
    tops = [group["lr"] for group in optimizer.param_groups]
    steps = max(1, recipe.epochs * len(batches))
    for epoch in range(recipe.epochs):
        for i, (view, targets) in enumerate(batches.epoch(epoch)):
            now = factor(recipe.schedule, (epoch * len(batches) + i) / steps)
            for group, top in zip(optimizer.param_groups, tops, strict=True):
                group["lr"] = top * now
            optimizer.zero_grad(set_to_none=True)
            loss(view, targets).backward()
            optimizer.step()
    module.eval()


def groups(backbone: Any, head: nn.Module, rate: float, head_rate: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameters with their rates: the head at `rate` x `head_rate`, then the backbone's parts from the last to the
    first, each at `layer_decay` times the rate of the one above; the last one's is `rate`."""
    parts = backbone.parts() if hasattr(backbone, "parts") else [list(backbone.parameters())]
    found = [{"params": list(head.parameters()), "lr": rate * head_rate}]
    for depth, part in enumerate(reversed(parts)):
        if trainable := [p for p in part if p.requires_grad]:
            found.append({"params": trainable, "lr": rate * layer_decay**depth})
    return found
