"""The data of a run: its splits, its loader and how its images are prepared."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from lightning.pytorch import LightningDataModule
from torch import Tensor

from ssl_lab.data.errors import DataError
from ssl_lab.data.image_set import ImageSet
from ssl_lab.data.loader import BatchLoader
from ssl_lab.data.shards import ShardSource
from ssl_lab.data.source import Source
from ssl_lab.data.splits import carve
from ssl_lab.data.store import open_images, resolve
from ssl_lab.data.torchvision_source import TorchvisionSource
from ssl_lab.distributed import rank, world_size


class ImageData(LightningDataModule):
    """Images from a source, stored as uint8 and split for pretraining, validation and test.

    source: where the images come from. root: an archive or class folders to read instead. search: a folder that may
    hold the set, looked through before any download. cache: folder of the decoded images.
    batch_size: global, over all processes. seed: of the order of the epochs.
    store_size: side of the stored images in pixels. store: how a picture becomes square.
    max_unreadable: fraction of the pictures that may be skipped.
    val_fraction, test_fraction, split_seed: of what is set aside where the source has no such split.
    group_by: a regular expression that finds in each picture's name what must not be divided, such as a person.
    mean, std: of each channel in [0, 1]; computed from the training images when null.
    eval_size: side of the centre crop in evaluation; null keeps the stored size.
    """

    def __init__(
        self,
        source: Source | ShardSource,
        seed: int,
        cache: str,
        batch_size: int,
        store_size: int,
        root: str | None = None,
        search: str | None = None,
        store: Literal["crop", "square", "pad"] = "crop",
        max_unreadable: float = 0.01,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        group_by: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        eval_size: int | None = None,
    ):
        super().__init__()
        if batch_size < 1:
            raise DataError(f"data.batch_size={batch_size}: set it to 1 or more")
        if eval_size is not None and eval_size > store_size:
            raise DataError(f"data.eval_size={eval_size} exceeds data.store_size={store_size}; set it to that or less")
        self.source, self.root, self.search, self.cache = source, root, search, cache
        self.seed, self.batch_size = seed, batch_size
        self.store_size, self.store, self.max_unreadable = store_size, store, max_unreadable
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.group_by = group_by
        self.mean, self.std, self.eval_size = mean, std, eval_size
        self._position: dict[str, Any] = {"batches": 0}

    @property
    def at_hand(self) -> bool:
        """Whether opening the images downloads nothing."""
        if isinstance(self.source, ShardSource):
            return True
        search = Path(self.search).expanduser() if self.search else None
        return not isinstance(resolve(self.source, self.root, search), TorchvisionSource)

    def open(self) -> None:
        """Open the stored images, decoding them first where they are not; then split them. Raises DataError."""
        self.stored = open_images(
            self.source,
            store_size=self.store_size,
            store=self.store,
            cache=Path(self.cache).expanduser(),
            max_unreadable=self.max_unreadable,
            root=self.root,
            search=Path(self.search).expanduser() if self.search else None,
        )
        self.classes = self.stored.classes
        splits = carve(self.stored.splits, self.val_fraction, self.test_fraction, self.split_seed, self.group_by)
        self.train, self.val, self.test, self.aside = splits
        self.pretrain = self._with_unlabeled(self.train)
        mean, std = self.train.statistics()
        self.mean, self.std = self.mean or mean, self.std or std

    def open_for_training(self) -> None:
        """The same; raises DataError also when there are too few images for a batch."""
        self.open()
        if self.batch_size > len(self.pretrain):
            raise DataError(
                f"data.batch_size={self.batch_size}, but there are {len(self.pretrain)} images to train on; "
                f"set data.batch_size={len(self.pretrain)} or less"
            )

    def _with_unlabeled(self, train: ImageSet) -> ImageSet:
        """What methods learn from: the training images without validation, and those that never had a label."""
        extra = self.stored.splits.get("unlabeled")
        return train if extra is None else replace(train, rows=torch.cat([train.rows, extra.rows]), labels=None)

    def train_dataloader(self) -> BatchLoader:
        self.loader = BatchLoader(self.pretrain, self.batch_size, self.seed, rank(), world_size())
        self.loader.load_state_dict(self._position)
        return self.loader

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands. Lightning would give it back its own state only in mid-epoch."""
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict

    @property
    def num_batches(self) -> int:
        """Batches of an epoch; the last partial one is dropped."""
        return len(self.pretrain) // self.batch_size

    def sample(self, n: int) -> UInt8[Tensor, "m 3 side side"]:
        """At most `n` of the images to learn from, evenly spaced over the set."""
        return evenly(self.pretrain, n)

    def to_watch(self, n: int) -> UInt8[Tensor, "m 3 side side"]:
        """At most `n` images for a method to be watched on: of validation, or of all where nothing was set aside."""
        return evenly(self.val or self.pretrain, n)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How an Encoder prepares these images; see `nn.Encoder`."""
        return {"mean": self.mean, "std": self.std, "resize": None, "crop": self.eval_size}

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the images of a run, their roles and their units."""
        keys = ("val_fraction", "test_fraction", "split_seed", "batch_size", *(["group_by"] if self.group_by else []))
        return {
            "fingerprint": self.stored.fingerprint,
            **{key: getattr(self, key) for key in keys},
        } | self.preprocessing

    @property
    def facts(self) -> dict[str, Any]:
        """Name, fingerprint and sizes, as records and results state them."""
        sizes = {"pretrain": self.pretrain, "train": self.train, "val": self.val, "test": self.test}
        return {
            "name": self.source.name,
            "fingerprint": self.stored.fingerprint,
            "store_size": self.store_size,
            "classes": len(self.classes),
            **{name: 0 if images is None else len(images) for name, images in sizes.items()},
            "set_aside": list(self.aside),
            "split_seed": self.split_seed,
            "skipped": self.stored.skipped,
            **({"group_by": self.group_by} if self.group_by else {}),
        }

    @property
    def description(self) -> str:
        """One line for the screen."""
        facts = self.facts
        aside = f" ({' and '.join(self.aside)} set aside here)" if self.aside else ""
        counts = ", ".join(f"{facts[split]:,} {split}" for split in ("pretrain", "val", "test"))
        kind = f"{len(self.classes)} classes" if self.classes else "no labels"
        return f"{facts['name']}, {self.store_size} px, {kind}: {counts}{aside}"


def evenly(images: ImageSet, n: int) -> UInt8[Tensor, "m 3 side side"]:
    """At most `n` images of a set, evenly spaced over it."""
    return images.gather(torch.linspace(0, len(images) - 1, min(n, len(images)), dtype=torch.float64).long())
