"""What the tests share: a place to run in, and the commands as a user gives them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded images for the whole session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `python -m ssl_lab.<name> …` in an empty folder."""
    monkeypatch.setenv("SSL_LAB_CACHE", str(cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("WANDB_MODE", "offline")

    def call(name: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", f"ssl_lab.{name}", *arguments]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=timeout)

    return call


TINY = ("data=digits", "backbone=convnet", "method.backbone.widths=[8,8]", "logger=none", "data.batch_size=64")
