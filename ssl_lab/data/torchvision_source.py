"""The classification sets that torchvision can fetch."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_lab.data.errors import DataError
from ssl_lab.data.source import SPLITS, UNLABELLED, Item, Plan, plan_arrays


class _Recipe(NamedTuple):
    """A torchvision class, and its arguments for each split."""

    kind: str
    splits: dict[str, dict[str, Any]]


def _named(*splits: str) -> dict[str, dict[str, Any]]:
    return {split: {"split": split} for split in splits}


_FLAGS: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
RECIPES = {
    "cifar10": _Recipe("CIFAR10", _FLAGS),
    "cifar100": _Recipe("CIFAR100", _FLAGS),
    "stl10": _Recipe("STL10", _named("train", "test", "unlabeled")),
    "svhn": _Recipe("SVHN", _named("train", "test")),
    "mnist": _Recipe("MNIST", _FLAGS),
    "fashion_mnist": _Recipe("FashionMNIST", _FLAGS),
    "eurosat": _Recipe("EuroSAT", {"train": {}}),
    "food101": _Recipe("Food101", _named("train", "test")),
    "flowers102": _Recipe("Flowers102", _named("train", "val", "test")),
    "oxford_iiit_pet": _Recipe("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "dtd": _Recipe("DTD", _named("train", "val", "test")),
    "gtsrb": _Recipe("GTSRB", _named("train", "test")),
    "fgvc_aircraft": _Recipe("FGVCAircraft", _named("train", "val", "test")),
    "caltech101": _Recipe("Caltech101", {"train": {}}),
}


class TorchvisionSource:
    """One of torchvision's classification sets (`RECIPES`), downloaded with progress when absent.

    The set itself never changes, so a cache of it is opened without the files it was made from.

    name: of the set. folder: where downloads are kept, as `<folder>/<name>`; what torchvision left in the
    folder itself is found too.
    """

    def __init__(self, name: str, folder: str):
        self.name, self.folder = name, folder
        self._sets: dict[str, Any] = {}

    def signature(self) -> str:
        """Raises DataError for a name that torchvision's sets do not have."""
        if self.name not in RECIPES:
            raise DataError(f"data.source.name={self.name} is unknown; allowed: {', '.join(RECIPES)}")
        return f"torchvision {self.name}"

    def plan(self) -> Plan:
        """Opens the set, downloading it when it is absent. Raises DataError when that fails."""
        self.signature()
        folder = Path(self.folder).expanduser()
        # Partial downloads must not look like complete ones: they are made beside and renamed.
        sets = self._open(folder / self.name) or self._open(folder) or self._fetch(folder)
        self._sets = sets
        sizes = {split: len(dataset) for split, dataset in sets.items()}
        return plan_arrays(sizes, _classes(sets["train"]))

    def read(self) -> Iterator[Item]:
        """The workers decode."""
        row = 0
        for split in SPLITS:
            dataset = self._sets.get(split, ())
            for index in range(len(dataset)):
                yield Item(row + index, partial(_load, dataset, index, split != "unlabeled"))
            row += len(dataset)

    def _open(self, root: Path, download: bool = False) -> dict[str, Any]:
        """The torchvision set of each split; nothing when it is not (wholly) there."""
        if not root.is_dir():
            return {}
        from torchvision import datasets  # here, because importing it takes seconds

        recipe = RECIPES[self.name]
        kind = getattr(datasets, recipe.kind)
        try:
            return {split: kind(str(root), download=download, **chosen) for split, chosen in recipe.splits.items()}
        except (RuntimeError, FileNotFoundError):  # what torchvision raises when files are missing
            if download:
                raise
            return {}

    def _fetch(self, folder: Path) -> dict[str, Any]:
        partial_root: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial_root = Path(tempfile.mkdtemp(prefix=f".{self.name}.", suffix=".partial", dir=folder))
            self._open(partial_root, download=True)
            partial_root.replace(folder / self.name)
        except (OSError, RuntimeError) as error:  # OSError: no network, no disk space; RuntimeError: wrong checksum
            raise DataError(
                f"data={self.name} is not in {folder}, and downloading it failed ({error}): put a folder {self.name}/ "
                f"or an archive such as {self.name}.tar.xz of class folders into $SSL_LAB_DATA, "
                f"or give data={self.name} data.root=<folder or archive>"
            ) from error
        finally:
            if partial_root is not None:
                shutil.rmtree(partial_root, ignore_errors=True)
        return self._open(folder / self.name)


def _load(dataset: Any, index: int, labelled: bool) -> tuple[bytes | NDArray[np.uint8], int]:
    image, label = dataset[index]
    return np.asarray(image.convert("RGB")), int(label) if labelled else UNLABELLED


def _classes(dataset: Any) -> list[str]:
    """Names of the classes; their numbers where torchvision knows no names (house numbers, traffic signs)."""
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if names:
        return [str(name) for name in names]
    return [str(label) for label in range(43 if type(dataset).__name__ == "GTSRB" else 10)]
