"""Archives of pictures, read as they are: nothing is ever extracted to disk, so no name in them can do harm."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, cast

from ssl_lab.data.errors import DataError
from ssl_lab.data.listing import Container, Encoded, Listing, Member

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_OPENERS: dict[bytes, Callable[[Path, str], Any]] = {
    b"\xfd7zXZ\x00": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}


def open_archive(path: Path) -> Container:
    """The archive at a path, told by its first bytes. Raises DataError when it is none."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return Zip(path)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return Tar(path, opener)
    if head[257:262] == b"ustar" or (path.suffix == ".tar" and len(head) == 512):
        return Tar(path, None)
    found = f"begins with {head[:8]!r}" if head else "is empty"
    raise DataError(f"{path} is no archive: it {found}; allowed for data.root: a folder, or {' '.join(ARCHIVES)}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what readers of archives raise, when the bytes are not what they should be, into one message."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"archive {path} is cut off or damaged ({error}); nothing was kept of it. Compare its size "
            f"({path.stat().st_size:,} bytes) with the original's, then copy or download it again"
        ) from error


class Zip:
    """A zip archive. The workers inflate its members."""

    def __init__(self, path: Path):
        self.path = path

    def listing(self) -> Listing:
        """Every picture by name. Raises DataError when the archive is cut off or encrypted."""
        listing = Listing([], Counter())
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            for key, info in enumerate(archive.infolist()):
                self._add(listing, key, info)
        return listing

    def _add(self, listing: Listing, key: int, info: zipfile.ZipInfo) -> None:
        if info.flag_bits & 1:
            raise DataError(f"{self.path} is encrypted: unpack it with its password and set data.root to the folder")
        kind = info.external_attr >> 28  # type of file in Unix terms: 8 regular, 0 not recorded
        if kind not in (0, 4, 8):
            listing.ignored["link or device"] += 1
        elif not info.is_dir():
            # Old Windows tools write backslashes.
            listing.add(info.filename.replace("\\", "/"), key, info.file_size)

    def read(self, wanted: dict[int, Member]) -> Iterator[Encoded]:
        """In the order of the archive; a damaged member fails alone, when a worker reads it."""
        with _reading(self.path):
            # Not closed here: the workers still read after the last item was handed out. Its end closes it.
            archive = zipfile.ZipFile(self.path)
        infos = archive.infolist()
        for key in sorted(wanted):
            yield Encoded(key, partial(archive.read, infos[key]))


class Tar:
    """A tar archive, read from its beginning to its end; `opener` decompresses it."""

    def __init__(self, path: Path, opener: Callable[[Path, str], Any] | None):
        self.path, self.opener = path, opener

    def listing(self) -> Listing:
        """Every picture by name. Raises DataError when the archive is cut off."""
        listing = Listing([], Counter())
        for key, info, _ in self._entries():
            if info.isreg():
                listing.add(info.name, key, info.size)
            elif not info.isdir():
                listing.ignored["link or device"] += 1
        return listing

    def read(self, wanted: dict[int, Member]) -> Iterator[Encoded]:
        """In the order of the archive."""
        for key, info, archive in self._entries():
            if key in wanted:
                encoded = cast(IO[bytes], archive.extractfile(info)).read()
                yield Encoded(key, partial(bytes, encoded), len(encoded))

    def _entries(self) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile]]:
        with _reading(self.path), (self.opener or Path.open)(self.path, "rb") as file:
            # Decompressed outside tarfile, because its own streams stop after the first of several parts (pigz, pxz).
            # A plain tar is sought through, a compressed one streamed: seeking back would decompress from the start.
            mode: Literal["r:", "r|"] = "r:" if self.opener is None else "r|"
            with tarfile.open(fileobj=file, mode=mode, bufsize=1 << 15, tarinfo=StrictInfo) as archive:
                key = 0
                while (info := archive.next()) is not None:
                    yield key, info, archive
                    # tarfile keeps all it has seen: gigabytes for a million pictures.
                    archive.members = []  # type: ignore[attr-defined]
                    key += 1


class StrictInfo(tarfile.TarInfo):
    """Takes a header that is missing or damaged as damage; tarfile takes it as the archive's regular end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "StrictInfo":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, before the mark that ends a tar archive") from error
