"""What a source of pictures is: it names its state, plans its rows, and yields what is to be decoded."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

# Order in the storage. `unlabeled` is extra material for pretraining (STL-10 has it).
SPLITS = ("train", "val", "test", "unlabeled")

UNLABELLED = -1  # in an array of labels


class Plan(NamedTuple):
    """The rows a source will fill: one a picture, split after split, by name within a split."""

    splits: NDArray[np.uint8]  # (n,) index into SPLITS
    names: list[str]  # (n,) where each came from
    classes: list[str]  # empty when unlabelled
    ignored: dict[str, int]  # reason -> number of files that are no part of the set
    masks: bool = False  # each row has one, which is an item of its own


class Item(NamedTuple):
    """One picture to decode. `load` runs in a worker: encoded bytes or pixels (h, w[, 3]), and the label.

    Or one mask: encoded bytes whose pixels are numbers of classes; the label is not read.
    """

    row: int
    load: Callable[[], tuple[bytes | NDArray[np.uint8], int]]
    held: int = 0  # bytes this item keeps in memory until it is decoded
    mask: bool = False


def give(picture: bytes | NDArray[np.uint8], label: int) -> tuple[bytes | NDArray[np.uint8], int]:
    """For `Item.load` of what is at hand already: partial(give, picture, label)."""
    return picture, label


@runtime_checkable
class Source(Protocol):
    """Where pictures come from. Constructors only keep their arguments; the work is done by these methods."""

    name: str

    def signature(self) -> str:
        """Changes when the pictures change. Cheap: decides at each start whether the cache still holds."""

    def plan(self) -> Plan:
        """Lists the pictures, fetching them first where they are absent. Raises DataError."""

    def read(self) -> Iterator[Item]:
        """After `plan`: yields every planned picture once, in the order that is cheapest to read. Raises DataError."""


def plan_arrays(sizes: dict[str, int], classes: list[str]) -> Plan:
    """The plan of a source that has no file names: `sizes[split]` pictures a split, named `split/number`."""
    counts = [sizes.get(split, 0) for split in SPLITS]
    names = [f"{split}/{i}" for split, count in zip(SPLITS, counts, strict=True) for i in range(count)]
    return Plan(np.repeat(np.arange(len(SPLITS), dtype=np.uint8), counts), names, classes, {})
