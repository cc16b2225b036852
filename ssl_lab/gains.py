"""What one way of learning gains on another, at each amount of labels."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy.stats import t as student

from ssl_lab.evaluation.scoring import unpacked

ALL = "100 %"
LINEAR, TUNED, SUPERVISED = "self-supervised, linear", "self-supervised, fine-tuned", "supervised from scratch"
RANDOM, RAW, WEIGHTS = "random weights, linear", "raw pixels, linear", "other weights, linear"
# Of what does equally well: nothing is trained for raw pixels, least for linear rows.
CHEAPEST_FIRST = (RAW, RANDOM, WEIGHTS, LINEAR, SUPERVISED, TUNED)


class Point(NamedTuple):
    """The accuracy on test images at one amount of labels."""

    share: str  # of the labels, such as "10 %"
    labels: int
    accuracy: float  # mean over draws
    deviation: float  # over draws; 0 for one
    draws: int
    images: int  # of the test set
    right: Bool[np.ndarray, "draws images"] | None = None  # which of them were classified right, where that is known

    @property
    def margin(self) -> float:
        """Half of the 95 % interval of the mean, over the draws and over test images drawn again."""
        return half(math.sqrt(self.accuracy * (1 - self.accuracy)), self.images, self.deviation, self.draws)


class Row(NamedTuple):
    """One way to an accuracy, at each amount of labels from few to all."""

    name: str
    points: list[Point]

    def at(self, share: str) -> Point | None:
        """The point of an amount."""
        return next((point for point in self.points if point.share == share), None)


def rows_of(lines: Sequence[Mapping[str, Any]], amounts: Sequence[float], train: int) -> list[Row]:
    """The rows that result lines hold: linear ones from few_label and logistic, the others from finetune.

    train: how many labels all are.
    """
    found: dict[str, dict[str, Point]] = {}
    tuned: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
    for line in lines:
        linear, all_weights = _names(line)
        figures, test = line["figures"], line["data"]["test"]
        if line["protocol"] == "logistic":
            told = classified_right([figures.get("right")], test)
            found.setdefault(linear, {})[ALL] = Point(ALL, train, figures["top1"], 0.0, 1, test, told)
        elif line["protocol"] == "few_label":
            for share in (f"{100 * amount:g} %" for amount in amounts):
                labels, spread = figures[f"{share}, labels"], figures[f"{share}, std"]
                draws = line["settings"]["draws"]
                told = classified_right(figures.get(f"{share}, right", [None]), test)
                found.setdefault(linear, {})[share] = Point(share, labels, figures[share], spread, draws, test, told)
        elif line["protocol"] == "finetune":
            tuned.setdefault((all_weights, line["settings"]["amount"]), []).append(line)
    for (name, amount), draws_of in tuned.items():
        point = _tuned(draws_of, amount, train)
        found.setdefault(name, {})[point.share] = point
    return [
        Row(name, sorted(found[name].values(), key=lambda point: point.labels))
        for name in (RAW, RANDOM, SUPERVISED, WEIGHTS, LINEAR, TUNED)
        if name in found
    ]


def _names(line: Mapping[str, Any]) -> tuple[str, str]:
    """What an encoder's rows are called: with a linear classifier, and with all weights learned."""
    beside = {"random weights": (RANDOM, SUPERVISED), "raw pixels": (RAW, "")}
    ours = "seed" in line["trained_by"]
    return beside.get(line["name"], (LINEAR, TUNED) if ours else (WEIGHTS, ""))


def _tuned(lines: Sequence[Mapping[str, Any]], amount: float | None, train: int) -> Point:
    """The mean over draws of one amount of labels."""
    of_draw = {line["settings"]["draw"]: line["figures"] for line in lines}
    found = [of_draw[draw] for draw in sorted(of_draw)]
    values, test = [float(figures["top1"]) for figures in found], lines[0]["data"]["test"]
    labels = train if amount is None else lines[0]["settings"]["fitted_on"]
    share, spread = ALL if amount is None else f"{100 * amount:g} %", stdev(values) if len(values) > 1 else 0.0
    told = classified_right([figures.get("right") for figures in found], test)
    return Point(share, labels, mean(values), spread, len(values), test, told)


