"""Folders of pictures, for the tests of what reads them."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from ssl_lab.data import FolderSource, Stored, open_images


def encoded(value: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), (value % 256, 3 * value % 256, 7)).save(file, "PNG")
    return file.getvalue()


def fill(root: Path, names: list[str]) -> Path:
    """A different picture for each name."""
    for value, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(value) if not name.endswith((".txt", ".json")) else b"{}")
    return root


def read(root: Path | str, **settings) -> Stored:
    return open_images(FolderSource(str(root)), store_size=8, **({"cache": None, "progress": False} | settings))


def counts(stored: Stored) -> dict[str, int]:
    return {split: len(images) for split, images in stored.splits.items()}


CLASSES = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
SPLITS = [f"{split}/{name}" for split in ("train", "val", "test") for name in CLASSES]
