"""The cache: reused, made anew when it should be, never half-written."""

import os
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from ssl_lab.data import DataError, FolderSource, open_images, store
from ssl_lab.data import cache as cache_module


def make_folder(root: Path, n: int = 6, side: int = 8) -> Path:
    for i in range(n):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (i, 2 * i, 99)).save(root / "ab"[i % 2] / f"{i}.png")
    return root


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "set")


@pytest.fixture
def builds(monkeypatch):
    """Counts how often pictures are decoded."""
    made = []
    original = store.build
    monkeypatch.setattr(store, "build", lambda *args: made.append(1) or original(*args))
    return made


def read(root: Path, cache: Path | None, **settings):
    return open_images(FolderSource(str(root)), cache=cache, **({"store_size": 8} | settings))


def test_the_second_start_opens_the_cache(folder, tmp_path, builds):
    first, second = read(folder, tmp_path / "cache"), read(folder, tmp_path / "cache")
    assert len(builds) == 1
    assert second.fingerprint == first.fingerprint
    assert second.splits["train"].names == first.splits["train"].names
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.folder.name]
    in_memory = read(folder, None)
    assert in_memory.fingerprint == first.fingerprint
    assert in_memory.splits["train"].storage.images.equal(second.splits["train"].storage.images)


def test_statistics_are_those_of_the_pixels(folder, tmp_path):
    stored = read(folder, tmp_path / "cache")
    pixels = stored.splits["train"].gather(torch.arange(6)).double() / 255
    assert stored.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert stored.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())
    mean, std = stored.splits["train"].statistics()
    assert stored.mean == pytest.approx(mean)
    assert [max(deviation, 1 / 255) for deviation in stored.std] == pytest.approx(std)
    assert not stored.gray


@pytest.mark.parametrize("change", ["touch", "add", "remove", "rename", "rewrite"])
def test_a_changed_source_is_noticed(folder, tmp_path, builds, change):
    read(folder, tmp_path / "cache")
    file = folder / "a" / "0.png"
    match change:
        case "touch":
            os.utime(file, ns=(1, 1))
        case "add":
            Image.new("RGB", (8, 8)).save(folder / "a" / "new.png")
        case "remove":
            file.unlink()
        case "rename":
            file.rename(folder / "b" / "0.png")
        case "rewrite":
            Image.new("RGB", (9, 8)).save(file)
    read(folder, tmp_path / "cache")
    assert len(builds) == 2


def test_other_settings_make_another_cache(folder, tmp_path, builds):
    for settings in ({}, {"store_size": 4}, {"store": "pad"}, {}):
        read(folder, tmp_path / "cache", **settings)
    assert len(builds) == 3


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json", "names.txt"])
def test_a_damaged_cache_is_made_anew(folder, tmp_path, builds, capsys, name):
    path = read(folder, tmp_path / "cache").folder
    os.truncate(path / name, 20)
    fingerprint = read(folder, tmp_path / "cache").fingerprint
    assert len(builds) == 2
    assert "is damaged" in capsys.readouterr().err
    assert read(folder, tmp_path / "cache").fingerprint == fingerprint
    assert len(builds) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_is_left(folder, tmp_path, monkeypatch, error):
    def interrupted(*_):
        raise error

    monkeypatch.setattr("ssl_lab.data.build.decode", interrupted)
    with pytest.raises(error):
        read(folder, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_process_left_is_removed(folder, tmp_path):
    path = read(folder, tmp_path / "cache").folder
    left = path.parent / f".{path.name}.{cache_module.socket.gethostname()}.4194999.abc.partial"
    path.rename(left)
    read(folder, tmp_path / "cache")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_no_disk_space(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SPARE", 1 << 60)
    with pytest.raises(DataError, match=r"GiB free, 6 pictures of 8 px need .* set paths.cache="):
        read(folder, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_disk_full_while_writing(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_lab.data.build.fill", full)
    with pytest.raises(DataError, match=r"the disk of paths.cache=.* is full"):
        read(folder, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        read(folder, tmp_path / "file" / "cache")


def test_two_builders_at_once_share_one_cache(folder, tmp_path, monkeypatch):
    """Both decode, the slower one takes the faster one's cache."""
    together, original, results = threading.Barrier(2), store.build, []

    def build(*args):
        together.wait()
        return original(*args)

    monkeypatch.setattr(store, "build", build)
    threads = [threading.Thread(target=lambda: results.append(read(folder, tmp_path / "cache"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stored.fingerprint for stored in results}) == 1
    assert len(results) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_bad_settings(folder):
    for settings, message in (
        ({"store_size": 0}, "data.store_size=0"),
        ({"max_unreadable": 2.0}, "data.max_unreadable=2.0"),
    ):
        with pytest.raises(DataError, match=message):
            read(folder, None, **settings)


def test_small_pictures_are_enlarged_and_told(folder, capsys):
    assert read(folder, None, store_size=12).splits["train"].side == 12
    assert "enlarged 6 pictures smaller than data.store_size=12" in capsys.readouterr().err
