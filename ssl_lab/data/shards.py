"""Sets larger than memory and disk cache: pictures in tar files (WebDataset's form), decoded as they are asked for."""

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_lab.data.archive import StrictInfo
from ssl_lab.data.errors import DataError
from ssl_lab.data.picture import SUFFIXES, Square, to_pixels
from ssl_lab.data.progress import say, track
from ssl_lab.data.source import SPLITS, UNLABELLED, Source

WINDOW = 16  # shards whose pictures are shuffled together
SAMPLE = 2000  # pictures that moments are taken from
MOST_TARS = 500  # that are written at once; systems open no more than about 1,000 files


class Index(NamedTuple):
    """Where each picture lies."""

    shards: NDArray[np.int32]  # (n,) number of its file
    offsets: NDArray[np.int64]  # (n,) of its first byte there
    sizes: NDArray[np.int64]  # (n,) bytes
    labels: NDArray[np.int64]  # (n,) UNLABELLED where there is none


class Shards:
    """A storage of pictures in tar files. Each is read where the index says, so that any order can be asked for.

    files: the tars. index: of their pictures. names: of the pictures, for messages. square: how they become squares.
    A picture that cannot be decoded gives its place to the next one, and that is said once.
    """

    def __init__(self, files: Sequence[Path], index: Index, names: Sequence[str], square: Square):
        self.files, self.index, self.names, self.square = list(files), index, names, square
        self.bad: set[int] = set()

    @property
    def side(self) -> int:
        return self.square.side

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(32, os.cpu_count() or 1), thread_name_prefix="shards")

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack(list(self._pool.map(self._picture, rows.tolist()))).transpose(0, 3, 1, 2)

    def moments(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of at most 2,000 of the pictures, evenly spaced: all would have to be decoded."""
        some = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64)]
        sums = np.zeros((2, 3))
        for part in np.array_split(some, max(1, len(some) // 256)):
            pixels = self.take(part).astype(np.float64)
            sums += [pixels.sum((0, 2, 3)), np.square(pixels).sum((0, 2, 3))]
        return sums / (len(some) * self.side**2)

    def shuffled(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Shards in random order, and the pictures of each sixteen of them shuffled together: reading stays local."""
        place = generator.permutation(len(self.files))[self.index.shards[rows]] // WINDOW
        return np.lexsort((generator.permutation(len(rows)), place))

    def _picture(self, row: int) -> NDArray[np.uint8]:
        for candidate in range(row, row + len(self.names)):
            number = candidate % len(self.names)
            try:
                return to_pixels(self._bytes(number), self.square)[0]
            except Exception as error:  # damaged files make decoders raise nearly anything; the reason is told
                if number not in self.bad:
                    self.bad.add(number)
                    say(f"{self.names[number]} cannot be read ({error}): the next picture takes its place")
                if len(self.bad) > max(10, len(self.names) // 100):
                    break
        raise DataError(
            f"more than {len(self.bad) - 1} pictures of {self.files[0].parent} cannot be read: make them anew"
        )

    def _bytes(self, row: int) -> bytes:
        with self.files[self.index.shards[row]].open("rb") as file:
            return os.pread(file.fileno(), int(self.index.sizes[row]), int(self.index.offsets[row]))


class ShardSource:
    """Tar files as WebDataset writes them: `key.jpg` with `key.cls` beside it where there are labels.

    root: a pattern, with braces (`train-{000000..000146}.tar`) or `*`, or a folder of tars; null where `data.root`
    gives it. How a file's name begins puts it into a split: train, val, test, unlabeled; others are train.
    `classes.json` beside them names the classes.
    """

    def __init__(self, root: str | None = None, name: str = "shards"):
        self.root, self.name = root, name

    def files(self) -> list[Path]:
        """The tars, in order. Raises DataError when there are none, or one that a brace names is missing."""
        if not self.root:
            raise DataError("data.root is not set: data=webdataset data.root=<folder of tars>")
        given = Path(self.root).expanduser()
        if given.is_dir():
            found = sorted(given.glob("*.tar"))
        else:
            found = [file for pattern in braces(str(given)) for file in _glob(Path(pattern))]
        if missing := [file for file in found if not file.is_file()]:
            raise DataError(f"data.root={self.root}: {missing[0]} does not exist, and {len(missing) - 1} more")
        if not found:
            raise DataError(f"data.root={self.root} names no tar file; `ssl-lab shard data=folder` writes some")
        return found

    def open(self, square: Square, cache: Path | None) -> tuple[Shards, NDArray[np.uint8], list[str], str]:
        """The storage, the split of each picture, the classes and a fingerprint; the index is kept in the cache."""
        files = self.files()
        index, names = self._index(files, cache)
        of_file = np.array([_split(file) for file in files], np.uint8)
        listed = files[0].parent / "classes.json"
        most = int(index.labels.max(initial=-1)) + 1
        classes = json.loads(listed.read_text()) if listed.is_file() else [str(number) for number in range(most)]
        if most > len(classes):
            raise DataError(f"{listed} names {len(classes)} classes, and a label is {most - 1}: write it anew")
        digest = hashlib.blake2b(digest_size=16)
        for array in (*index, of_file):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(json.dumps([classes, names, square]).encode())
        return Shards(files, index, names, square), of_file[index.shards], classes, digest.hexdigest()

    def _index(self, files: list[Path], cache: Path | None) -> tuple[Index, list[str]]:
        state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        key = hashlib.blake2b(json.dumps(state).encode(), digest_size=8).hexdigest()
        kept = None if cache is None else cache / f"{self.name}-{key}.npz"
        if kept is not None and kept.is_file():
            with np.load(kept) as found:
                return Index(*(found[field] for field in Index._fields)), found["names"].tolist()
        entries, names = list[tuple[int, int, int, int]](), list[str]()
        with track(f"{self.name}: shards", len(files), shown=True) as advance:
            for number, file in enumerate(files):
                for name, offset, size, label in pictures(file):
                    entries.append((number, offset, size, label))
                    names.append(f"{file.name}/{name}")
                advance(1)
        if not entries:
            raise DataError(f"data.root={self.root}: its {len(files)} files hold no pictures by their suffix")
        columns = np.array(entries, np.int64).T
        index = Index(columns[0].astype(np.int32), *columns[1:])
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_name(f".{kept.name}.{os.getpid()}.npz")
            np.savez(temporary, names=np.array(names), **index._asdict())
            temporary.replace(kept)
        return index, names


def pictures(file: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, offset, bytes and label of each picture of a tar. Raises DataError when it is cut off."""
    found, labels = list[tuple[str, str, int, int]](), dict[str, int]()
    end = file.stat().st_size
    try:
        with tarfile.open(file, "r:", tarinfo=StrictInfo) as tar:
            for member in tar:
                folder, slash, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{folder}{slash}{stem}"
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError("its last member is cut off")
                if member.isreg() and suffix == "cls":
                    content = tar.extractfile(member)
                    labels[key] = int(content.read()) if content else UNLABELLED
                elif member.isreg() and f".{suffix.rpartition('.')[2].lower()}" in SUFFIXES:
                    found.append((member.name, key, member.offset_data, member.size))
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(f"{file} is no whole tar file of pictures ({error}): make it anew") from error
    for name, key, offset, size in found:
        yield name, offset, size, labels.get(key, UNLABELLED)


def braces(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: `{000..002}` counts, `{a,b}` lists."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices: list[list[str]] = []
    for number, part in enumerate(parts):
        counted = re.fullmatch(r"(\d+)\.\.(\d+)", part) if number % 2 else None
        if counted:
            first, last = counted.groups()
            width = len(first) if first.startswith("0") or len(first) == len(last) else 0
            choices.append([str(i).zfill(width) for i in range(int(first), int(last) + 1)])
        else:
            choices.append(part.split(",") if number % 2 else [part])
    return ["".join(words) for words in product(*choices)]


def _glob(pattern: Path) -> list[Path]:
    return sorted(pattern.parent.glob(pattern.name)) if "*" in pattern.name else [pattern]


def _split(file: Path) -> int:
    return next((n for n, split in enumerate(SPLITS) if file.name.startswith(split)), 0)


def write_shards(source: Source, to: Path, pictures_each: int) -> list[Path]:
    """Write a source's pictures, as they are encoded, into tars of about so many pictures, mixed over classes.

    With `classes.json`, and `key.cls` where there are labels. Raises DataError when `to` holds something already;
    nothing half-written is left behind.
    """
    if to.exists() and any(to.iterdir()):
        raise DataError(f"to={to} holds something already: name an empty or a new folder")
    building = to.with_name(f".{to.name}.{os.getpid()}.partial")
    building.mkdir(parents=True)
    try:
        _fill(source, building, pictures_each)
        if to.exists():
            to.rmdir()
        building.replace(to)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return sorted(to.glob("*.tar"))


def _fill(source: Source, folder: Path, pictures_each: int) -> None:
    plan = source.plan()
    if plan.masks:
        raise DataError(f"{source.name}: shards hold no masks; read the folder itself, with data=masks")
    counts = np.bincount(plan.splits, minlength=len(SPLITS))
    if (tars := int((-(-counts // pictures_each)).sum())) > MOST_TARS:
        raise DataError(
            f"pictures={pictures_each} makes {tars:,} tars, all written side by side, and {MOST_TARS} is the most: set "
            f"pictures={-(-len(plan.names) // (MOST_TARS - len(SPLITS)))} or more"
        )
    shard = np.empty(len(plan.names), np.int64)
    for number in range(len(SPLITS)):
        rows = np.flatnonzero(plan.splits == number)
        shard[np.random.default_rng(0).permutation(rows)] = np.arange(len(rows)) // pictures_each
    with ExitStack() as stack, track(f"{source.name}: shards", len(plan.names), shown=True) as advance:
        opened: dict[str, tarfile.TarFile] = {}
        for item in source.read():
            name = f"{SPLITS[plan.splits[item.row]]}-{shard[item.row]:06d}.tar"
            if name not in opened:
                opened[name] = stack.enter_context(tarfile.open(folder / name, "w"))
            content, label = item.load()
            suffix = Path(plan.names[item.row]).suffix.lower() if isinstance(content, bytes) else ".png"
            _add(opened[name], f"{item.row:09d}{suffix}", content if isinstance(content, bytes) else _png(content))
            if label != UNLABELLED:
                _add(opened[name], f"{item.row:09d}.cls", str(label).encode())
            advance(1)
    (folder / "classes.json").write_text(json.dumps(plan.classes, indent=1))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, BytesIO(content))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
