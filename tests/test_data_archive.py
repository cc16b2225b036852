"""Archives are read as they are, whole or not at all."""

import gzip
import os
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pictures import CLASSES, SPLITS, counts, encoded, fill, read

from ssl_lab.data import DataError, FolderSource


def pack(folder: Path, path: Path) -> Path:
    """The folder's files in an archive of the kind that the name says, in no particular order."""
    files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.name)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, f"./wrap/{file.relative_to(folder)}")
    else:
        mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}[path.suffix]
        with tarfile.open(path, mode) as archive:
            for file in files:
                archive.add(file, f"./wrap/{file.relative_to(folder)}")
    return path


KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_equals_its_folder(tmp_path, kind):
    folder = fill(tmp_path / "set", SPLITS)
    from_folder, from_archive = read(folder), read(pack(folder, tmp_path / f"set.{kind}"))
    assert from_archive.fingerprint == from_folder.fingerprint
    assert counts(from_archive) == counts(from_folder)
    assert from_archive.mean == from_folder.mean


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.75])
def test_an_archive_cut_off_is_refused(tmp_path, kind, kept):
    path = pack(fill(tmp_path / "set", [f"{i}.png" for i in range(40)]), tmp_path / f"set.{kind}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match="cut off or damaged"):
        read(path, cache=tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("*"))


def test_a_tar_cut_between_members_is_refused(tmp_path):
    path = pack(fill(tmp_path / "set", ["1.png", "2.png", "3.png"]), tmp_path / "set.tar")
    with tarfile.open(path) as archive:
        end = archive.getmembers()[2].offset
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match="cut off or damaged"):
        read(path)


def test_a_damaged_header_inside_a_tar_is_refused(tmp_path):
    path = pack(fill(tmp_path / "set", ["1.png", "2.png", "3.png"]), tmp_path / "set.tar")
    with tarfile.open(path) as archive:
        start = archive.getmembers()[1].offset
    broken = bytearray(path.read_bytes())
    broken[start + 10] ^= 0xFF
    path.write_bytes(bytes(broken))
    with pytest.raises(DataError, match="cut off or damaged"):
        read(path)


def test_archives_in_several_parts_are_read_whole(tmp_path):
    """pigz and pxz write several compressed streams one after the other."""
    whole = pack(fill(tmp_path / "set", CLASSES), tmp_path / "set.tar").read_bytes()
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(whole[:3000]) + gzip.compress(whole[3000:]))
    assert counts(read(tmp_path / "set.tar.gz")) == {"train": 6}


def test_unsafe_members_are_ignored_and_told(tmp_path, capsys):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for value, name in enumerate(["a/1.png", "b/1.png", "../up.png", "/etc/abs.png", "a/../../x.png", "a/1.png"]):
            info = tarfile.TarInfo(name)
            info.size = len(encoded(value))
            archive.addfile(info, BytesIO(encoded(value)))
        for name, kind in (
            ("a/link.png", tarfile.SYMTYPE),
            ("a/hard.png", tarfile.LNKTYPE),
            ("a/d.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    stored = read(tmp_path / "set.tar")
    told = capsys.readouterr().err
    assert stored.splits["train"].names == ["a/1.png", "b/1.png"]
    assert stored.splits["train"].storage.images[0, 0, 0, 0] == 5  # the later a/1.png, as when one unpacks
    assert "3 x unsafe name" in told
    assert "3 x link or device" in told


def test_a_damaged_member_of_a_zip_fails_alone(tmp_path):
    path = pack(fill(tmp_path / "set", CLASSES), tmp_path / "set.zip")
    with zipfile.ZipFile(path) as archive:
        start = archive.infolist()[2].header_offset
    broken = bytearray(path.read_bytes())
    broken[start + 60] ^= 0xFF
    path.write_bytes(bytes(broken))
    assert read(path, max_unreadable=0.5).skipped == 1


@pytest.mark.parametrize(("content", "found"), [(b"", "is empty"), (b"<html>404", "begins with b'<html>40'")])
def test_not_an_archive(tmp_path, content, found):
    (tmp_path / "set.tar.xz").write_bytes(content)
    with pytest.raises(DataError, match=f"is no archive: it {found}"):
        read(tmp_path / "set.tar.xz")


def test_encrypted_zip(tmp_path):
    path = pack(fill(tmp_path / "set", CLASSES), tmp_path / "set.zip")
    content = bytearray(path.read_bytes())
    for at in range(len(content) - 4):
        if content[at : at + 4] == b"PK\x01\x02":
            content[at + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="is encrypted: unpack it"):
        read(path)


def test_the_development_archive_is_read():
    path = Path(os.environ.get("SSL_LAB_DATA", "")) / "tiny-imagenet-20.tar.xz"
    if not path.exists():
        pytest.skip("SSL_LAB_DATA does not name a folder with tiny-imagenet-20.tar.xz")
    plan = FolderSource(str(path)).plan()
    assert np.bincount(plan.splits).tolist() == [10000, 0, 1000]
    assert len(plan.classes) == 20
    assert plan.ignored == {".json file": 2}
