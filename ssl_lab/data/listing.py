"""The picture files that a folder or an archive holds, and what else was found there."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol, runtime_checkable

from ssl_lab.data.picture import SUFFIXES

LARGEST_FILE = 1 << 30  # bytes of one encoded picture; more is refused instead of filling the memory


class Member(NamedTuple):
    """A picture file in a container. `key` is its place there: names need not be unique in an archive."""

    name: str  # relative, `/` between its parts
    key: int
    size: int  # bytes
    changed: int = 0  # time of the last change in nanoseconds; 0 in archives, whose own time counts


class Encoded(NamedTuple):
    """The bytes of a picture file, ready to be fetched by a worker."""

    key: int
    fetch: Callable[[], bytes]
    held: int = 0  # bytes kept in memory until then


class Listing(NamedTuple):
    """The pictures of a container, and how many other entries were left out, by reason."""

    members: list[Member]
    ignored: Counter[str]

    def add(self, name: str, key: int, size: int, changed: int = 0) -> None:
        """Takes a file into the list when it is a picture by name, else counts why not."""
        # Not pathlib: it would take longer than all the rest of listing an archive.
        parts = [part for part in name.split("/") if part not in ("", ".")]
        reason = "unsafe name (absolute or with ..)" if name.startswith("/") else _refuse(parts, size)
        if reason:
            self.ignored[reason] += 1
        else:
            self.members.append(Member("/".join(parts), key, size, changed))


@runtime_checkable
class Container(Protocol):
    """Lists its pictures, and gives the bytes of wanted ones in the order that is cheapest to read."""

    def listing(self) -> Listing:
        """Every picture by name. Raises DataError when the container cannot be read to its end."""

    def read(self, wanted: dict[int, Member]) -> Iterator[Encoded]:
        """Each wanted member (by key) once. Raises DataError as `listing` does."""


def _refuse(parts: list[str], size: int) -> str | None:
    """Why a file is no part of a set of pictures, or None."""
    if not parts or ".." in parts:
        return "unsafe name (absolute or with ..)"
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return "hidden file"
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if suffix not in SUFFIXES:
        return f"{suffix} file" if suffix else "file without suffix"
    return f"file above {LARGEST_FILE >> 20} MiB" if size > LARGEST_FILE else None
