"""Pictures with the class of each pixel: found, paired, made square as their pictures are."""

import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lab.data import DataError, MaskSource, open_images
from ssl_lab.data.picture import VOID, Square, to_mask

CLASSES = ["sky", "ground"]


def make(root: Path, split: str, count: int, size: tuple[int, int] = (12, 8), beside: str = "labels") -> None:
    """Pictures that are dark where their mask says 1; the last row is void."""
    for folder in ("images", beside):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        classes = np.zeros((size[1], size[0]), np.uint8)
        classes[i % size[1] :] = 1
        Image.fromarray(np.uint8(200 * (1 - classes))).save(root / split / "images" / f"{i}.bmp")
        classes[-1] = 7
        Image.fromarray(classes).save(root / split / beside / f"{i}.png")


def encode(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_each_picture_has_its_own_mask(packed: bool, tmp_path: Path) -> None:
    make(tmp_path / "set", "train", 6, (8, 8))
    make(tmp_path / "set", "test", 3, (8, 8), beside="masks")
    root = tmp_path / "set"
    if packed:
        root = tmp_path / "set.tar.gz"
        with tarfile.open(root, "w:gz") as archive:
            archive.add(tmp_path / "set", "set")
    stored = open_images(MaskSource(str(root), classes=CLASSES), store_size=8, cache=tmp_path / "cache", progress=False)
    again = open_images(MaskSource(str(root), classes=CLASSES), store_size=8, cache=tmp_path / "cache", progress=False)
    for splits in (stored.splits, again.splits):
        assert {name: len(images) for name, images in splits.items()} == {"train": 6, "test": 3}
        for images in splits.values():
            index = torch.arange(len(images))
            masks, dark = images.gather_masks(index), images.gather(index)[:, 0] == 0
            assert (masks[:, -1] == 7).all()
            assert torch.equal(masks[:, :-1] == 1, dark[:, :-1])
            assert images.labels is None
    assert stored.classes == CLASSES
    part = stored.splits["train"].subset(torch.tensor([4, 1]))
    assert torch.equal(part.gather_masks(torch.tensor([1])), stored.splits["train"].gather_masks(torch.tensor([1])))


def test_other_masks_are_other_data(tmp_path: Path) -> None:
    make(tmp_path, "train", 4)
    first = open_images(MaskSource(str(tmp_path), classes=CLASSES), store_size=8, cache=None, progress=False)
    Image.new("L", (12, 8), 1).save(tmp_path / "train/labels/0.png")
    second = open_images(MaskSource(str(tmp_path), classes=CLASSES), store_size=8, cache=None, progress=False)
    assert first.fingerprint != second.fingerprint


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    make(tmp_path, "train", 4)
    with pytest.raises(DataError, match=r"data\.source\.classes is not set"):
        MaskSource(str(tmp_path)).plan()
    (tmp_path / "train/labels/2.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 pictures have no mask, such as train/images/2\.bmp"):
        MaskSource(str(tmp_path), classes=CLASSES).plan()


def test_pictures_without_masks_say_so(tmp_path: Path) -> None:
    make(tmp_path, "train", 4)
    stored = open_images(MaskSource(str(tmp_path), classes=CLASSES), store_size=8, cache=None, progress=False)
    plain = replace(stored.splits["train"], masks=None)
    with pytest.raises(DataError, match="no masks"):
        plain.gather_masks(torch.arange(1))


def test_masks_are_never_mixed() -> None:
    classes = np.zeros((30, 40), np.uint8)
    classes[10:, 20:] = 9
    for store in ("crop", "square", "pad"):
        found = to_mask(encode(Image.fromarray(classes)), Square(16, store))
        assert set(np.unique(found)) == ({0, 9, VOID} if store == "pad" else {0, 9})
    palette = Image.fromarray(classes).convert("P")
    palette.putpalette([255, 0, 0] * 256)
    assert to_mask(encode(palette), Square(8, "square")).max() == 9


def test_colours_are_no_classes() -> None:
    with pytest.raises(ValueError, match="a mask of mode RGB"):
        to_mask(encode(Image.new("RGB", (8, 8))), Square(8, "crop"))
