"""Making the decoded arrays of a source, with everything that is worth computing only once."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ssl_lab.data.cache import Content, allocate, fill, in_memory
from ssl_lab.data.decode import HOLE, Arrays, Outcome, decode
from ssl_lab.data.errors import DataError
from ssl_lab.data.image_set import Names
from ssl_lab.data.picture import Square
from ssl_lab.data.progress import say, track
from ssl_lab.data.source import SPLITS, Plan, Source

_MANY_FAILURES = 1000  # unreadable pictures after which there is no use in going on, if they are too many
_ROWS = 4096  # pictures digested at once


def build(source: Source, square: Square, folder: Path | None, max_unreadable: float, progress: bool) -> Content:
    """Decodes a source, into a folder or (None) into memory.

    Raises DataError when too many files cannot be read, or too few pictures are there to learn from.
    """
    plan = source.plan()
    n = len(plan.names)
    arrays = in_memory(n, square.side, plan.masks) if folder is None else allocate(folder, n, square.side, plan.masks)
    with track(f"decoding {source.name}", n * (1 + plan.masks), progress) as advance:
        outcome = decode(source.read(), arrays, square, max(_MANY_FAILURES, int(max_unreadable * n)), advance)
    _check(source.name, plan, outcome, max_unreadable)
    arrays.splits[:] = plan.splits
    arrays.splits[list(outcome.failures)] = HOLE
    meta = _describe(source.name, plan, outcome, arrays)
    skipped = [json.dumps({"file": plan.names[row], "reason": why}) for row, why in sorted(outcome.failures.items())]
    if folder is not None:
        fill(folder, arrays, plan.names, skipped, meta)
    _tell(source.name, plan, outcome, square)
    return Content(meta, arrays, Names(plan.names))


def check_skipped(name: str, skipped: int, n: int, max_unreadable: float, told: str) -> None:
    """Raises DataError when more files could not be read than may be skipped."""
    if skipped > max_unreadable * n:
        enough = min(1, 1.1 * skipped / n)
        raise DataError(
            f"data={name}: {skipped:,} of {n:,} pictures cannot be read, more than data.max_unreadable="
            f"{max_unreadable:g} allows ({told}): repair or remove them, or set data.max_unreadable={enough:.2g}"
        )


def _check(name: str, plan: Plan, outcome: Outcome, max_unreadable: float) -> None:
    first = "; ".join(f"{plan.names[row]!r}: {why}" for row, why in sorted(outcome.failures.items())[:3])
    if outcome.failures and len(outcome.failures) == len(plan.names):
        raise DataError(f"data={name}: none of {len(plan.names):,} pictures can be read ({first})")
    check_skipped(name, len(outcome.failures), len(plan.names), max_unreadable, first)
    failed = np.isin(np.arange(len(plan.names)), list(outcome.failures))
    train = int(np.sum((plan.splits == 0) & ~failed))
    if train < 2:
        raise DataError(
            f"data={name} has {train} picture(s) to train on; learning without labels compares pictures: give more"
        )


def _tell(name: str, plan: Plan, outcome: Outcome, square: Square) -> None:
    """What the person should know about the set, once, when it is decoded."""
    if plan.ignored:
        reasons = ", ".join(f"{count:,} x {reason}" for reason, count in sorted(plan.ignored.items()))
        say(f"data={name}: left out {reasons}")
    if outcome.failures:
        counts = f"{len(outcome.failures):,} unreadable of {len(plan.names):,} pictures"
        say(f"data={name}: skipped {counts}; skipped.txt in the cache lists them")
    if outcome.enlarged:
        say(f"data={name}: enlarged {outcome.enlarged:,} pictures smaller than data.store_size={square.side}")


def _describe(name: str, plan: Plan, outcome: Outcome, arrays: Arrays) -> dict[str, Any]:
    """The meta of a cache: plain values."""
    train = arrays.splits == SPLITS.index("train")
    first, second = arrays.sums[train].sum(axis=0) / (255 * int(train.sum()) * arrays.images.shape[-1] ** 2)
    return {
        "source": name,
        "classes": plan.classes,
        "fingerprint": _fingerprint(plan.classes, arrays),
        "mean": first.tolist(),
        "std": np.sqrt(np.maximum(second / 255 - first**2, 0)).tolist(),
        "gray": outcome.gray,
        "skipped": len(outcome.failures),
        "enlarged": outcome.enlarged,
        "ignored": plan.ignored,
        "splits": {split: int(np.sum(arrays.splits == i)) for i, split in enumerate(SPLITS)},
    }


def _fingerprint(classes: list[str], arrays: Arrays) -> str:
    """Digest of classes, splits, labels, pixels and masks, in the order of the set; not of names or folders."""
    rows = np.flatnonzero(arrays.splits != HOLE)
    digest = hashlib.blake2b(json.dumps([classes, arrays.images.shape[1:]]).encode(), digest_size=16)
    digest.update(arrays.splits[rows].tobytes())
    digest.update(arrays.labels[rows].astype("<i8").tobytes())
    for start in range(0, len(rows), _ROWS):
        digest.update(arrays.images[rows[start : start + _ROWS]].data)
        if arrays.masks is not None:
            digest.update(arrays.masks[rows[start : start + _ROWS]].data)
    return digest.hexdigest()
