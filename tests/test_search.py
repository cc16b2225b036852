"""A search: its axes, a few trials with a gap in the middle, and a hopeless one that is stopped."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import TINY, Command

from ssl_lab import slots, study
from ssl_lab.arguments import Range, axis, is_swept
from ssl_lab.config import ConfigError
from ssl_lab.records import RunFolder
from ssl_lab.search import main, planned


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


def test_a_range_between_whole_numbers_is_of_whole_numbers_where_the_key_is() -> None:
    words = ["data.batch_size=tag(log, interval(32,256))", "method.optim.lr=interval(0,1)", "seed=interval(1,3)"]
    axes = planned([*TINY[:-1], *words])[2]
    kinds = {
        key: (type(choices.low), type(choices.high)) for key, choices in axes.items() if isinstance(choices, Range)
    }
    assert kinds == {"data.batch_size": (int, int), "method.optim.lr": (float, float), "seed": (int, int)}
    trial = optuna.trial.FixedTrial({"data.batch_size": 64, "method.optim.lr": 0.25})
    assert isinstance(study.suggest(trial, "data.batch_size", axes["data.batch_size"]), int)
    assert study.suggest(trial, "method.optim.lr", axes["method.optim.lr"]) == 0.25
    with pytest.raises(ConfigError, match=r"data\.batch_size=32\.5: must be a whole number"):
        planned(["data.batch_size=interval(32.5,64)"])


def test_what_cannot_be_searched_is_said() -> None:
    with pytest.raises(ConfigError, match="nothing to search"):
        main(["seed=1"])
    with pytest.raises(ConfigError, match="did you mean method"):
        main(["methd=simclr", "method.optim.lr=1e-3,1e-2"])
    with pytest.raises(ConfigError, match=r"(?s)lr='abc': must be a number.*batch_size='x'"):
        main(["method.optim.lr=0.1,abc", "data.batch_size=64,x"])
    with pytest.raises(ConfigError, match=r"search\.trials: says how to search"):
        main(["method.optim.lr=0.1,0.2", "search.trials=1,2"])
    with pytest.raises(ConfigError, match="takes no flags"):
        main(["--multirun", "seed=1,2"])


def test_one_search_at_a_time_in_a_folder(tmp_path: Path) -> None:
    words = [*TINY, "method.optim.lr=1e-3,1e-2", f"paths.out={tmp_path}"]
    with RunFolder(tmp_path / "search" / "search").lock(), pytest.raises(ValueError, match="by another process"):
        main(words)


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
    other = process("search", *[word for word in words if "lr=" not in word], "seed=0,1", timeout=300)
    assert (other.returncode, "holds a search of other settings" in other.stderr) == (2, True)


def test_trials_of_the_same_values_wait_for_each_other(process: Command) -> None:
    """Four trials of one choice at a time of two: the runs are locked, and none fails of it."""
    words = [*TINY, "trainer.max_epochs=1", "health=none", "method.loss.temperature=0.1,0.1", "search.trials=3"]
    done = process("search", *words, "paths.out=runs", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 trials to their end" in done.stdout


def test_a_figure_that_no_run_logs_ends_the_search(process: Command) -> None:
    words = [
        *TINY,
        "trainer.max_steps=1",
        "probe=none",
        "health=none",
        "seed=0,1",
        "search.trials=4",
        "search.at_once=1",
    ]
    done = process("search", *words, "search.trials=4", "search.at_once=1", "paths.out=runs", timeout=300)
    assert (done.returncode, "search.figure=val/knn_top1: a run came to its end without it" in done.stderr) == (2, True)
    assert done.stdout.count("  trial ") == 2  # the first, and what it says; no other was started


def test_a_failed_trial_says_why(process: Command, tmp_path: Path) -> None:
    words = [*TINY, "trainer.max_epochs=1", "health=none", "paths.out=runs"]
    done = process("search", *words, "data.batch_size=64,9999", "search.trials=2", timeout=300)
    assert "set data.batch_size=" in done.stdout
    assert "trials to their end" in done.stdout
    alone = process("search", *words, "data.batch_size=9999,9998", "search.trials=1", "search.name=b")
    assert alone.returncode == 1


TRAINING = """
import sys, time
from pathlib import Path

folder, *figures = sys.argv[1:]
Path(folder).mkdir()
print("run      " + folder, flush=True)
for figure in figures:
    with (Path(folder) / "metrics.jsonl").open("a") as stream:
        stream.write('{"val/knn_top1": ' + figure + "}\\n")
    time.sleep(0.5)
"""


def test_the_best_is_the_highest_and_what_stays_below_the_median_is_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = {"a": ["0.5", "0.6"], "b": ["0.6", "0.7"], "c": ["0.1", *["0.2"] * 20]}
    axes = {"backbone": list(logged)}
    asked = {"name": "x", "trials": 3, "figure": "val/knn_top1", "at_once": 1, "startup": 2, "seed": 0}
    made = study.opened(asked, tmp_path, [], axes)
    for value in logged:
        made.enqueue_trial({"backbone": value})
    real = subprocess.Popen

    def popen(line: list[str], **options: Any) -> Any:
        value = line[-1].removeprefix("backbone=")
        return real([sys.executable, "-c", TRAINING, str(tmp_path / value), *logged[value]], **options)

    monkeypatch.setattr(slots.subprocess, "Popen", popen)
    monkeypatch.setattr(study, "POLL", 0.05)
    study.Search(made, tmp_path, asked, [], axes).run()
    assert [(trial.params["backbone"], trial.state.name, trial.value) for trial in made.trials] == [
        ("a", "COMPLETE", 0.6),
        ("b", "COMPLETE", 0.7),
        ("c", "PRUNED", pytest.approx(0.15, abs=0.06)),
    ]
    said = capsys.readouterr().out
    assert "trial 2: stopped at 0." in said
    assert "2 trials to their end, 1 stopped before" in said
    assert said.index("| 0.7000 | b |") < said.index("| 0.6000 | a |")
    assert "best: python -m ssl_lab.train backbone=b" in said
    assert made.best_trial.params == {"backbone": "b"}


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
    monkeypatch.setattr(slots.subprocess, "Popen", lambda _line, **options: real(sleeper, **options))
    monkeypatch.setattr(study, "figures_of", lambda _log, _figure: [0.1])
    asked = {"at_once": 1, "figure": "val/knn_top1"}
    began = time.monotonic()
    code, pruned = study.Search(None, tmp_path, asked, [], {})._train(0, Hopeless(), tmp_path / "log", [])
    assert (code, pruned) == (-15, True)
    assert time.monotonic() - began < 30
