"""Setting pictures aside for validation and test: seeded, stratified, equal on every machine."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from ssl_lab.data.errors import DataError
from ssl_lab.data.image_set import ImageSet
from ssl_lab.draws import seed_from


class Carved(NamedTuple):
    """The splits of a run. `aside` names those that were set aside here, not given by the source."""

    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    aside: tuple[str, ...]


def carve(
    splits: dict[str, ImageSet], val_fraction: float, test_fraction: float, seed: int, group_by: str | None = None
) -> Carved:
    """Completes the splits of a source: test from train when it has none, then validation from what is left.

    A fraction of 0 sets nothing aside. group_by: a regular expression on the names of the pictures; what it finds tells
    the group, and no group is divided. Raises DataError when too few pictures would be left to train on, or a name
    does not match.
    """
    train, parts, aside = splits["train"], dict(splits), []
    for key, fraction in (("test", test_fraction), ("val", val_fraction)):
        _check(f"data.{key}_fraction", fraction)
        if key not in parts and fraction > 0:
            # The key salts the seed: otherwise the second split would favour the neighbours of the first.
            kept, taken = divide(train, fraction, seed_from("split", key, seed), group_by)
            parts[key], train = train.subset(taken), train.subset(kept)
            aside.append(key)
    return Carved(train, parts.get("val"), parts.get("test"), tuple(aside))


def divide(
    images: ImageSet, fraction: float, seed: int, group_by: str | None = None
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " taken"]]:
    """Rows of a set to keep and to set aside: class by class, or in whole groups where `group_by` finds them."""
    if group_by is None:
        return set_aside(images.labels, len(images), fraction, seed)
    return set_groups_aside(groups_of(images.names, group_by), fraction, seed)


def set_aside(
    labels: Int64[Tensor, " n"] | None, n: int, fraction: float, seed: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " taken"]]:
    """Rows to keep and rows to set aside, each ascending; together they are 0 … n-1.

    round(fraction * n) rows are taken, at least one, spread over the classes in proportion (largest
    remainders first). Each class keeps at least one row. Which rows: those with the smallest hash of
    (seed, row), which no version of a library can change. Raises DataError when no row can be spared.
    """
    groups = np.zeros(n, np.int64) if labels is None else labels.numpy()
    sizes = np.bincount(groups) if n else np.zeros(1, np.int64)
    quotas = share(sizes, fraction)
    if quotas.sum() == 0:
        raise DataError(
            f"{n} pictures are too few to set {fraction:.0%} of them aside and keep one of each class: give at "
            "least 3 pictures (2 of a class), or folders train/ val/ test/, or set data.val_fraction=0 "
            "data.test_fraction=0"
        )
    order = np.lexsort((shuffle_keys(n, seed), groups))
    starts = np.cumsum(sizes) - sizes
    place = np.arange(n) - starts[groups[order]]  # place of each row within its shuffled class
    taken = np.zeros(n, bool)
    taken[order] = place < quotas[groups[order]]
    return torch.from_numpy(np.flatnonzero(~taken)), torch.from_numpy(np.flatnonzero(taken))


def groups_of(names: Sequence[str], pattern: str) -> list[str]:
    """What a regular expression finds in each name: its first group in brackets, else all it matches.

    Raises DataError for a pattern that is none, and for a name that it does not match.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.group_by={pattern} is no regular expression ({error})") from error
    found = [compiled.search(name) for name in names]
    missed = [name for name, match in zip(names, found, strict=True) if match is None]
    if missed:
        raise DataError(
            f"data.group_by={pattern} finds nothing in {len(missed):,} of {len(names):,} names, such as {missed[0]!r}; "
            "it has to match every name, as '([^/]+)_\\d+' does in lion/cub7_001.jpg"
        )
    return [match[1] if match.re.groups else match[0] for match in found if match]


def set_groups_aside(
    groups: Sequence[str], fraction: float, seed: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " taken"]]:
    """Rows to keep and rows to set aside, no group in both: groups in a hashed order, up to `fraction` of the rows.

    At least one group is taken and one kept; each is taken whole where that comes nearer to the fraction. Classes are
    not balanced. Raises DataError when there is one group only.
    """
    names, of_row = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"data.group_by finds a single group ({names[0]}): it cannot be divided; give another pattern")
    sizes = np.bincount(of_row)
    order = np.argsort(shuffle_keys(len(names), seed))
    total = np.cumsum(sizes[order])
    wanted = fraction * len(groups)
    count = int(np.argmin(np.abs(total[:-1] - wanted))) + 1
    taken = np.isin(of_row, order[:count])
    return torch.from_numpy(np.flatnonzero(~taken)), torch.from_numpy(np.flatnonzero(taken))


def share(sizes: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """How many of each class to take: proportional, summing to round(fraction * n), never a whole class."""
    spare = np.maximum(sizes - 1, 0)
    wanted = max(1, round(fraction * int(sizes.sum())))
    exact = fraction * sizes
    quotas: NDArray[np.int64] = np.minimum(np.floor(exact).astype(np.int64), spare)
    # Largest remainder first; equal ones go to the larger class, then to the earlier one.
    for group in np.lexsort((np.arange(len(sizes)), -sizes, np.floor(exact) - exact)):
        if quotas.sum() < wanted and quotas[group] < spare[group]:
            quotas[group] += 1
    return quotas


def shuffle_keys(n: int, seed: int) -> NDArray[np.uint64]:
    """A pseudo-random 64-bit key for each row: splitmix64 (Steele, Lea and Flood, 2014) of seed and row."""
    keys = np.arange(1, n + 1, dtype=np.uint64)
    keys *= np.uint64(0x9E3779B97F4A7C15)
    keys += np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys ^= keys >> np.uint64(shift)
        keys *= np.uint64(factor)
    keys ^= keys >> np.uint64(31)
    return keys


def _check(key: str, fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise DataError(f"{key}={fraction} is no part of a set: give a number from 0 (set nothing aside) to below 1")
