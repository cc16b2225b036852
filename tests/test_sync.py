"""Pushing offline W&B runs: which ones, and what is said when there are none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_lab import sync
from ssl_lab.config import ConfigError


def make(folder: Path, name: str, pushed: bool) -> Path:
    run = folder / "train" / "simclr" / "wandb" / f"offline-run-{name}"
    run.mkdir(parents=True)
    (run / f"run-{name}.wandb").write_bytes(b"")
    if pushed:
        (run / f"run-{name}.wandb.synced").write_bytes(b"")
    return run


def test_only_what_was_not_pushed_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []

    def run(line: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        lines.append(line)
        return subprocess.CompletedProcess(line, 3)

    monkeypatch.setattr(sync.subprocess, "run", run)
    make(tmp_path, "1", pushed=True)
    waiting = make(tmp_path, "2", pushed=False)
    longer = make(tmp_path, "3", pushed=True)  # pushed while it ran
    os.utime(longer / "run-3.wandb", (4e9, 4e9))
    with pytest.raises(SystemExit) as left:
        sync.main([str(tmp_path), str(tmp_path / "train")])
    assert left.value.code == 3
    assert [line[2:] for line in lines] == [["wandb", "sync", str(waiting), str(longer), "--include-synced"]]
    (longer / "run-3.wandb.synced").unlink()
    with pytest.raises(SystemExit):
        sync.main([str(tmp_path)])
    assert lines[1][2:] == ["wandb", "sync", str(waiting), str(longer)]
    for given in (waiting, waiting.parent):
        assert next(iter(sync.offline_runs(given))).parent == waiting.parent


def test_wandb_takes_what_it_is_handed(tmp_path: Path) -> None:
    """Its own command, which is asked to list: a run that was pushed in part is among them."""
    longer = make(tmp_path, "20260101_000000-abcdefgh", pushed=True)
    line = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(longer)]
    found = [
        subprocess.run([*line, *more], capture_output=True, text=True, check=True, timeout=60)
        for more in ([], ["--include-synced"])
    ]
    assert ["Would sync 1 run" in one.stdout + one.stderr for one in found] == [False, True]


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync.main(["--help"])
    assert "results.jsonl" in capsys.readouterr().out  # what is not pushed
    with pytest.raises(ConfigError, match="no such folder"):
        sync.main([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match="no offline run below"):
        sync.main([str(tmp_path)])
