"""From the names of picture files to splits and classes."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ssl_lab.data.errors import DataError
from ssl_lab.data.listing import Member
from ssl_lab.data.source import SPLITS, UNLABELLED

_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "unlabeled": "unlabeled",
    "unlabelled": "unlabeled",
}
# Beside a folder `images` these hold what belongs to each picture, not classes.
BESIDE_IMAGES = frozenset({"labels", "masks", "annotations", "segmentations", "depth"})


_Path = tuple[tuple[str, ...], Member]  # parts of the name that still matter, and the file


class Placed(NamedTuple):
    """A picture file with its place in the set; sorts as the set is ordered."""

    split: int  # index into SPLITS
    name: str  # below the wrapping folders
    label: int  # UNLABELLED when its split has no class folders
    member: Member


class Layout(NamedTuple):
    """The pictures of a container in the order of the set, and what was left out, by reason."""

    placed: list[Placed]
    classes: list[str]
    ignored: Counter[str]


def arrange(members: list[Member]) -> Layout:
    """Finds splits and classes in the names of picture files.

    Wrapping folders that hold everything are passed over. `train/` (with `val/`, `test/`, `unlabeled/` where
    there are) makes splits; what lies beside them is left out. Below, each folder is a class; pictures without
    folders, or all in one folder, are unlabelled. Raises DataError for folders that contradict each other.
    """
    ignored: Counter[str] = Counter()
    paths = [(tuple(member.name.split("/")), member) for member in members]
    splits = _split(_unwrap(_latest(paths, ignored), ignored), ignored)
    folders = {split: None if split == "unlabeled" else _classes(paths, ignored) for split, paths in splits.items()}
    classes = _merge({split: set(found) for split, found in folders.items() if found is not None})
    placed = []
    for split, paths in splits.items():
        found = folders[split]
        groups = [(UNLABELLED, paths)] if found is None else [(classes.index(name), found[name]) for name in found]
        for label, group in groups:
            placed += [Placed(SPLITS.index(split), "/".join(parts), label, member) for parts, member in group]
    return Layout(sorted(placed), classes, ignored)


def _latest(paths: list[_Path], ignored: Counter[str]) -> list[_Path]:
    """A name that comes twice in an archive stands for its last version, as when one unpacks it."""
    latest = dict(paths)
    _count(ignored, "older version of the same name", len(paths) - len(latest))
    return list(latest.items())


def _unwrap(paths: list[_Path], ignored: Counter[str]) -> list[_Path]:
    """Passes over folders that hold everything, unless they name a split."""
    while True:
        paths = _without_annotations(paths, ignored)
        inside = [(parts[1:], member) for parts, member in paths if len(parts) > 1]
        tops = {parts[0] for parts, _ in paths if len(parts) > 1}
        if len(tops) != 1 or tops.pop().lower() in _SPLIT_OF:
            return paths
        # A picture beside the one folder is a stray (a logo) if that folder holds folders, else part of the set.
        if len(inside) < len(paths) and all(len(parts) == 1 for parts, _ in inside):
            return paths
        _count(ignored, "picture beside the folder of the set", len(paths) - len(inside))
        paths = inside


def _without_annotations(paths: list[_Path], ignored: Counter[str]) -> list[_Path]:
    """Where there is a folder `images`, drops folders beside it that hold masks and the like."""
    if not any(parts[0].lower() == "images" for parts, _ in paths if len(parts) > 1):
        return paths
    kept = [(parts, member) for parts, member in paths if parts[0].lower() not in BESIDE_IMAGES]
    _count(ignored, "picture in a folder of labels beside images/", len(paths) - len(kept))
    return kept


def _split(paths: list[_Path], ignored: Counter[str]) -> dict[str, list[_Path]]:
    """The pictures of each split; all in `train` when there are no folders for splits."""
    tops = {parts[0] for parts, _ in paths if len(parts) > 1}
    keys = {top: _SPLIT_OF[top.lower()] for top in tops if top.lower() in _SPLIT_OF}
    if "train" not in keys.values():
        if keys and len(keys) == len(tops):
            raise DataError(
                f"found {_listed(keys)} but no train/: rename the folder to train on, or set data.root to it"
            )
        return {"train": paths}
    splits: dict[str, list[_Path]] = {}
    for parts, member in paths:
        if len(parts) > 1 and parts[0] in keys:
            splits.setdefault(keys[parts[0]], []).append((parts[1:], member))
        else:
            ignored["picture outside train/ val/ test/"] += 1
    return {split: _unwrap(paths, ignored) for split, paths in splits.items()}


def _classes(paths: list[_Path], ignored: Counter[str]) -> dict[str, list[_Path]] | None:
    """The pictures of each class folder; None when fewer than two folders make them unlabelled."""
    found: dict[str, list[_Path]] = {}
    for parts, member in paths:
        if len(parts) > 1:
            # Macs store letters with accents in two characters, others in one.
            found.setdefault(unicodedata.normalize("NFC", parts[0]), []).append((parts, member))
    if len(found) < 2:
        return None
    _count(ignored, "picture beside class folders", sum(len(parts) == 1 for parts, _ in paths))
    return found


def _merge(names: dict[str, set[str]]) -> list[str]:
    """The classes of all splits, sorted. Raises DataError when the splits or the spellings do not agree."""
    classes = sorted(set().union(*names.values()))
    alike = Counter(name.casefold() for name in classes)
    twins = [name for name in classes if alike[name.casefold()] > 1]
    if twins:
        raise DataError(
            f"class folders {_listed(twins)} differ in case only: rename them so that each class has one name"
        )
    for split, found in names.items():
        unknown = sorted(found - names.get("train", found))
        if unknown:
            raise DataError(
                f"{split}/ has classes that train/ lacks: {_listed(unknown)}; add them there, or move them away"
            )
    return classes


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(f"{name}/" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _count(ignored: Counter[str], reason: str, count: int) -> None:
    if count:
        ignored[reason] += count
