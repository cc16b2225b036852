"""A folder of pictures on disk."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ssl_lab.data.errors import DataError
from ssl_lab.data.listing import Encoded, Listing, Member


class Directory:
    """A folder. Links are followed, except to a folder that they lie in."""

    def __init__(self, path: Path):
        self.path = path

    def listing(self) -> Listing:
        """Every picture by name. Raises DataError for a folder that may not be read."""
        listing = Listing([], Counter())
        try:
            self._walk(self.path, "", frozenset(), listing)
        except PermissionError as error:
            raise DataError(f"folder {error.filename} may not be read: allow it (chmod +rx) or move it away") from error
        return listing

    def _walk(self, folder: Path, prefix: str, above: frozenset[tuple[int, int]], listing: Listing) -> None:
        state = folder.stat()
        here = (state.st_dev, state.st_ino)
        if here in above:
            listing.ignored["link to a folder around it"] += 1
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    self._walk(Path(entry.path), f"{prefix}{entry.name}/", above | {here}, listing)
                elif entry.is_file():
                    state = entry.stat()
                    listing.add(prefix + entry.name, len(listing.members), state.st_size, state.st_mtime_ns)
                else:
                    listing.ignored["broken link or device"] += 1

    def read(self, wanted: dict[int, Member]) -> Iterator[Encoded]:
        """The workers read the files."""
        for key, member in wanted.items():
            yield Encoded(key, (self.path / member.name).read_bytes)
