"""How far a handful of labels goes."""

from collections.abc import Sequence
from math import floor
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_lab.draws import seed_from
from ssl_lab.evaluation.logistic import PENALTIES, Standardise, fit
from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result

LONE = 1e-2  # the penalty where a class has one label, so that nothing can be chosen


def few_label(
    subject: Subject,
    amounts: Sequence[float] = (0.01, 0.1),
    draws: int = 5,
    folds: int = 5,
    penalties: Sequence[float] = PENALTIES,
    max_iterations: int = 200,
) -> Result:
    """Accuracy of logistic regression on frozen features, fitted on few labels.

    amounts: below 1 a fraction of the training labels, from 1 on a number a class. draws: subsets of each size; nested
    (a larger one holds the smaller), stratified, and the same on every machine. The penalty is chosen by
    cross-validation inside the subset, never by labels that the row does not count (Oliver et al. 2018, arXiv
    1804.09170). Figures: mean and standard deviation over draws. Raises ValueError when a class has too few labels.
    """
    sets, num_classes = subject.sets, len(subject.sets.classes)
    features, labels = subject.features(sets.train), subject.labels(sets.train)
    test, test_labels = subject.features(sets.test), subject.labels(sets.test)
    figures: dict[str, Any] = {}
    names = []
    for amount in amounts:
        found = []
        for draw in range(draws):
            rows = subset(labels, num_classes, amount, draw)
            own = torch.full_like(labels, -1)  # the guard: `fit` refuses what is not of the subset
            own[rows] = labels[rows]
            standardise = Standardise.of(features[rows])
            x, y = standardise(features[rows]), own[rows]
            penalty = cross_validated(x, y, num_classes, folds, penalties, max_iterations)
            found.append(fit(x, y, num_classes, penalty, max_iterations).accuracy(standardise(test), test_labels))
        name = f"{100 * amount:g} %" if amount < 1 else f"{amount:g} a class"
        figures |= {name: mean(found), f"{name}, std": stdev(found) if draws > 1 else 0.0, f"{name}, labels": len(rows)}
        names.append(name)
    settings = {"amounts": list(amounts), "draws": draws, "folds": folds, "penalties": list(penalties)}
    settings |= {"max_iterations": max_iterations, "views": "clean"}
    return Result("few_label", figures, settings, tuple(names))


def subset(labels: Int[Tensor, " n"], num_classes: int, amount: float, draw: int) -> Int[Tensor, " m"]:
    """Rows of a subset, ascending: the first of each class in an order that `draw` makes. At least one of each."""
    groups = labels.cpu().numpy()
    order = np.array([seed_from("few labels", draw, row) for row in range(len(groups))])
    chosen = []
    for k in range(num_classes):
        rows = np.flatnonzero(groups == k)
        count = max(1, floor(amount * len(rows) + 0.5)) if amount < 1 else int(amount)
        if count > len(rows):
            raise ValueError(
                f"protocols.few_label.amounts: {count} labels a class are asked for, and class {k} has {len(rows)}: "
                f"set {len(rows)} or less"
            )
        chosen.append(rows[np.argsort(order[rows])[:count]])
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def cross_validated(
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    num_classes: int,
    folds: int,
    penalties: Sequence[float],
    max_iterations: int,
) -> float:
    """The penalty with the best accuracy over stratified folds; ties go to the larger. LONE where a class has one."""
    folds = min(folds, int(torch.bincount(y, minlength=num_classes).min()))
    if folds < 2:
        return LONE
    fold = torch.zeros_like(y)
    for k in range(num_classes):
        rows = (y == k).nonzero()[:, 0]
        fold[rows] = torch.arange(len(rows), device=y.device) % folds
    right = dict.fromkeys(sorted(penalties, reverse=True), 0.0)
    for held in range(folds):
        inside = fold != held
        start = None
        for penalty in right:
            start = fit(x[inside], y[inside], num_classes, penalty, max_iterations, start)
            right[penalty] += float((start.predict(x[~inside]) == y[~inside]).sum())
    return max(right, key=lambda penalty: right[penalty])
