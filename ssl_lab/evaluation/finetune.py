"""All weights trained on labels, from what an encoder has learned; from random weights, this is supervised learning."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.few_label import over_draws, stratified, subset
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.subject import Few, LabelledImages, NotApplicable, Subject, extract
from ssl_lab.evaluation.training import (
    Augmented,
    Recipe,
    Schedule,
    Tuned,
    autocast,
    classes,
    descend,
    features,
    groups,
    no_rates,
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
    draws: int = 1,
    folds: int = 1,
    min_steps: int = 0,
    seed: int = 0,
) -> Result:
    """SGD on random crops and flips through the whole network; tested on clean images, after the last epoch.

    rates: of the backbone; each trains a copy, and the one that does best on held-out labels is reported. head_rate:
    factor on the rate for the new layer. layer_decay: factor on the rate from each part of the backbone to the one
    below. amount: of the labels: null for all, below 1 a share, from 1 on a number a class (as the subsets of
    `few_label`, from number `draw` on `draws` of them; figures are then means over these, with their deviation); the
    rate is chosen on a fifth of the subset. folds: of each subset, where more than one: the rate is then chosen by
    cross-validation inside it, and its network learns from all of it. min_steps: updates below which there are more
    epochs instead, since few labels make short ones. NotApplicable without weights.
    """
    sets, num_classes, encoder = subject.sets, len(subject.sets.classes), subject.encoder
    if not hasattr(encoder, "backbone"):
        raise NotApplicable(f"protocol=finetune: {type(encoder).__name__} has no weights")
    labels = subject.labels(sets.test)
    recipe = Recipe(epochs, batch_size, momentum, weight_decay, schedule, tuple(scale), seed)
    found = []
    for number in range(draw, draw + (draws if amount is not None else 1)):
        fit, held, chosen_on = divide(subject, amount, number, seed)
        recipe = recipe._replace(epochs=max(epochs, math.ceil(min_steps / max(1, len(fit) // batch_size))))
        if amount is not None and folds > 1 and (parts := Parts.of(subject, amount, number, folds)):
            fit = held = parts.few.subset(parts.few.rows)
            chosen_on = f"cross-validation in {parts.folds} folds"
            best = parts.tuned(subject, rates, recipe, (head_rate, layer_decay))
        else:
            best = tuned_on(subject, fit, held, rates, recipe, (head_rate, layer_decay))
        found.append(scores(predicted(best.network, sets.test, subject), labels, num_classes))
        found[-1] |= {"rate": best.rate, "select_top1": best.score}
    settings = {"rates": list(rates), **recipe._asdict(), "head_rate": head_rate, "layer_decay": layer_decay}
    settings |= {"amount": amount, "draw": draw, "fitted_on": len(fit), "chosen_on": len(held), "held_out": chosen_on}
    if len(found) == 1:
        return Result("finetune", found[0], settings)
    figures = over_draws(found)
    figures |= {"top1, std": figures.pop("std"), "rates": [one["rate"] for one in found]}
    return Result("finetune", figures, settings | {"draws": draws})


def tuned_on(
    subject: Subject,
    fit: LabelledImages,
    held: LabelledImages,
    rates: Sequence[float],
    recipe: Recipe,
    factors: tuple[float, float],
) -> Tuned:
    """The network of the rate that does best on `held`; factors: on the rate, of the head and from part to part."""
    labels = subject.labels(held)
    return tuned(
        "finetune",
        rates,
        lambda rate: trained(subject, fit, recipe, (rate, *factors)),
        lambda network: float((predicted(network, held, subject) == labels).float().mean()),
    )


class Parts(NamedTuple):
    """A subset of the labels in folds."""

    few: Few
    fold: Int[Tensor, " m"]  # of each of its rows

    @classmethod
    def of(cls, subject: Subject, amount: float, draw: int, folds: int) -> "Parts | None":
        """The subset number `draw`; None where a class has a single label, which cannot be divided."""
        train, count = subject.sets.train, len(subject.sets.classes)
        few = Few(train, subset(subject.labels(train).cpu(), count, amount, draw))
        fold = stratified(few.labels(few.rows), count, folds)
        return None if fold is None else cls(few, fold)

    @property
    def folds(self) -> int:
        """How many there are."""
        return int(self.fold.max()) + 1

    def tuned(self, subject: Subject, rates: Sequence[float], recipe: Recipe, factors: tuple[float, float]) -> Tuned:
        """What the rate that does best over the folds makes of the whole subset; factors: as of `tuned_on`."""

        def score(rate: float) -> float:
            right = 0
            for number in range(self.folds):
                inside = self.fold != number
                kept, held = (self.few.subset(self.few.rows[part]) for part in (inside, ~inside))
                network = trained(subject, kept, recipe, (rate, *factors))
                right += int((predicted(network, held, subject) == subject.labels(held)).sum())
            return right / len(self.fold)

        if not rates:
            raise no_rates("finetune")
        found = {rate: score(rate) for rate in rates}
        best = max(found, key=lambda rate: found[rate])
        return Tuned(trained(subject, self.few.subset(self.few.rows), recipe, (best, *factors)), best, found[best])


def predicted(network: Classifier, images: LabelledImages, subject: Subject) -> Int[Tensor, " n"]:
    """The class of the largest logit, of a whole set."""
    return extract(network, images, subject.device, subject.precision, subject.batch_size).argmax(1)


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
    few = Few(sets.train, rows)
    inside = subset(labels[rows], len(sets.classes), 0.2, seed)
    several = torch.bincount(labels[rows], minlength=len(sets.classes)) > 1
    inside = inside[several[labels[rows][inside]]]  # the only label of a class is there to learn from
    if not len(inside):  # one label a class: it has to serve twice, and that is said
        return few.subset(rows), few.subset(rows), "the subset itself"
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[inside] = False
    return few.subset(rows[kept]), few.subset(rows[inside]), "a fifth of the subset"
