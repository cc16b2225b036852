"""Images as they are kept between decoding and the loader."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
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


@dataclass(frozen=True)
class ImageSet:
    """A set of square RGB pictures as uint8, some rows of a storage that several sets share.

    A subset holds other rows of the same storage, so that a split of a memory-mapped file copies nothing.

    storage: every stored picture. rows: which of them this set holds, in order. labels: of this set's rows,
    None when there are none. classes: name of each label. origins: name of each stored row.
    sums: of each stored row, the sum (first) and the sum of squares (second) of its pixels a channel.
    """

    storage: UInt8[Tensor, "stored 3 side side"]
    rows: Int64[Tensor, " n"]
    labels: Int64[Tensor, " n"] | None
    classes: list[str]
    origins: Names
    sums: Int64[Tensor, "stored 2 3"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def side(self) -> int:
        """Height and width of a picture in pixels."""
        return self.storage.shape[-1]

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
        # By numpy, on one thread: torch would start a second pool of threads beside the one that trains, and the two
        # stall each other (views took 22 ms a batch instead of 9).
        return torch.from_numpy(self.storage.numpy()[self.rows[index].numpy()])

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels of this set, in [0, 1]; exact sums.

        Raises DataError for an empty set.
        """
        if len(self) == 0:
            raise DataError("an empty set of images has no mean: give it pictures, or set data.mean and data.std")
        pixels = len(self) * self.side**2
        first, second = (self.sums[self.rows].sum(dim=0).to(torch.float64) / pixels).unbind()
        deviation = (second - first**2).clamp(min=0).sqrt()
        return (first / 255).tolist(), (deviation / 255).tolist()
