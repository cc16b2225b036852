"""Folders and archives: splits, classes, and everything that people put in them."""

import json
import os
import struct
import zlib

import pytest
from pictures import CLASSES, SPLITS, counts, fill, read

from ssl_lab.data import DataError, FolderSource, open_images


def test_class_folders(tmp_path):
    stored = read(fill(tmp_path, CLASSES))
    assert stored.classes == ["cat", "dog"]
    assert stored.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert stored.splits["train"].names == CLASSES
    assert counts(stored) == {"train": 6}


@pytest.mark.parametrize("wrapping", ["", "set/", "a/b c/"])
def test_splits_in_wrapping_folders(tmp_path, wrapping):
    names = [wrapping + name for name in [*SPLITS, "annotations/train.json", "README.txt", "extra/x.png"]]
    stored = read(fill(tmp_path, names))
    assert counts(stored) == {"train": 6, "val": 6, "test": 6}
    assert stored.splits["test"].labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_other_names_of_splits_and_unlabelled_pictures(tmp_path):
    names = [*(f"Training/{name}" for name in CLASSES), *(f"valid/{name}" for name in CLASSES), "unlabelled/a/1.png"]
    stored = read(fill(tmp_path, names))
    assert counts(stored) == {"train": 6, "val": 6, "unlabeled": 1}
    assert stored.splits["unlabeled"].labels is None


@pytest.mark.parametrize("names", [["1.png", "2.jpg.png", "3.PNG"], ["all/1.png", "all/2.png"], ["1.png", "x/2.png"]])
def test_flat_folders_are_unlabelled(tmp_path, names):
    stored = read(fill(tmp_path, names))
    assert counts(stored) == {"train": len(names)}
    assert stored.splits["train"].labels is None
    assert stored.classes == []


def test_masks_beside_images_are_no_class(tmp_path):
    names = [
        f"{split}/{kind}/{i}.png" for split in ("train", "test") for kind in ("images", "labels") for i in range(2)
    ]
    stored = read(fill(tmp_path, names))
    assert counts(stored) == {"train": 2, "test": 2}
    assert stored.classes == []


def test_junk_is_left_out_and_told(tmp_path, capsys):
    junk = ["__MACOSX/cat/._0.png", "cat/.DS_Store.png", ".hidden/x.png", "logo.png", "cat/notes.txt"]
    stored = read(fill(tmp_path, [*CLASSES, *junk]))
    assert stored.splits["train"].names == CLASSES
    told = capsys.readouterr().err
    assert "3 x hidden file" in told
    assert "1 x picture beside class folders" in told
    assert "1 x .txt file" in told


def test_stray_picture_beside_the_wrapping_folder(tmp_path):
    assert counts(read(fill(tmp_path, ["logo.png", *(f"set/{name}" for name in SPLITS)])))["test"] == 6


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", ["dog/1.png", "dog/2.png"])
    root = fill(tmp_path / "root", ["cat/1.png", "cat/2.png"])
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (root / "cat" / "again").symlink_to(root)
    (root / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    stored = read(root)
    assert stored.classes == ["cat", "dog"]
    assert len(stored.splits["train"]) == 4


def test_odd_names_are_kept_on_their_lines(tmp_path):
    names = ["a b/it's.png", 'a b/"q".png', "a b/line\nbreak.png", "ü/é.png", os.fsdecode(b"\xff/\xfe.png"), "ü/z.png"]
    fill(tmp_path / "set", names)
    (tmp_path / "set" / "a b" / "bad\nname.png").write_bytes(b"nothing")
    stored = read(tmp_path / "set", cache=tmp_path / "cache", max_unreadable=0.5)
    assert sorted(stored.splits["train"].names) == sorted(names)
    (line,) = (stored.folder / "skipped.txt").read_text().splitlines()
    assert json.loads(line)["file"] == "a b/bad\nname.png"
    assert "no picture" in json.loads(line)["reason"]


def test_missing_and_empty(tmp_path):
    with pytest.raises(DataError, match=r"data.root is not set: data=folder data.root=<folder"):
        open_images(FolderSource(), store_size=8, cache=None)
    with pytest.raises(DataError, match=r"missing does not exist \(.* holds .*\): give a folder"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no pictures"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"holds no pictures \(left out: 1 x .txt file\)"):
        read(fill(tmp_path, ["a.txt"]))


def test_one_image_alone(tmp_path):
    with pytest.raises(DataError, match=r"has 1 picture\(s\) to train on"):
        read(fill(tmp_path, ["a.png"]))


def test_unreadable_pictures(tmp_path):
    fill(tmp_path, CLASSES)
    (tmp_path / "cat" / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"1 of 7 pictures cannot be read, .*cat/bad.png.*set data.max_unreadable=0.16"):
        read(tmp_path)
    assert read(tmp_path, max_unreadable=0.16).skipped == 1
    for name in CLASSES:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="none of 7 pictures can be read"):
        read(tmp_path, max_unreadable=1.0)


def test_folders_that_contradict_each_other(tmp_path):
    with pytest.raises(DataError, match="Cat/, cat/ differ in case only"):
        read(fill(tmp_path / "a", ["Cat/1.png", "cat/1.png", "dog/1.png"]))
    with pytest.raises(DataError, match="test/ has classes that train/ lacks: bird/"):
        read(fill(tmp_path / "b", [*SPLITS, "test/bird/1.png"]))
    with pytest.raises(DataError, match=r"found test/, val/ but no train/"):
        read(fill(tmp_path / "c", [name for name in SPLITS if not name.startswith("train")]))


def test_a_picture_that_would_fill_the_memory_is_skipped(tmp_path):
    """Its header alone says so: 60,000 x 60,000 pixels in 100 bytes."""
    fill(tmp_path, CLASSES)
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    (tmp_path / "cat" / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match=r"cat/bomb.png.*3600000000 pixels"):
        read(tmp_path)
