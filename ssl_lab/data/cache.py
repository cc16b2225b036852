"""Decoded pictures on disk: written once, opened at once, by any number of processes."""

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_lab.data.decode import HOLE, Arrays
from ssl_lab.data.errors import DataError
from ssl_lab.data.image_set import Names
from ssl_lab.data.progress import say
from ssl_lab.data.source import UNLABELLED

FORMAT = 1  # raise it when decoding or the files below change: caches of older formats are then made anew
SPARE = 64 << 20  # bytes to leave free on the disk


class Content(NamedTuple):
    """What decoding a source gave."""

    meta: dict[str, Any]  # plain values: settings, classes, fingerprint, mean, std, gray, skipped
    arrays: Arrays
    names: Names  # (n,) where each row came from


def cache_path(cache: Path, name: str, signature: str, settings: dict[str, Any]) -> Path:
    """The folder for a source in this state under these settings."""
    state = json.dumps([FORMAT, signature, settings], sort_keys=True)
    return cache / f"{name}-{hashlib.blake2b(state.encode(), digest_size=8).hexdigest()}"


def load_cache(path: Path) -> Content | None:
    """What a cache holds; None when there is none, or when it is damaged (and says so)."""
    if not path.exists():
        return None
    try:
        meta = json.loads((path / "meta.json").read_text())
        for name, size in meta["bytes"].items():
            if (path / name).stat().st_size != size:
                raise ValueError(f"{name} has not the {size:,} bytes that were written")
        # "c": to numpy the pages are writable copies, so torch does not warn; the file itself is never changed.
        files = (path / f"{name}.npy" for name in Arrays._fields)
        arrays = Arrays(*(np.load(file, mmap_mode="c") for file in files if file.name in meta["bytes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"cache {path} is damaged ({error}): it is made anew")
        return None
    return Content(meta, arrays, Names(path / "names.txt"))


@contextmanager
def new_cache(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it on success and removed on any failure, Ctrl-C included.

    When another process was faster, its cache stays. Raises DataError when the disk cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        prefix = f".{path.name}.{socket.gethostname()}.{os.getpid()}."
        building = Path(tempfile.mkdtemp(prefix=prefix, suffix=".partial", dir=path.parent))
    except OSError as error:
        raise DataError(f"paths.cache={path.parent} cannot be written ({error}): set paths.cache=<folder>") from error
    try:
        yield building
        building.chmod(0o755)  # temporary folders are private, a cache is for all
        _rename(building, path)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DataError(
            f"the disk of paths.cache={path.parent} is full: free some, or set paths.cache=<folder>"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _rename(building: Path, path: Path) -> None:
    if path.exists() and load_cache(path) is None:
        damaged = building.with_suffix(".damaged")
        path.replace(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        building.replace(path)
    except OSError:
        # Another process has put its cache there: a folder that is not empty is not replaced.
        if not path.exists():
            raise


def _sweep(path: Path) -> None:
    """Removes what processes of this machine left behind when they were killed."""
    for left in path.parent.glob(f".{path.name}.{socket.gethostname()}.*"):
        pid = left.name.split(".")[-3]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)


def allocate(folder: Path, n: int, side: int, masks: bool) -> Arrays:
    """Empty arrays for n pictures in files of a new cache. Raises DataError when the disk lacks the space."""
    shape, file = (n, 3, side, side), folder / "images.npy"
    need, free = int(np.prod(shape)) + 60 * n + masks * n * side**2, shutil.disk_usage(folder).free
    lack = DataError(
        f"paths.cache={folder.parent} has {free / 2**30:.1f} GiB free, {n:,} pictures of {side} px need "
        f"{(need + SPARE) / 2**30:.1f}: free some, set paths.cache=<folder on a larger disk>, or lower data.store_size"
    )
    if need + SPARE > free:
        raise lack
    images = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    try:
        if hasattr(os, "posix_fallocate"):
            # Takes the space now: writing to a mapped file on a full disk would kill the process (SIGBUS).
            with file.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    except OSError as error:
        raise lack from error
    return Arrays(
        images,
        *_small(n),
        np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (n, side, side)) if masks else None,
    )


def in_memory(n: int, side: int, masks: bool) -> Arrays:
    """Empty arrays for n pictures."""
    return Arrays(
        np.zeros((n, 3, side, side), np.uint8), *_small(n), np.zeros((n, side, side), np.uint8) if masks else None
    )


def _small(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    return np.full(n, UNLABELLED, np.int64), np.zeros((n, 2, 3), np.int64), np.full(n, HOLE, np.uint8)


def fill(folder: Path, arrays: Arrays, names: list[str], skipped: list[str], meta: dict[str, Any]) -> None:
    """Writes all but images and masks, which are there already; last the meta, with the size of every file."""
    for mapped in (arrays.images, arrays.masks):
        if isinstance(mapped, np.memmap):
            mapped.flush()
    for name in ("labels", "sums", "splits"):
        np.save(folder / f"{name}.npy", getattr(arrays, name))
    # JSON strings: a name with a line break stays on its line.
    (folder / "names.txt").write_text("".join(json.dumps(name) + "\n" for name in names), encoding="ascii")
    (folder / "skipped.txt").write_text("".join(line + "\n" for line in skipped), encoding="ascii")
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    (folder / "meta.json").write_text(json.dumps(meta | {"bytes": sizes}, indent=1))
