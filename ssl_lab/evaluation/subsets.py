"""Few of the labels: which, in which folds, and what several draws of them come to."""

from collections.abc import Sequence
from math import floor
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ssl_lab.draws import seed_from
from ssl_lab.evaluation.settings import SettingError


def is_amount(amount: float) -> bool:
    """Whether it is an amount of labels: a share of them below 1, a whole number a class from 1 on."""
    return 0 < amount < 1 or (amount >= 1 and amount == int(amount))


def subset(
    labels: Int[Tensor, " n"], num_classes: int, amount: float, draw: int, key: str = "amounts"
) -> Int[Tensor, " m"]:
    """Rows of a subset, ascending: the first of each class in an order that `draw` makes. At least one of each.

    key: of the setting that the amount comes from. Raises SettingError where a class has fewer, ValueError for none.
    """
    groups = labels.cpu().numpy()
    order = np.array([seed_from("few labels", draw, row) for row in range(len(groups))])
    chosen = []
    for k in range(num_classes):
        rows = np.flatnonzero(groups == k)
        if not len(rows):
            raise ValueError(f"class {k} has no training image: leave its images out, or split the data otherwise")
        count = max(1, floor(amount * len(rows) + 0.5)) if amount < 1 else int(amount)
        if count > len(rows):
            instead = f"[{len(rows)}]" if key == "amounts" else len(rows)
            raise SettingError(key, amount, f"class {k} has {len(rows)} labels", instead)
        chosen.append(rows[np.argsort(order[rows])[:count]])
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def stratified(y: Int[Tensor, " n"], num_classes: int, folds: int) -> Int[Tensor, " n"] | None:
    """The fold of each row; each holds every class, so a rare one makes them fewer. None where one has a single row."""
    folds = min(folds, int(torch.bincount(y, minlength=num_classes).min()))
    if folds < 2:
        return None
    fold = torch.zeros_like(y)
    for k in range(num_classes):
        rows = (y == k).nonzero()[:, 0]
        fold[rows] = torch.arange(len(rows), device=y.device) % folds
    return fold


def over_draws(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the `scores` of several draws the mean, and the deviation of the accuracy as `std`."""
    values = [one["top1"] for one in found]
    recall = zip(*(one["per_class"] for one in found), strict=True)
    return {
        **{key: mean(one[key] for one in found) for key in ("top1", "top1_low", "top1_high", "macro_f1")},
        "per_class": [None if None in of_class else mean(of_class) for of_class in recall],
        "std": stdev(values) if len(values) > 1 else 0.0,
    }
