"""How far a handful of labels goes."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from ssl_lab.evaluation.logistic import PENALTIES, Standardise, fit
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import require, require_penalties
from ssl_lab.evaluation.subject import Few, Subject
from ssl_lab.evaluation.subsets import is_amount, over_draws, stratified, subset
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
    1804.09170). Figures: mean and standard deviation over draws, by the name of the amount; of what `scores` gives
    besides, the mean over draws. Raises ValueError when a class has too few labels.
    """
    allowed = "one or more, each a share between 0 and 1, or a whole number a class"
    fine = len(amounts) > 0 and all(is_amount(amount) for amount in amounts)
    require(fine, "amounts", list(amounts), allowed, "[0.1,5]")
    require(draws >= 1, "draws", draws, "1 or more", 5)
    require_penalties(penalties)
    sets, num_classes = subject.sets, len(subject.sets.classes)
    features, labels = subject.features(sets.train), subject.labels(sets.train)
    test, test_labels = subject.features(sets.test), subject.labels(sets.test)
    figures: dict[str, Any] = {}
    names = []
    for amount in amounts:
        found = []
        for draw in range(draws):
            few = Few(sets.train, subset(labels, num_classes, amount, draw))
            standardise = Standardise.of(features[few.rows])
            x, y = standardise(features[few.rows]), few.labels(few.rows)
            penalty = cross_validated(x, y, num_classes, folds, penalties, max_iterations)
            predicted = fit(x, y, num_classes, penalty, max_iterations).predict(standardise(test))
            found.append(scores(predicted, test_labels, num_classes))
        names.append(f"{100 * amount:g} %" if amount < 1 else f"{amount:g} a class")
        name = names[-1]
        told = over_draws(found)
        figures |= {name: told["top1"], f"{name}_low": told["top1_low"], f"{name}_high": told["top1_high"]}
        figures |= {f"{name}, {key}": told[key] for key in ("std", "macro_f1", "per_class")}
        figures |= {f"{name}, labels": len(few.rows), f"{name}, right": [one["right"] for one in found]}
    settings = {"amounts": list(amounts), "draws": draws, "folds": folds, "penalties": list(penalties)}
    settings |= {"max_iterations": max_iterations, "views": "clean"}
    return Result(figures, settings, tuple(names))


def cross_validated(
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    num_classes: int,
    folds: int,
    penalties: Sequence[float],
    max_iterations: int,
) -> float:
    """The penalty with the best accuracy over stratified folds; ties go to the larger. LONE where a class has one."""
    fold = stratified(y, num_classes, folds)
    if fold is None:
        return LONE
    right = dict.fromkeys(sorted(penalties, reverse=True), 0.0)
    for held in range(int(fold.max()) + 1):
        inside = fold != held
        start = None
        for penalty in right:
            start = fit(x[inside], y[inside], num_classes, penalty, max_iterations, start)
            right[penalty] += float((start.predict(x[~inside]) == y[~inside]).sum())
    return max(right, key=lambda penalty: right[penalty])
