"""The one door to pictures: a source in, decoded splits out, from the cache when it holds them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_lab.data.archive import ARCHIVES
from ssl_lab.data.build import build, check_skipped
from ssl_lab.data.cache import Content, cache_path, load_cache, new_cache
from ssl_lab.data.errors import DataError
from ssl_lab.data.folder import FolderSource
from ssl_lab.data.image_set import ImageSet, Names, Pixels
from ssl_lab.data.picture import Square, Store
from ssl_lab.data.shards import ShardSource
from ssl_lab.data.source import SPLITS, UNLABELLED, Source
from ssl_lab.data.torchvision_source import TorchvisionSource


@dataclass(frozen=True)
class Stored:
    """The decoded pictures of a source.

    splits: by `train` (always), `val`, `test`, `unlabeled` (pretrains beside train, never evaluated).
    fingerprint: digest of pixels, labels, classes and splits, the same on every machine that decodes alike.
    mean, std: of the train split, in [0, 1]; those of a part of it by `ImageSet.statistics`. gray: no colour
    anywhere. skipped: unreadable files; `folder/skipped.txt` lists them. folder: the cache, None in memory.
    """

    splits: dict[str, ImageSet]
    classes: list[str]
    fingerprint: str
    mean: list[float]
    std: list[float]
    gray: bool
    skipped: int
    folder: Path | None


def resolve(source: Source, root: str | None, search: Path | None) -> Source:
    """The source to read: `data.root` comes first, then what `paths.data` holds, then a download.

    Raises DataError when a root is given to a source that takes none.
    """
    files = source if isinstance(source, FolderSource) else FolderSource(name=source.name)
    if not isinstance(source, FolderSource | TorchvisionSource):
        if root is not None:
            raise DataError(
                f"data.root={root}, but data={source.name} reads no files: use data=folder data.root={root}"
            )
        return source
    place = root or files.root or _found(source.name, search)
    return files.at(place) if place else source


def _found(name: str, search: Path | None) -> str | None:
    """The folder or archive of that name in `search`."""
    places = [] if search is None else [search / f"{name}{suffix}" for suffix in ("", *ARCHIVES)]
    return next((str(place) for place in places if place.exists()), None)


def open_images(
    source: Source | ShardSource,
    *,
    store_size: int,
    store: Store = "crop",
    cache: Path | None,
    max_unreadable: float = 0.01,
    root: str | None = None,
    search: Path | None = None,
    progress: bool = True,
) -> Stored:
    """Opens a source: from the cache at once, else decoded and kept there for the next time.

    store_size: side of the stored squares in pixels. store: crop, square or pad. cache: folder of the caches;
    None keeps the pictures in memory. max_unreadable: part of the files that may be skipped. root, search: see
    `resolve`. progress: whether to show one. Raises DataError; nothing half-written is left behind.
    """
    _check(store_size, store, max_unreadable)
    if isinstance(source, ShardSource):
        return _sharded(ShardSource(root or source.root, source.name), Square(store_size, store), cache)
    source, square = resolve(source, root, search), Square(store_size, store)
    if cache is None:
        return _stored(build(source, square, None, max_unreadable, progress), None)
    path = cache_path(cache, source.name, source.signature(), square._asdict())
    content = load_cache(path)
    if content is None:
        with new_cache(path) as folder:
            build(source, square, folder, max_unreadable, progress)
        content = load_cache(path)
    if content is None:
        raise DataError(f"cache {path} was damaged while it was written: check the disk, or set paths.cache=<folder>")
    # The cache may come from a run that allowed more.
    check_skipped(source.name, content.meta["skipped"], len(content.names), max_unreadable, f"see {path}/skipped.txt")
    return _stored(content, path)


def _sharded(source: ShardSource, square: Square, cache: Path | None) -> Stored:
    storage, of_row, classes, fingerprint = source.open(square, cache)
    of_these = partial(ImageSet, storage, classes=classes, origins=Names(storage.names))
    splits = _splits(of_row, storage.index.labels, of_these)
    if "train" not in splits:
        raise DataError(f"data.root={source.root}: no shard is for training; name them train-000000.tar …")
    mean, std = splits["train"].statistics()
    return Stored(
        splits, classes=classes, fingerprint=fingerprint, mean=mean, std=std, gray=False, skipped=0, folder=None
    )


def _splits(
    of_row: NDArray[np.uint8], labels: NDArray[np.integer[Any]], make: Callable[..., ImageSet]
) -> dict[str, ImageSet]:
    """The set of each split that holds pictures; without labels where one of its pictures has none.

    of_row: number of each picture's split. make: a set of rows and labels.
    """
    found = {}
    for number, split in enumerate(SPLITS):
        if len(rows := np.flatnonzero(of_row == number)):
            own = labels[rows]
            given = torch.from_numpy(own) if (own != UNLABELLED).all() else None
            found[split] = make(rows=torch.from_numpy(rows), labels=given)
    return found


def _check(store_size: int, store: str, max_unreadable: float) -> None:
    if store_size < 1:
        raise DataError(f"data.store_size={store_size} must be a number of pixels, at least 1: set data.store_size=32")
    if store not in get_args(Store):
        raise DataError(f"data.store={store} is unknown; allowed: {', '.join(get_args(Store))}")
    if not 0 <= max_unreadable <= 1:
        raise DataError(f"data.max_unreadable={max_unreadable} must be a part of the files, from 0 to 1 (default 0.01)")


def _stored(content: Content, folder: Path | None) -> Stored:
    meta, arrays, names = content
    storage = Pixels(torch.from_numpy(arrays.images), torch.from_numpy(arrays.sums))
    masks = None if arrays.masks is None else torch.from_numpy(arrays.masks)
    of_these = partial(ImageSet, storage, classes=meta["classes"], origins=names, masks=masks)
    splits = _splits(arrays.splits, arrays.labels, of_these)
    kept = {key: meta[key] for key in ("classes", "fingerprint", "mean", "std", "gray", "skipped")}
    return Stored(splits, folder=folder, **kept)
