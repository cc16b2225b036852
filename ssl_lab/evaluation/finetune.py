"""All weights trained on labels, from what an encoder has learned; from random weights, this is supervised learning."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import require
from ssl_lab.evaluation.subject import Few, LabelledImages, NotApplicable, Subject, extract
from ssl_lab.evaluation.subsets import is_amount, over_draws, stratified, subset
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
    `few_label`, from number `draw` on `draws` of them; figures are then means over these, with their deviation). The
    rate is then chosen inside the subset, on a fifth of it or where `folds` are more than one by cross-validation, and
    what it makes of the whole subset is reported. min_steps: updates below which there are more epochs instead, since
    few labels make short ones. NotApplicable without weights.
    """
    sets, num_classes, encoder = subject.sets, len(subject.sets.classes), subject.encoder
    if not hasattr(encoder, "backbone"):
        raise NotApplicable(f"{type(encoder).__name__} has no weights to tune")
    labels = subject.labels(sets.test)
    recipe = Recipe(epochs, batch_size, momentum, weight_decay, schedule, tuple(scale), seed)
    recipe.check(draws)
    fine = amount is None or is_amount(amount)
    require(fine, "amount", amount, "null, a share between 0 and 1, or a whole number a class", 0.1)
    course = Course(recipe, head_rate, layer_decay, min_steps)
    found = []
    for number in range(draw, draw + (draws if amount is not None else 1)):
        choice = Choice(sets.fit, [(sets.fit, sets.select)], "validation")
        if amount is not None:
            choice = Choice.inside(subject, amount, number, folds, seed)
        best = chosen(subject, choice, rates, course)
        found.append(scores(predicted(best.network, sets.test, subject), labels, num_classes))
        found[-1] |= {"rate": best.rate, "select_top1": best.score}
    settings = {"rates": list(rates), **course.recipe_of(len(choice.whole))._asdict()}
    settings |= {"head_rate": head_rate, "layer_decay": layer_decay, "amount": amount, "draw": draw}
    settings |= {"fitted_on": len(choice.whole), "chosen_on": choice.held, "held_out": choice.name}
    if len(found) == 1:
        return Result(found[0], settings)
    figures = over_draws(found)
    figures |= {"top1, std": figures.pop("std"), "rates": [one["rate"] for one in found]}
    return Result(figures, settings | {"draws": draws})


class Course(NamedTuple):
    """How a whole network learns; see `finetune`."""

    recipe: Recipe
    head_rate: float
    layer_decay: float
    min_steps: int

    def recipe_of(self, images: int) -> Recipe:
        """With as many epochs as so many images need."""
        needed = math.ceil(self.min_steps / max(1, images // self.recipe.batch_size))
        return self.recipe._replace(epochs=max(self.recipe.epochs, needed))


class Choice(NamedTuple):
    """What a network learns from, and what its rate is chosen on."""

    whole: LabelledImages
    pairs: list[tuple[LabelledImages, LabelledImages]]  # what is learned from, and judged on, for each rate
    name: str

    @property
    def held(self) -> int:
        """How many images a rate is judged on."""
        return sum(len(judged) for _, judged in self.pairs)

    @classmethod
    def inside(cls, subject: Subject, amount: float, draw: int, folds: int, seed: int) -> "Choice":
        """Of the subset number `draw` alone: folds of it, or a fifth where these are one or a class has one label."""
        train, count = subject.sets.train, len(subject.sets.classes)
        few = Few(train, subset(subject.labels(train).cpu(), count, amount, draw, key="amount"))
        labels, whole = few.labels(few.rows), few.subset(few.rows)
        if folds > 1 and (fold := stratified(labels, count, folds)) is not None:
            parts = [fold == number for number in range(int(fold.max()) + 1)]
            name = f"cross-validation in {len(parts)} folds"
        else:
            fifth = torch.zeros(len(few.rows), dtype=torch.bool)
            fifth[subset(labels, count, 0.2, seed)] = True
            parts = [fifth & (torch.bincount(labels, minlength=count) > 1)[labels]]  # a class's only label stays
            name = "a fifth of the subset"
        if not parts[0].any():  # one label a class: it has to serve twice, and that is said
            return cls(whole, [(whole, whole)], "the subset itself")
        return cls(whole, [(few.subset(few.rows[~part]), few.subset(few.rows[part])) for part in parts], name)


def chosen(subject: Subject, choice: Choice, rates: Sequence[float], course: Course) -> Tuned:
    """What the rate that does best over the pairs makes of the whole."""

    def train(rate: float) -> list[Classifier]:
        return [trained(subject, learned, course, rate) for learned, _ in choice.pairs]

    def judge(networks: list[Classifier]) -> float:
        held = zip(networks, [held for _, held in choice.pairs], strict=True)
        right = sum(int((predicted(network, part, subject) == subject.labels(part)).sum()) for network, part in held)
        return right / choice.held

    best = tuned(rates, train, judge)
    if choice.pairs[0][0] is choice.whole:
        return best._replace(network=best.network[0])
    return best._replace(network=trained(subject, choice.whole, course, best.rate))


def predicted(network: Classifier, images: LabelledImages, subject: Subject) -> Int[Tensor, " n"]:
    """The class of the largest logit, of a whole set."""
    return extract(network, images, subject.device, subject.precision, subject.batch_size).argmax(1)


def trained(subject: Subject, images: LabelledImages, course: Course, rate: float) -> Classifier:
    """A copy of the encoder with a layer on top, trained."""
    recipe = course.recipe_of(len(images))
    torch.manual_seed(recipe.seed)
    network = Classifier(subject.encoder, len(subject.sets.classes)).to(subject.device).train()
    targets, size = classes(subject.labels(images)), side(subject.encoder, images)

    def loss(view: Tensor, labels: Tensor) -> Tensor:
        with autocast(subject.device, subject.precision):
            x = features(network.encoder, view)
        return cross_entropy(network.head(x.float()), labels)

    batches = Augmented(images, targets, size, recipe, subject.device)
    rates = (rate, course.head_rate, course.layer_decay)
    descend(network, groups(network.encoder.backbone, network.head, *rates), batches, loss, recipe)
    return network
