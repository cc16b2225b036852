"""What the tests share: a place to run in, and the commands as a user gives them."""

import importlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[..., subprocess.CompletedProcess[str]]


def wait_for(happened: Callable[[], Any], seconds: float = 120) -> None:
    """Until it has happened; fails after so long."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded images for the whole session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with the environment that a command finds there."""
    monkeypatch.setenv("SSL_LAB_CACHE", str(cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def process(place: Path) -> Command:
    """Runs `python -m ssl_lab.<name> …` in an empty folder, as a process of its own."""

    def call(name: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", f"ssl_lab.{name}", *arguments]
        return subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=timeout)

    return call


@pytest.fixture
def command(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same command in this process, which has its imports behind it; what is no message for the user is raised."""

    from ssl_lab import cli  # only now: the import hook that checks shapes comes after conftest

    def call(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [f"ssl_lab.{name}", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.enter(name, importlib.import_module(f"ssl_lab.{name}").run)
        except SystemExit as left:
            code = int(left.code or 0)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, code, printed.out, printed.err)

    return call


TINY = ("data=digits", "backbone=convnet", "method.backbone.widths=[8,8]", "logger=none", "data.batch_size=64")
