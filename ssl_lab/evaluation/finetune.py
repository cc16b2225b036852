"""All weights trained on labels, from what an encoder has learned; from random weights, this is supervised learning."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.few_label import subset
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.subject import LabelledImages, NotApplicable, Subject, extract
from ssl_lab.evaluation.training import (
    Augmented,
    Recipe,
    Schedule,
    autocast,
    classes,
    descend,
    features,
    groups,
    side,
    tuned,
)
from ssl_lab.types import Result


class Classifier(nn.Module):
    """An encoder and a linear layer; takes what the encoder takes."""

    def __init__(self, encoder: Any, num_classes: int):
        super().__init__()
        self.encoder = deepcopy(encoder)
        self.head = nn.Linear(encoder.num_features, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images).float())  # type: ignore[no-any-return]  # modules return Any


def finetune(
    subject: Subject,
    rates: Sequence[float] = (0.003, 0.03, 0.3),
    epochs: int = 30,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    head_rate: float = 10.0,
    layer_decay: float = 1.0,
    schedule: Schedule = "cosine",
    scale: Sequence[float] = (0.3, 1.0),
    amount: float | None = None,
    draw: int = 0,
    min_steps: int = 0,
    seed: int = 0,
) -> Result:
    """SGD on random crops and flips through the whole network; tested on clean images, after the last epoch.

    rates: of the backbone; each trains a copy, and the one that does best on held-out labels is reported. head_rate:
    factor on the rate for the new layer. layer_decay: factor on the rate from each part of the backbone to the one
    below. amount: of the labels: null for all, below 1 a share, from 1 on a number a class (as the subsets of
    `few_label`, number `draw`); the rate is then chosen on a fifth of the subset. min_steps: updates below which there
    are more epochs instead, since few labels make short ones. NotApplicable without weights.
    """
    sets, num_classes, encoder = subject.sets, len(subject.sets.classes), subject.encoder
    if not hasattr(encoder, "backbone"):
        raise NotApplicable(f"protocol=finetune: {type(encoder).__name__} has no weights")
    fit, held, chosen_on = divide(subject, amount, draw, seed)
    epochs = max(epochs, math.ceil(min_steps / max(1, len(fit) // batch_size)))
    recipe = Recipe(epochs, batch_size, momentum, weight_decay, schedule, tuple(scale), seed)

    def train(rate: float) -> Classifier:
        return trained(subject, fit, recipe, (rate, head_rate, layer_decay))

    def judge(network: Classifier) -> float:
        return float((predicted(network, held) == subject.labels(held)).float().mean())

    def predicted(network: Classifier, images: LabelledImages) -> Int[Tensor, " n"]:
        return extract(network, images, subject.device, subject.precision, subject.batch_size).argmax(1)

    best = tuned("finetune", rates, train, judge)
    figures = scores(predicted(best.network, sets.test), subject.labels(sets.test), num_classes)
    figures |= {"rate": best.rate, "select_top1": best.score}
    settings = {"rates": list(rates), **recipe._asdict(), "head_rate": head_rate, "layer_decay": layer_decay}
    settings |= {"amount": amount, "draw": draw, "fitted_on": len(fit)}
    return Result("finetune", figures, settings | {"chosen_on": len(held), "held_out": chosen_on})


def trained(subject: Subject, images: LabelledImages, recipe: Recipe, rates: tuple[float, float, float]) -> Classifier:
    """A copy of the encoder with a layer on top, trained; rates: as of `groups`."""
    torch.manual_seed(recipe.seed)
    network = Classifier(subject.encoder, len(subject.sets.classes)).to(subject.device).train()
    targets, size = classes(subject.labels(images)), side(subject.encoder, images)

    def loss(view: Tensor, labels: Tensor) -> Tensor:
        with autocast(subject.device, subject.precision):
            x = features(network.encoder, view)
        return cross_entropy(network.head(x.float()), labels)

    batches = Augmented(images, targets, size, recipe, subject.device)
    descend(network, groups(network.encoder.backbone, network.head, *rates), batches, loss, recipe)
    return network


def divide(subject: Subject, amount: float | None, draw: int, seed: int) -> tuple[LabelledImages, LabelledImages, str]:
    """What is fitted on, what the rate is chosen on, and what that is."""
    sets = subject.sets
    if amount is None:
        return sets.fit, sets.select, "validation"
    labels = subject.labels(sets.train).cpu()
    rows = subset(labels, len(sets.classes), amount, draw)
    inside = subset(labels[rows], len(sets.classes), 0.2, seed)
    several = torch.bincount(labels[rows], minlength=len(sets.classes)) > 1
    inside = inside[several[labels[rows][inside]]]  # the only label of a class is there to learn from
    if not len(inside):  # one label a class: it has to serve twice, and that is said
        return sets.train.subset(rows), sets.train.subset(rows), "the subset itself"
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[inside] = False
    return sets.train.subset(rows[kept]), sets.train.subset(rows[inside]), "a fifth of the subset"
