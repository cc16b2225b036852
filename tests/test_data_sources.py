"""Where pictures come from: what is looked through first, torchvision's sets, and the two embedded sets."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lab import recipes
from ssl_lab.data import DataError, DigitsSource, FolderSource, PhotosSource, TorchvisionSource, open_images
from ssl_lab.data.photos import Patch, cut
from ssl_lab.data.store import resolve


def make_folder(root: Path, n: int = 6, side: int = 8) -> Path:
    for i in range(n):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (i, 2 * i, 99)).save(root / "ab"[i % 2] / f"{i}.png")
    return root


def test_root_and_search_come_before_downloads(tmp_path):
    make_folder(tmp_path / "data" / "cifar10")
    source = TorchvisionSource("cifar10", str(tmp_path / "downloads"))
    settings = {"store_size": 8, "cache": None}
    assert len(open_images(source, search=tmp_path / "data", **settings).splits["train"]) == 6
    make_folder(tmp_path / "mine", 4)
    assert (
        len(open_images(source, root=str(tmp_path / "mine"), search=tmp_path / "data", **settings).splits["train"]) == 4
    )
    with pytest.raises(DataError, match="data=digits reads no files: use data=folder"):
        open_images(DigitsSource(), root=str(tmp_path), **settings)


def test_only_the_classes_that_are_wanted_are_taken(tmp_path):
    make_folder(tmp_path / "train")
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "train" / "b" / "more.png")
    (tmp_path / "train" / "c").mkdir()
    Image.new("RGB", (8, 8), (250, 0, 0)).save(tmp_path / "train" / "c" / "0.png")
    (tmp_path / "unlabeled").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "unlabeled" / "0.png")
    stored = open_images(FolderSource(str(tmp_path), only=["c", "a"]), store_size=8, cache=None)
    train = stored.splits["train"]
    assert (stored.classes, train.labels.tolist(), len(stored.splits["unlabeled"])) == (["a", "c"], [0, 0, 0, 1], 1)
    assert train.storage.images[3, 0].unique().tolist() == [250]
    with pytest.raises(DataError, match=r"data.source.only: .* has no class folders x, y"):
        open_images(FolderSource(str(tmp_path), only=["y", "a", "x"]), store_size=8, cache=None)


def test_imagenet100_is_a_hundred_classes_of_imagenet():
    only = recipes.compose("train", ["data=imagenet100", "method=simclr"])[0]["data"]["source"]["only"]
    assert (len(set(only)), {(name[0], len(name)) for name in only}) == (100, {("n", 9)})


def test_archives_are_found_by_name(tmp_path):
    (tmp_path / "stl10.tar.gz").write_bytes(b"")
    found = resolve(TorchvisionSource("stl10", str(tmp_path)), None, tmp_path)
    assert isinstance(found, FolderSource)
    assert found.root == str(tmp_path / "stl10.tar.gz")
    assert isinstance(resolve(TorchvisionSource("svhn", str(tmp_path)), None, tmp_path), TorchvisionSource)


def write_idx(path: Path, values: np.ndarray) -> None:
    path.write_bytes(struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes())


def test_torchvision_files_on_disk(tmp_path):
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (5, 28, 28), np.uint8)
    for part, n in (("train", 5), ("t10k", 3)):
        write_idx(raw / f"{part}-images-idx3-ubyte", images[:n])
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8))
    stored = open_images(TorchvisionSource("mnist", str(tmp_path)), store_size=28, cache=None)
    assert {split: len(images) for split, images in stored.splits.items()} == {"train": 5, "test": 3}
    assert stored.splits["test"].labels.tolist() == [0, 1, 2]
    assert stored.splits["train"].storage.images[:5, 2].numpy().tolist() == images.tolist()
    assert stored.gray
    assert stored.classes[3] == "3 - three"


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    import torchvision

    def fail(self):
        (Path(self.root) / "half").write_text("")
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    with pytest.raises(DataError, match=r"downloading it failed \(no network\).*SSL_LAB_DATA.*data=cifar10 data.root="):
        open_images(TorchvisionSource("cifar10", str(tmp_path / "downloads")), store_size=32, cache=None)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_unknown_torchvision_set(tmp_path):
    with pytest.raises(DataError, match=r"data.source.name=cifar is unknown; allowed: cifar10, cifar100"):
        open_images(TorchvisionSource("cifar", str(tmp_path)), store_size=8, cache=tmp_path)


def test_digits():
    stored = open_images(DigitsSource(), store_size=32, cache=None, progress=False)
    assert len(stored.splits["train"]) == 1797
    assert stored.gray
    assert stored.splits["train"].storage.images.max() == 255


PHOTOS = PhotosSource(train=300, val=60, test=100)


def test_photos_splits_share_no_pixel():
    pictures = PHOTOS.pictures()
    seen = {split: [np.zeros(picture.size, bool) for picture in pictures] for split in ("train", "val", "test")}
    for split, patches in PHOTOS.patches(pictures).items():
        for patch in patches:
            assert patch.left + patch.side <= pictures[patch.picture].width
            assert patch.top + patch.side <= pictures[patch.picture].height
            seen[split][patch.picture][patch.left : patch.left + patch.side, patch.top : patch.top + patch.side] = True
    for train, val, test in zip(seen["train"], seen["val"], seen["test"], strict=True):
        assert train.any()
        assert not (train & val).any()
        assert not (train & test).any()
        assert not (val & test).any()


def test_photos_patches_depend_on_their_own_pixels_only():
    """Whatever lies around a patch has no influence on it (a resize of a box would look there)."""
    picture = Image.new("RGB", (100, 100), "white")
    picture.paste("black", (30, 30, 70, 70))
    assert cut(picture, Patch(0, 30, 30, 40)).max() == 0


def test_photos_are_balanced_and_fixed():
    first = open_images(PHOTOS, store_size=32, cache=None, progress=False)
    second = open_images(PhotosSource(train=300, val=60, test=100), store_size=32, cache=None, progress=False)
    assert first.fingerprint == second.fingerprint
    sizes = torch.bincount(first.splits["train"].labels)
    assert sizes.max() - sizes.min() <= 1
    assert len(first.classes) == len(sizes) == 8
    other = open_images(PhotosSource(train=300, val=60, test=100, seed=1), store_size=32, cache=None, progress=False)
    assert other.fingerprint != first.fingerprint


def test_photos_block_too_large():
    with pytest.raises(DataError, match=r"data.source.block=300 cuts astronaut.png into 1 blocks"):
        open_images(PhotosSource(block=300), store_size=32, cache=None)


def test_meta_is_plain(tmp_path):
    path = open_images(PHOTOS, store_size=32, cache=tmp_path, progress=False).folder
    meta = json.loads((path / "meta.json").read_text())
    assert meta["splits"] == {"train": 300, "val": 60, "test": 100, "unlabeled": 0}
