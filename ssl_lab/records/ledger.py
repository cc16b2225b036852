"""What is worth keeping of many runs: their records and results, without weights, checkpoints or paths."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_lab.records.lines import read_lines
from ssl_lab.records.metrics import read_metrics
from ssl_lab.records.results import read_results, readable
from ssl_lab.records.run import RunFolder, write_atomically

DURATION = ("max_epochs", "max_steps", "max_flops", "accumulate_grad_batches")  # keys of the trainer
_PLACES = ("search", "cache", "folder")
_FACTS = (
    "commit",
    "dirty",
    "versions",
    "hardware",
    "data",
    "precision",
    "whole_images",
    "images_seen",
    "views_seen",
    "flops",
    "seconds",
)


def same_run(config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two resolved configurations ask for the same run; what watches it does not count.

    Nor does where files lie, but for the folder of the images where both tell it: a ledger does not.
    """
    return identity(config) == identity(other) and same_root(config["data"], other["data"])


def same_images(config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two resolved configurations ask for the same images in the same roles; in what batches does not count."""
    one, two = (_without(given["data"], (*_PLACES, "root", "batch_size")) for given in (config, other))
    return one == two and same_root(config["data"], other["data"])


def same_root(data: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the folder of the images is the same, where both tell it."""
    roots = (data.get("root"), other.get("root"))
    return None in roots or roots[0] == roots[1]


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved configuration makes a run what it is; how it is watched, kept and placed is left out."""
    trainer, data = config["trainer"], config["data"]
    chosen = {"precision": trainer["precision"]} if trainer.get("precision", "auto") != "auto" else {}
    return {
        "method": config["method"],
        "seed": config["seed"],
        "data": _without(data, (*_PLACES, "root")),
        "trainer": {key: trainer[key] for key in DURATION if key in trainer} | chosen,
    }


def _without(node: Any, left_out: Sequence[str]) -> Any:
    if isinstance(node, Mapping):
        # What is null counts as absent: a run of an older version lacks the keys that came after it.
        return {k: _without(value, left_out) for k, value in node.items() if k not in left_out and value is not None}
    return node


def summary(run: RunFolder) -> dict[str, Any]:
    """One finished run as a line of a ledger: what was asked, what it took, its last figures, its results."""
    record, config = run.record, run.config
    facts = {key: record[key] for key in _FACTS if key in record}
    asked = identity(config)
    asked["data"] |= {"root": root} if (root := config["data"].get("root")) else {}
    ending = ending_figures(read_metrics(run.metrics_file))
    results = [line for line in read_results(run.results_file) if readable(line)]
    if not isinstance(facts["data"]["fingerprint"], str):
        raise TypeError("no fingerprint of its images")
    return {"config": asked, **facts, "ending": ending, "results": results}


def summaries(folder: Path) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """All finished runs below a folder, in the order in which they finished, and what of others could not be read."""
    found, unread = {}, []
    for file in sorted(folder.rglob("run.json"), key=lambda file: file.stat().st_mtime):
        run = RunFolder(file.parent)
        try:
            if run.finished:
                found[run.path] = summary(run)
                if left := len(read_results(run.results_file)) - len(found[run.path]["results"]):
                    unread.append(f"{run.path}: {left} of its results are left out, damaged or of an older version")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            unread.append(f"{run.path} is left out, damaged: {type(error).__name__} {error}")
    return found, unread


def ending_figures(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each training figure over the last tenth of the logged steps: single batches say little."""
    steps = [line for line in lines if "train/loss" in line]
    last = steps[-max(1, len(steps) // 10) :]
    names = {name for line in last for name in line if name.startswith("train/")}
    return {name: sum(line[name] for line in last) / len(last) for name in sorted(names)}


def baseline_results(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Every evaluation of a baseline below a folder of runs, and what of others could not be read."""
    lines: list[dict[str, Any]] = []
    unread = []
    for file in sorted((folder / "baselines").glob("*/results.jsonl")):
        try:
            found = read_results(file)
        except ValueError as error:
            unread.append(str(error))
            continue
        whole = [line for line in found if readable(line) and "trained_by" in line]
        lines += whole
        if left := len(found) - len(whole):
            unread.append(f"{file}: {left} results are left out, damaged or of an older version")
    return lines, unread


def read_ledger(file: Path) -> list[dict[str, Any]]:
    """The lines of a ledger; none where there is no file. ValueError names a damaged one."""
    return read_lines(file, file.read_text(), "mend it, or take the file away") if file.exists() else []


def write_ledger(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a ledger; the folders of images, which say nothing elsewhere, are left out."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = [line | {"config": identity(line["config"])} if "config" in line else line for line in map(dict, lines)]
    write_atomically(file, "".join(json.dumps(line, sort_keys=True) + "\n" for line in told))
