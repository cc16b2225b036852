"""Pictures in tars: the same pixels as from a folder, in an order that any process can make."""

import tarfile
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from conftest import TINY, Command
from pictures import fill
from test_data_masks import make as make_masks

from ssl_lab.data import BatchLoader, DataError, FolderSource, MaskSource, ShardSource, open_images, write_shards
from ssl_lab.data.shards import Shards, braces, pictures
from ssl_lab.records import find_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of pictures, with a test split."""
    counts = {"train": 8, "test": 2}
    names = [f"{split}/{label}/{i}.png" for split in counts for label in ("ant", "bee", "cat")
             for i in range(counts[split])]  # fmt: skip
    return fill(tmp_path / "pictures", names)


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> Path:
    write_shards(FolderSource(str(folder)), tmp_path / "shards", pictures_each=5)
    return tmp_path / "shards"


def test_shards_hold_what_the_folder_holds(folder: Path, shards: Path, tmp_path: Path) -> None:
    assert len(list(shards.glob("train-*.tar"))) == 5
    assert len(list(shards.glob("test-*.tar"))) == 2
    straight = open_images(FolderSource(str(folder)), store_size=16, cache=None)
    packed = open_images(ShardSource(), root=str(shards), store_size=16, cache=tmp_path / "cache")
    assert packed.classes == straight.classes
    for split in ("train", "test"):
        one, other = straight.splits[split], packed.splits[split]
        assert one.labels is not None
        assert other.labels is not None
        everything = torch.arange(len(one))
        pairs = [sorted((int(label), image.numpy().tobytes()) for label, image in zip(s.labels, s.gather(everything),
                 strict=True)) for s in (one, other)]  # fmt: skip
        assert pairs[0] == pairs[1]
        assert np.allclose(one.statistics(), other.statistics())
    again = open_images(ShardSource(), root=str(shards), store_size=16, cache=tmp_path / "cache")
    assert again.fingerprint == packed.fingerprint
    assert list((tmp_path / "cache").glob("shards-*.npz"))


def test_processes_share_every_batch_and_an_epoch_goes_on_where_it_stopped(shards: Path) -> None:
    images = open_images(ShardSource(), root=str(shards), store_size=16, cache=None).splits["train"]
    whole = [batch.index for batch in BatchLoader(images, 4, seed=1)]
    halves = [[batch.index for batch in BatchLoader(images, 4, 1, rank, 2)] for rank in range(2)]
    assert all(torch.equal(w, torch.cat([a, b])) for w, a, b in zip(whole, *halves, strict=True))
    assert sorted(torch.cat(whole).tolist()) == list(range(24))
    resumed = BatchLoader(images, 4, seed=1)
    resumed.load_state_dict({"batches": 4})
    assert [batch.index.tolist() for batch in resumed] == [index.tolist() for index in whole[4:]]


def test_a_run_on_shards_is_resumed_and_measured(shards: Path, command: Command, tmp_path: Path) -> None:
    words = [*TINY[1:], "data=webdataset", f'data.root="{shards}/{{train,test}}-*.tar"', "data.store_size=32"]
    words += ["data.batch_size=8", "trainer.max_epochs=2", "paths.out=runs", "health=none"]
    done = command("train", *words)
    assert done.returncode == 0, done.stderr
    assert "3 classes" in done.stdout
    shown = command("evaluate", "run=runs", "protocol=knn", "protocols.knn.k=2", "paths.out=runs")
    assert shown.returncode == 0, shown.stderr
    assert find_run(tmp_path / "runs").record["data"]["test"] == 6


def test_a_picture_that_cannot_be_read_gives_its_place_to_the_next(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = open_images(ShardSource(), root=str(shards), store_size=16, cache=None)
    train = stored.splits["train"]
    storage = cast(Shards, train.storage)
    row = int(train.rows[3])
    with storage.files[storage.index.shards[row]].open("r+b") as file:
        file.seek(int(storage.index.offsets[row]))
        file.write(b"nothing that is a picture")
    for _ in range(2):
        assert torch.equal(train.gather(torch.tensor([3])), train.gather(torch.tensor([4])))
    assert capsys.readouterr().err.count("cannot be read") == 1


def test_a_pattern_that_hydra_cannot_read_is_told_how_to_be_quoted(command: Command) -> None:
    refused = command("train", "data=webdataset", "data.root=shards/train-{00..11}.tar")
    assert refused.returncode == 2
    assert """'data.root="shards/train-{00..11}.tar"'""" in refused.stderr


def test_patterns_with_braces() -> None:
    assert braces("a-{008..011}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]
    assert braces("{train,val}-{0..1}.tar") == ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]
    assert braces("plain.tar") == ["plain.tar"]


def test_a_folder_with_a_dot_in_its_name_keeps_its_labels(folder: Path, tmp_path: Path) -> None:
    picture = next(folder.rglob("*.png"))
    for place in (".", "v1.0"):
        file = tmp_path / f"{place.strip('.')}here.tar"
        with tarfile.open(file, "w") as tar:
            for name in ("0001", "0002"):
                tar.add(picture, f"{place}/{name}.side.png")
                label = tarfile.TarInfo(f"{place}/{name}.cls")
                label.size = 1
                tar.addfile(label, BytesIO(name[-1:].encode()))
        assert [label for *_, label in pictures(file)] == [1, 2]


def test_masks_and_too_many_tars_are_refused_before_one_is_written(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    make_masks(tmp_path / "masked", "train", 2)
    with pytest.raises(DataError, match=r"no masks; read the folder itself, with data=masks"):
        write_shards(MaskSource(str(tmp_path / "masked"), classes=["ground", "cell"]), to, 5)
    names = [f"{i:04d}.png" for i in range(502)]
    many = fill(tmp_path / "many", names[:1])
    for name in names[1:]:
        (many / name).symlink_to(many / names[0])
    with pytest.raises(DataError, match=r"makes 502 tars.*set pictures=2 or more"):
        write_shards(FolderSource(str(many)), to, 1)
    assert not to.exists()


def test_what_is_no_set_of_shards_is_refused(shards: Path, tmp_path: Path) -> None:
    def opened(root: str | None) -> None:
        open_images(ShardSource(), root=root, store_size=16, cache=None)

    for root, said in (
        (None, "data.root is not set"),
        (str(tmp_path / "nowhere" / "*.tar"), "names no tar file"),
        (f"{shards}/train-{{000000..000007}}.tar", "train-000005.tar does not exist, and 2 more"),
        (f"{shards}/test-*.tar", "no shard is for training"),
    ):
        with pytest.raises(DataError, match=said):
            opened(root)
    cut = shards / "train-000000.tar"
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(DataError, match="no whole tar file"):
        opened(str(shards))
    with tarfile.open(shards / "train-000000.tar", "w"):
        pass
    (shards / "classes.json").write_text('["ant"]')
    with pytest.raises(DataError, match="names 1 classes"):
        opened(str(shards))
    with pytest.raises(DataError, match="holds something already"):
        write_shards(FolderSource(str(tmp_path / "pictures")), shards, 5)
