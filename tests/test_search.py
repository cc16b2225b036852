"""A search: its axes, a few trials with a gap in the middle, and a hopeless one that is stopped."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, Command

from ssl_lab import study
from ssl_lab.arguments import Range, axis, is_swept
from ssl_lab.config import ConfigError
from ssl_lab.search import main


def test_axes_are_lists_and_ranges() -> None:
    assert is_swept("seed=1,2")
    assert not is_swept("seed=1")
    assert not is_swept("sets=[a,b]")
    assert axis("projector=mlp2,mlp3") == ["mlp2", "mlp3"]
    assert axis("method.optim.lr=interval(0.1,0.5)") == Range(0.1, 0.5, False)
    assert axis("method.optim.lr=tag(log, interval(1e-4,1e-2))") == Range(1e-4, 1e-2, True)
    for wrong in ("x=interval(0.5,0.1)", "x=tag(log, interval(0,1))"):
        with pytest.raises(ConfigError, match="a range goes up"):
            axis(wrong)


def test_what_cannot_be_searched_is_said() -> None:
    with pytest.raises(ConfigError, match="nothing to search"):
        main(["seed=1"])
    with pytest.raises(ConfigError, match="did you mean method"):
        main(["methd=simclr", "method.optim.lr=1e-3,1e-2"])
    with pytest.raises(ConfigError, match="takes no flags"):
        main(["--multirun", "seed=1,2"])


def test_trials_are_made_once_and_gone_on_with(process: Command, tmp_path: Path) -> None:
    words = [*TINY, "trainer.max_epochs=1", "method.optim.lr=1e-3,1e-2", "paths.out=runs"]
    first = process("search", *words, "search.trials=2", timeout=300)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 trials to their end, 0 stopped before" in first.stdout
    assert "best: python -m ssl_lab.train" in first.stdout
    again = process("search", *words, "search.trials=3", timeout=300)
    assert again.returncode == 0, again.stderr
    assert [line.split(":")[0] for line in again.stdout.splitlines() if ": method.optim.lr=" in line] == ["  trial 2"]
    assert "3 trials" in (tmp_path / "runs/search/search/search.md").read_text()


def test_a_failed_trial_says_why(process: Command, tmp_path: Path) -> None:
    done = process("search", *TINY, "data.batch_size=64,9999", "search.trials=2", "paths.out=runs", timeout=300)
    assert "set data.batch_size=" in done.stdout
    assert "trials to their end" in done.stdout


class Hopeless:
    """A trial that is to be stopped at its first figure."""

    number = 0

    def report(self, value: float, step: int) -> None:
        assert (value, step) == (0.1, 0)

    def should_prune(self) -> bool:
        return True


def test_a_hopeless_trial_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    real = subprocess.Popen
    monkeypatch.setattr(study.subprocess, "Popen", lambda _line, **options: real(sleeper, **options))
    monkeypatch.setattr(study, "figures_of", lambda _log, _figure: [0.1])
    asked = {"at_once": 1, "figure": "val/knn_top1"}
    began = time.monotonic()
    code, pruned = study.Search(None, tmp_path, asked, [], {})._train(0, Hopeless(), tmp_path / "log", [])
    assert (code, pruned) == (-15, True)
    assert time.monotonic() - began < 30
