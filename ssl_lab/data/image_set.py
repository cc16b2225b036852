"""Images as they are kept between decoding and the loader."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from ssl_lab.data.errors import DataError


class Names:
    """Where each stored row came from; a file of names is read when the first name is asked for.

    names: the names themselves, or a file with one JSON string a line (so that any character is safe).
    """

    def __init__(self, names: Sequence[str] | Path):
        self._names = names

    @cached_property
    def _all(self) -> Sequence[str]:
        if not isinstance(self._names, Path):
            return self._names
        return [json.loads(line) for line in self._names.read_text(encoding="ascii").splitlines()]

    def __getitem__(self, row: int) -> str:
        return self._all[row]

    def __len__(self) -> int:
        return len(self._all)


@runtime_checkable
class Storage(Protocol):
    """Pictures by row, square and RGB, decoded before (`Pixels`) or as they are asked for (`shards.Shards`)."""

    @property
    def side(self) -> int:
        """Height and width of a picture in pixels."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels (m, 3, side, side) of these rows, copied."""

    def moments(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean (first) and mean square (second) of each channel over all pixels of these rows, of 0 … 255."""

    def shuffled(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """The positions in `rows` in a random order that is cheap to read."""


@dataclass(frozen=True)
class Pixels:
    """Decoded pictures, in memory or memory-mapped.

    images: every stored picture. sums: of each, the sum (first) and the sum of squares (second) of a channel's pixels.
    """

    images: UInt8[Tensor, "stored 3 side side"]
    sums: Int64[Tensor, "stored 2 3"]

    @property
    def side(self) -> int:
        return self.images.shape[-1]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        # By numpy, on one thread: torch would start a second pool of threads beside the one that trains, and the two
        # stall each other (views took 22 ms a batch instead of 9).
        taken: NDArray[np.uint8] = self.images.numpy()[rows]
        return taken

    def moments(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = self.sums.numpy()[rows].sum(0).astype(np.float64)
        return sums / (len(rows) * self.side**2)

    def shuffled(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        return generator.permutation(len(rows))


@dataclass(frozen=True)
class ImageSet:
    """A set of square RGB pictures as uint8, some rows of a storage that several sets share.

    A subset holds other rows of the same storage, so that a split of a memory-mapped file copies nothing.

    storage: every stored picture. rows: which of them this set holds, in order. labels: of this set's rows,
    None when there are none. classes: name of each label. origins: name of each stored row.
    masks: of every stored row the class of each pixel, where the set has them.
    """

    storage: Storage
    rows: Int64[Tensor, " n"]
    labels: Int64[Tensor, " n"] | None
    classes: list[str]
    origins: Names
    masks: UInt8[Tensor, "stored side side"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def side(self) -> int:
        """Height and width of a picture in pixels."""
        return self.storage.side

    @property
    def names(self) -> list[str]:
        """Where each picture of this set came from (relative path or `split/number`)."""
        return [self.origins[row] for row in self.rows.tolist()]

    def subset(self, index: Int64[Tensor, " m"]) -> "ImageSet":
        """These pictures of the set, in this order; the storage is shared."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, rows=self.rows[index], labels=labels)

    def gather(self, index: Int64[Tensor, " m"]) -> UInt8[Tensor, "m 3 side side"]:
        """The pixels of these pictures of the set, copied."""
        return torch.from_numpy(self.storage.take(self.rows[index].numpy()))

    def gather_masks(self, index: Int64[Tensor, " m"]) -> UInt8[Tensor, "m side side"]:
        """The classes of the pixels of these pictures, copied. Raises DataError for a set without masks."""
        if self.masks is None:
            raise DataError("these pictures have no masks: give a set that has, such as data=camvid or data=masks")
        return torch.from_numpy(self.masks.numpy()[self.rows[index].numpy()])

    def shuffled(self, generator: np.random.Generator) -> Int64[Tensor, " n"]:
        """The positions of this set in a random order."""
        return torch.from_numpy(self.storage.shuffled(self.rows.numpy(), generator))

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels of this set, in [0, 1].

        Raises DataError for an empty set.
        """
        if len(self) == 0:
            raise DataError("an empty set of images has no mean: give it pictures, or set data.mean and data.std")
        first, second = self.storage.moments(self.rows.numpy())
        deviation = np.sqrt((second - first**2).clip(min=1))  # a channel that holds nothing is divided by one step
        return (first / 255).tolist(), (deviation / 255).tolist()
