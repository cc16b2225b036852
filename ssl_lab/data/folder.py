"""Pictures in folders, on disk or in an archive."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_lab.data.archive import ARCHIVES, open_archive
from ssl_lab.data.directory import Directory
from ssl_lab.data.errors import DataError
from ssl_lab.data.layout import Layout, Placed, arrange
from ssl_lab.data.listing import Container, Listing
from ssl_lab.data.source import UNLABELLED, Item, Plan


class FolderSource:
    """A folder or an archive (.zip, .tar, .tar.gz, .tar.xz, .tar.bz2) of pictures.

    With class folders or flat and unlabelled; with or without train/ val/ test/ unlabeled/ on top; in any number
    of wrapping folders. Files that are no pictures by their suffix are left out. See `layout.arrange`.

    root: the folder or archive; null where `data.root` gives it. name: for messages and the cache's folder, and what
    `paths.data` is searched for. only: the class folders to take, where not all are wanted.
    """

    def __init__(self, root: str | None = None, name: str = "folder", only: Sequence[str] = ()):
        self.root, self.name, self.only = root, name, list(only)
        self._listing: Listing | None = None
        self._layout: Layout | None = None

    def at(self, root: str) -> "FolderSource":
        """The same source of another folder or archive."""
        moved = copy(self)
        moved.root = root
        return moved

    def signature(self) -> str:
        """Of an archive its path, size and time; of a folder a digest of all names, sizes and times.

        Raises DataError when there is nothing at the root.
        """
        path = self._path()
        only = f" only {sorted(self.only)}" if self.only else ""
        if path.is_dir():
            self._listing = Directory(path).listing()
            return f"folder {_digest(self._listing)}{only}"
        state = path.stat()
        return f"archive {path.resolve()} {state.st_size} {state.st_mtime_ns}{only}"

    def plan(self) -> Plan:
        """Lists the pictures. Raises DataError when there are none, or the archive is damaged."""
        # What `signature` found is used once: it may be old the next time.
        listing, self._listing = self._listing or self._container().listing(), None
        if not listing.members:
            raise DataError(
                f"{self._path()} holds no pictures{_told(listing.ignored)}; a picture is told by its suffix"
            )
        self._layout = layout = self._wanted(arrange(listing.members))
        splits = np.array([entry.split for entry in layout.placed], np.uint8)
        ignored = listing.ignored + layout.ignored
        return Plan(splits, [entry.member.name for entry in layout.placed], layout.classes, dict(ignored))

    def read(self) -> Iterator[Item]:
        """Each picture once, in the order of the archive."""
        rows = {entry.member.key: row for row, entry in enumerate(self.placed)}
        for encoded in self._container().read({entry.member.key: entry.member for entry in self.placed}):
            row = rows[encoded.key]
            yield Item(row, partial(load, encoded.fetch, self.placed[row].label), encoded.held)

    @property
    def placed(self) -> list[Placed]:
        """The pictures that `plan` found, in the order of the set."""
        if self._layout is None:
            raise RuntimeError("read() follows plan()")
        return self._layout.placed

    def _wanted(self, layout: Layout) -> Layout:
        """The classes that `only` names, or all; pictures without a class stay. Raises DataError for unknown ones."""
        if not self.only:
            return layout
        unknown = sorted(set(self.only) - set(layout.classes))
        if unknown:
            raise DataError(f"data.source.only: {self._path()} has no class folders {', '.join(unknown[:5])}")
        classes = sorted(self.only)
        number = {layout.classes.index(name): classes.index(name) for name in classes} | {UNLABELLED: UNLABELLED}
        placed = [e._replace(label=number[e.label]) for e in layout.placed if e.label in number]
        left_out = len(layout.placed) - len(placed)
        return Layout(placed, classes, layout.ignored + Counter({"picture of a class that is not wanted": left_out}))

    def _path(self) -> Path:
        if not self.root:
            raise DataError(f"data.root is not set: data={self.name} data.root=<folder, or {' '.join(ARCHIVES)}>")
        path = Path(self.root).expanduser()
        if not path.exists():
            raise DataError(
                f"data.root={self.root} does not exist{_near(path)}: give a folder, or {' '.join(ARCHIVES)}"
            )
        return path

    def _container(self) -> Container:
        path = self._path()
        return Directory(path) if path.is_dir() else open_archive(path)


def load(fetch: Callable[[], bytes], label: int) -> tuple[bytes | NDArray[np.uint8], int]:
    """For `Item.load` of what a container hands out: partial(load, encoded.fetch, label)."""
    return fetch(), label


def _digest(listing: Listing) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for member in sorted(listing.members):
        digest.update(os.fsencode(member.name) + f"\0{member.size}\0{member.changed}\0".encode())
    return digest.hexdigest()


def _told(ignored: Counter[str]) -> str:
    found = ", ".join(f"{count} x {reason}" for reason, count in ignored.most_common(4))
    return f" (left out: {found})" if found else " (it is empty)"


def _near(path: Path) -> str:
    """What the nearest folder that does exist holds, for someone who mistyped a path."""
    parent = next(folder for folder in path.absolute().parents if folder.is_dir())
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    return f" ({parent} holds {', '.join(names[:6]) or 'nothing'}{', …' if len(names) > 6 else ''})"
