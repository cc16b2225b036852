"""Pictures with the class of each pixel."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath

from ssl_lab.data.errors import DataError
from ssl_lab.data.folder import FolderSource, load
from ssl_lab.data.layout import BESIDE_IMAGES
from ssl_lab.data.listing import Member
from ssl_lab.data.source import UNLABELLED, Item, Plan


class MaskSource(FolderSource):
    """A folder or an archive of pictures in `images/`, each with a mask of the same name in a folder beside.

    The folder may be called labels, masks, annotations or segmentations; a mask's pixels are numbers of classes, from 0
    on. What lies beyond the last class is void: neither learned nor counted. `train/ val/ test/` as elsewhere.

    root: the folder or archive. name: for messages and the cache's folder. classes: their names, in order.
    """

    def __init__(self, root: str | None = None, name: str = "masks", classes: Sequence[str] = ()):
        super().__init__(root, name)
        self.classes = list(classes)
        self._masks: list[Member] = []  # of each row

    def signature(self) -> str:
        """That of the files, and the classes: they are kept beside the pixels."""
        return f"{super().signature()} masks {self.classes}"

    def plan(self) -> Plan:
        """Lists the pictures and their masks. Raises DataError when one has none, or the classes no names."""
        if not self.classes:
            raise DataError(
                "data.source.classes is not set: name the classes of the masks, in the order of their numbers, as in "
                "'data.source.classes=[sky,road,car]'"
            )
        self._listing = listing = self._listing or self._container().listing()
        plan = super().plan()
        masks = {_key(member.name): member for member in listing.members if _is_mask(member.name)}
        names = [entry.member.name for entry in self.placed]
        lacking = [name for name in names if _key(name) not in masks]
        if lacking:
            raise DataError(
                f"{self.root}: {len(lacking)} of {len(names)} pictures have no mask, such as {lacking[0]}; a mask has "
                f"its picture's name, in a folder {' or '.join(sorted(BESIDE_IMAGES))} beside images/"
            )
        self._masks = [masks[_key(name)] for name in names]
        ignored = {reason: count for reason, count in plan.ignored.items() if "labels beside" not in reason}
        return plan._replace(classes=self.classes, masks=True, ignored=ignored)

    def read(self) -> Iterator[Item]:
        """Each picture and each mask once, in the order of the archive."""
        wanted = {entry.member.key: entry.member for entry in self.placed}
        rows = {key: row for row, key in enumerate(wanted)}
        masked = {member.key: row for row, member in enumerate(self._masks)}
        for encoded in self._container().read(wanted | {member.key: member for member in self._masks}):
            row = masked.get(encoded.key, rows.get(encoded.key, -1))
            yield Item(row, partial(load, encoded.fetch, UNLABELLED), encoded.held, encoded.key in masked)


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.lower()).parts[:-1]


def _is_mask(name: str) -> bool:
    return not BESIDE_IMAGES.isdisjoint(_parts(name))


def _key(name: str) -> tuple[str, ...]:
    """What a picture and its mask have in common: the path without the folder that tells them apart, no suffix."""
    kept = [part for part in _parts(name) if part != "images" and part not in BESIDE_IMAGES]
    return (*kept, PurePosixPath(name).stem)