def classified_right(packed: Sequence[str | None], images: int) -> Bool[np.ndarray, "draws {images}"] | None:
    """A row a draw; None where a result does not hold it."""
    rows = [unpacked(text, images) for text in packed if text is not None]
    return np.stack(rows) if len(rows) == len(packed) else None


def clear(first: Point, second: Point) -> bool:
    """Whether two accuracies differ by more than half of the 95 % interval of their difference.

    Of the paired difference, where it is known which images they got right: on the same images, and learned from the
    same subsets.
    """
    apart = math.hypot(first.margin, second.margin)
    if first.right is not None and second.right is not None and first.right.shape == second.right.shape:
        difference = first.right.astype(float) - second.right
        of_draws = difference.mean(1)
        spread = float(of_draws.std(ddof=1)) if len(of_draws) > 1 else 0.0
        apart = half(float(difference.mean(0).std()), first.images, spread, len(of_draws))
    return abs(first.accuracy - second.accuracy) > apart


def half(of_images: float, images: int, of_draws: float, draws: int) -> float:
    """Half of the 95 % interval of a mean over images and draws, from their deviations; few draws by Student's t."""
    t = float(student.ppf(0.975, draws - 1)) if draws > 1 else 0.0
    return math.hypot(1.96 * of_images / math.sqrt(images), t * of_draws / math.sqrt(draws))


def answer(rows: Sequence[Row]) -> list[str]:
    """One sentence that says which to use, then what it rests on at each amount of labels, and what labels it saves."""
    amounts = {point.share: point.labels for row in rows for point in row.points}
    choices, told = {}, []
    for share in sorted(amounts, key=lambda share: amounts[share]):
        there = {row.name: point for row in rows if (point := row.at(share))}
        ranked = sorted(there, key=lambda name: -there[name].accuracy)
        level = [name for name in ranked if not clear(there[ranked[0]], there[name])]
        choice = choices[share] = min(level, key=CHEAPEST_FIRST.index)
        beside = f" (the cheapest of what is level: {'; '.join(level)})" if len(level) > 1 else ""
        figures = "; ".join(f"{name} {100 * there[name].accuracy:.1f}" for name in ranked)
        told.append(f"With {share} of the labels ({amounts[share]:,}): {choice}{beside}. {figures}.")
    return [sentence(choices), *told, *saved({row.name: row for row in rows})]


def sentence(choices: Mapping[str, str]) -> str:
    """Which to use, in one sentence."""
    if len(set(choices.values())) == 1:
        return f"Use: {next(iter(choices.values()))}, at every amount of labels that was tried."
    return "Use: " + "; ".join(f"with {share} of the labels {name}" for share, name in choices.items()) + "."


def saved(rows: Mapping[str, Row]) -> list[str]:
    """What labels pretraining saves: how many it needs for what supervised learning reaches with its own."""
    ours = [rows[name] for name in (LINEAR, TUNED) if name in rows]
    told = []
    for point in rows[SUPERVISED].points if SUPERVISED in rows else []:
        reached = [(labels, row) for row in ours if (labels := labels_for(row, point.accuracy)) is not None]
        there = "pretraining does not reach"
        if reached:
            labels, row = min(reached, key=lambda one: one[0])
            bound = "at most" if labels == row.points[0].labels else "about"
            there = f"{row.name} reaches with {bound} {labels:,}"
            if (level := row.at(point.share)) and not clear(level, point):
                there += f", though with {point.labels:,} the two are not told apart"
        accuracy = f"{100 * point.accuracy:.1f} %"
        told.append(f"What supervised learning reaches with {point.labels:,} labels ({accuracy}), {there}.")
    return told


def labels_for(row: Row, accuracy: float) -> int | None:
    """The fewest labels at which a row reaches an accuracy, interpolated over their logarithm; None: it does not."""
    if row.points[0].accuracy >= accuracy:
        return row.points[0].labels
    for low, high in pairwise(row.points):
        if low.accuracy < accuracy <= high.accuracy:
            part = (accuracy - low.accuracy) / (high.accuracy - low.accuracy)
            return round(math.exp(math.log(low.labels) + part * math.log(high.labels / low.labels)))
    return None
