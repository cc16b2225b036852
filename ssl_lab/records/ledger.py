"""What is worth keeping of many runs: their records and results, without weights, checkpoints or paths."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ssl_lab.records.metrics import read_metrics
from ssl_lab.records.results import read_results
from ssl_lab.records.run import RunFolder, write_atomically

_DURATION = ("max_epochs", "max_steps", "max_flops", "accumulate_grad_batches")
_PLACES = ("root", "search", "cache", "folder")
_FACTS = (
    "commit",
    "dirty",
    "versions",
    "hardware",
    "data",
    "precision",
    "images_seen",
    "views_seen",
    "flops",
    "seconds",
)


def same_run(config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two resolved configurations ask for the same run; where files lie and what watches it do not count."""
    return _identity(config) == _identity(other)


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    trainer, data = config["trainer"], config["data"]
    return {
        "method": config["method"],
        "seed": config["seed"],
        "data": _without_places(data),
        "trainer": {key: trainer[key] for key in _DURATION if key in trainer},
    }


def _without_places(node: Any) -> Any:
    if isinstance(node, Mapping):
        # What is null counts as absent: a run of an older version lacks the keys that came after it.
        return {key: _without_places(value) for key, value in node.items() if key not in _PLACES and value is not None}
    return node


def summary(run: RunFolder) -> dict[str, Any]:
    """One finished run as a line of a ledger: what was asked, what it took, its last figures, its results."""
    record = run.record
    facts = {key: record[key] for key in _FACTS if key in record}
    ending = ending_figures(read_metrics(run.metrics_file))
    return {"config": _identity(run.config), **facts, "ending": ending, "results": read_results(run.results_file)}


def ending_figures(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each training figure over the last tenth of the logged steps: single batches say little."""
    steps = [line for line in lines if "train/loss" in line]
    last = steps[-max(1, len(steps) // 10) :]
    names = {name for line in last for name in line if name.startswith("train/")}
    return {name: sum(line[name] for line in last) / len(last) for name in sorted(names)}


def finished_runs(folder: Path) -> list[dict[str, Any]]:
    """Summaries of all finished runs below a folder."""
    return [summary(run) for run in finished_folders(folder)]


def finished_folders(folder: Path) -> list[RunFolder]:
    """All finished runs below a folder."""
    found = [RunFolder(file.parent) for file in sorted(folder.rglob("run.json"))]
    return [run for run in found if run.finished]


def baseline_results(folder: Path) -> list[dict[str, Any]]:
    """Every evaluation of a baseline below a folder of runs."""
    return [line for file in sorted((folder / "baselines").glob("*/results.jsonl")) for line in read_results(file)]


def read_ledger(file: Path) -> list[dict[str, Any]]:
    """The lines of a ledger; none where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def write_ledger(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a ledger."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, "".join(json.dumps(dict(line), sort_keys=True) + "\n" for line in lines))
