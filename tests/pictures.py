"""Pictures for tests: folders of them, and sets in memory."""

from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

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


class Images:
    """A labelled set whose images are noise around the brightness of their class."""

    def __init__(self, n: int, seed: int, classes: int = 3, size: int = 8):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % classes
        noise = torch.randint(0, 160, (n, 3, size, size), generator=generator)
        self.images = (noise + 40 * self.labels[:, None, None, None]).clamp(0, 255).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, index: Tensor) -> Tensor:
        return self.images[index]

    def subset(self, index: Tensor) -> "Images":
        part = Images(3, 0)
        part.labels, part.images = self.labels[index], self.images[index]
        return part
