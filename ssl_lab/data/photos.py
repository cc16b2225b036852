"""The embedded set: patches of the colour photographs in the scikit-image wheel. Needs no network."""

import json
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from ssl_lab.data.errors import DataError
from ssl_lab.data.light import change_light, draw_light
from ssl_lab.data.source import SPLITS, Item, Plan, give, plan_arrays

# Every colour photograph of the wheel (0.25, 0.26), but the second picture of the stereo pair. The rest of its
# pictures are gray, drawn, or downloaded on demand. `scikit-learn` adds two more: sklearn/datasets/images/*.jpg.
PICTURES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
SIDE = 32  # pixels of a patch as it is given out


class Patch(NamedTuple):
    """Where a patch lies: columns `left … left + side`, rows `top … top + side` of its picture."""

    picture: int
    left: int
    top: int
    side: int


class PhotosSource:
    """Patches of photographs, each under its own fixed change of light; the label is which photograph.

    Each picture (reduced to `longest` pixels) is cut into blocks of `block` pixels; each block belongs to
    train, val or test as a whole, and every patch lies inside one block: the splits share no pixel. Patches
    are squares of `smallest` … `block` pixels (uniform in the logarithm), resized to 32 x 32. All of it
    follows from `seed`, which is part of the set and has nothing to do with the run's.

    train, val, test: patches, spread evenly over the pictures. gamma, contrast, cast: largest factors;
    brightness: largest shift, of [0, 1]; hue: largest rotation in turns (see `light.py`).
    """

    name = "photos"

    def __init__(
        self,
        train: int = 10000,
        val: int = 1000,
        test: int = 2000,
        longest: int = 640,
        block: int = 48,
        smallest: int = 24,
        gamma: float = 2.5,
        contrast: float = 2.0,
        brightness: float = 0.2,
        cast: float = 1.8,
        hue: float = 0.5,
        seed: int = 0,
    ):
        self.counts = {"train": train, "val": val, "test": test}
        self.longest, self.block, self.smallest, self.seed = longest, block, smallest, seed
        self.light = {"gamma": gamma, "contrast": contrast, "brightness": brightness, "cast": cast, "hue": hue}

    def signature(self) -> str:
        """Every setting, and the size of every picture (they come with a library that may change)."""
        sizes = [path.stat().st_size for path in _paths()]
        settings = [self.counts, self.longest, self.block, self.smallest, self.light, self.seed]
        return f"photos 1 {json.dumps([sizes, settings])}"

    def plan(self) -> Plan:
        """Numbers only: the patches are cut in `read`. Raises DataError for sizes that leave no room."""
        if not 1 <= self.smallest <= self.block <= self.longest:
            raise DataError(
                f"data.source: smallest={self.smallest}, block={self.block}, longest={self.longest} must not decrease"
            )
        return plan_arrays(self.counts, [Path(name).stem for name in PICTURES])

    def read(self) -> Iterator[Item]:
        """Cuts and colours all patches, then gives them out."""
        pictures = self.pictures()
        row = 0
        for split, patches in self.patches(pictures).items():
            light = draw_light(len(patches), np.random.default_rng([self.seed, 1, SPLITS.index(split)]), **self.light)
            # `cut` before resizing: PIL's resize of a box looks at the pixels around it, of other splits.
            images = change_light(np.stack([cut(pictures[patch.picture], patch) for patch in patches]), light)
            for image, patch in zip(images, patches, strict=True):
                yield Item(row, partial(give, image, patch.picture))
                row += 1

    def pictures(self) -> list[Image.Image]:
        """The photographs, reduced to at most `longest` pixels."""
        pictures = [Image.open(path).convert("RGB") for path in _paths()]
        for picture in pictures:
            picture.thumbnail((self.longest, self.longest), Image.Resampling.LANCZOS)
        return pictures

    def patches(self, pictures: list[Image.Image]) -> dict[str, list[Patch]]:
        """Where the patches of each split lie, picture after picture in turn."""
        blocks = [self._blocks(number, picture.size) for number, picture in enumerate(pictures)]
        placed = {}
        for split, count in self.counts.items():
            rng = np.random.default_rng([self.seed, 0, SPLITS.index(split)])
            placed[split] = [
                self._place(i % len(pictures), blocks[i % len(pictures)][split], rng) for i in range(count)
            ]
        return placed

    def _blocks(self, number: int, size: tuple[int, int]) -> dict[str, Int[np.ndarray, "blocks 2"]]:
        """Left and top of the blocks of each split: of ten blocks seven train, one val, two test."""
        columns, rows = size[0] // self.block, size[1] // self.block
        corners = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * self.block
        if len(corners) < 10:
            raise DataError(
                f"data.source.block={self.block} cuts {PICTURES[number]} into {len(corners)} blocks: set less"
            )
        corners = corners[np.random.default_rng([self.seed, 2, number]).permutation(len(corners))]
        first, second = len(corners) // 5, len(corners) // 5 + len(corners) // 10
        return {"test": corners[:first], "val": corners[first:second], "train": corners[second:]}

    def _place(self, picture: int, blocks: Int[np.ndarray, "blocks 2"], rng: np.random.Generator) -> Patch:
        which, size, across, down = rng.random(4)
        left, top = blocks[int(which * len(blocks))]
        side = round(self.smallest * (self.block / self.smallest) ** size)
        room = self.block - side + 1
        return Patch(picture, int(left) + int(across * room), int(top) + int(down * room), side)


def cut(picture: Image.Image, patch: Patch) -> UInt8[np.ndarray, "32 32 3"]:
    """The pixels of a patch, resized; nothing around it has an influence."""
    box = (patch.left, patch.top, patch.left + patch.side, patch.top + patch.side)
    return np.asarray(picture.crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _paths() -> list[Path]:
    """The picture files, found without importing scikit-image, which takes a second."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("data=photos needs scikit-image, which holds the photographs: pip install scikit-image")
    paths = [Path(spec.submodule_search_locations[0]) / "data" / name for name in PICTURES]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"data=photos: this scikit-image lacks {', '.join(missing)}: pip install 'scikit-image>=0.25'")
    return paths
