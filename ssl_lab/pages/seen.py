"""A run folder as the page of many runs reads it, once and whole, whatever its state."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ssl_lab.pages.apart import canonical, flat
from ssl_lab.pages.columns import as_read
from ssl_lab.records import RunFolder, identity, is_number, read_metrics, read_results

COSTS = ("views_seen", "flops", "seconds")
NAMED = 4  # values that are no numbers, in a row
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, yaml.YAMLError)


@dataclass(frozen=True)
class Seen:
    """A folder as the page shows it.

    problem: why it cannot be read, has not come to its end, or is not shown whole. made_of: all that makes it what it
    is but the seed, by dotted keys: its configuration, its images, its precision. group: the same as text, which its
    seeds share; empty where the folder cannot be read. per_step: what turns a step into epochs, images and seconds.
    """

    folder: Path
    problem: str
    finished: bool = False
    seed: int = 0
    made_of: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    last: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    per_step: Mapping[str, float | None] = field(default_factory=dict)
    results: tuple[Mapping[str, Any], ...] = ()

    @property
    def title(self) -> str:
        """The folder's name without its hash."""
        return self.folder.name.rpartition("-")[0] or self.folder.name


def look(folder: Path) -> Seen:
    """A run folder, whatever its state: what cannot be read becomes a row that says so."""
    run = RunFolder(folder)
    try:
        return read(run)
    except UNREADABLE as error:
        return Seen(folder, f"is running; {error}" if run.being_written else str(error))


def once(runs: Iterable[Seen]) -> list[Seen]:
    """The same, where a run that another repeats, of the same seed, says so and belongs to no group."""
    kept: dict[tuple[str, int], Seen] = {}
    runs = list(runs)
    for run in sorted(runs, key=lambda run: (not run.finished, -len(run.results))):  # the one that most is known of
        if run.group:
            kept.setdefault((run.group, run.seed), run)

    def as_one(run: Seen) -> Seen:
        first = kept.get((run.group, run.seed), run)
        return run if first is run else replace(run, group="", problem=f"left out: the same run as {first.folder}")

    return [as_one(run) for run in runs]


def read(run: RunFolder) -> Seen:
    """All that the page shows of a run. Raises ValueError that says what is wrong."""
    odd: list[str] = []
    with reading("run.json"):
        record = run.record
        own = dict(record.get("data") or {})
        costs = numbers({key: record[key] for key in COSTS if key in record}, odd)
        last = numbers(record.get("last") or {}, odd, nan=True)
    config = configuration(run)
    with reading("config.yaml"):
        made_of = flat(identity(config)) | {"images": own.get("fingerprint"), "precision": record.get("precision")}
        made_of.pop("trainer.precision", None)  # what it came to stands in the record
        seed = int(made_of.pop("seed"))
        # What is null counts as absent: a run of an older version lacks the keys that came after it.
        group = canonical({key: value for key, value in made_of.items() if value is not None})
        batch = int(config["data"]["batch_size"]) * int(config["trainer"].get("accumulate_grad_batches") or 1)
    with reading("metrics.jsonl"):
        lines = read_metrics(run.metrics_file)
        curves, steps, epochs = drawn(lines, odd)
    with reading("results.jsonl"):
        results = tuple(numeric(as_read(line, own), odd) for line in read_results(run.results_file))
    finished = record.get("status") == "finished"
    seconds = costs["seconds"] / steps if finished and "seconds" in costs else None  # of a run that goes on, not yet
    per_step = {"epochs": epochs / steps, "images": batch, "seconds": seconds}
    state = lost(lines, last) if finished else [unfinished(run, record)]
    problem = "; ".join(state + missing_numbers(odd))
    return Seen(run.path, problem, finished, seed, made_of, group, costs, last, curves, per_step, results)


def configuration(run: RunFolder) -> dict[str, Any]:
    """What made the run. Raises ValueError where it is none that this version can read."""
    if not run.config_file.exists():
        raise ValueError(f"damaged: no config.yaml{'' if (run.path / 'run.json').exists() else ', and no run.json'}")
    with reading("config.yaml"):
        config = run.config
        if not isinstance(config["method"]["_target_"], str):
            raise ValueError("no method")
    if missing := [key for key in ("data", "trainer", "seed") if key not in config]:
        raise ValueError(f"of an older version: config.yaml has no {', '.join(missing)}")
    return config


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Within, what cannot be read raises a ValueError that names the file."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"damaged: {type(error).__name__} {' '.join(str(error).split())}, in {name}") from error


def unfinished(run: RunFolder, record: Mapping[str, Any]) -> str:
    return "is running" if run.being_written else str(record.get("last_error") or "has not finished")


def lost(lines: list[dict[str, Any]], last: Mapping[str, float]) -> list[str]:
    """What a finished run's log lacks of its last figures, which its record tells; nothing where it is whole."""
    there = {name for line in lines for name in line}
    gone = [name for name in last if name.startswith("val/") and name not in there]
    return [f"damaged: metrics.jsonl has lost {', '.join(gone[:NAMED])}"] if gone else []


def missing_numbers(odd: list[str]) -> list[str]:
    """What is no number and should be, in a few words; nothing where there is none."""
    named = list(dict.fromkeys(odd))
    return [f"no number: {', '.join(named[:NAMED])}{' and others' if len(named) > NAMED else ''}"] if named else []


def numbers(found: Mapping[str, Any], odd: list[str], nan: bool = False) -> dict[str, float]:
    """Those that are finite; `odd` gets the others, but not-a-number where a metric may be it."""
    kept = {}
    for name, value in found.items():
        if is_number(value):
            kept[name] = value
        elif not (nan and isinstance(value, float)):
            odd.append(f"{name} {str(value)[:40]}")
    return kept


def drawn(lines: list[dict[str, Any]], odd: list[str]) -> tuple[dict[str, list[tuple[float, float]]], float, float]:
    """Each metric by step, how many steps there are, and epochs."""
    curves: dict[str, list[tuple[float, float]]] = {}
    steps, epochs = 1, 0
    for line in lines:
        step = int(line["step"])
        figures = {name: value for name, value in line.items() if "/" in name and name != "val/knn_k"}
        for name, value in numbers(figures, odd, nan=True).items():
            curves.setdefault(name, []).append((step, value))
        epoch = numbers({"epoch": line.get("epoch", 0)}, odd).get("epoch", 0)
        steps, epochs = max(steps, step), max(epochs, int(epoch))
    return {name: points for name, points in curves.items() if len(points) > 1}, steps, epochs + 1


def numeric(line: Mapping[str, Any], odd: list[str]) -> dict[str, Any]:
    """A result with the figures that can be shown."""
    named = {f"{line['protocol']} {name}": line["figures"][name] for name in line["shown"]}
    kept = numbers(named, odd)
    shown = [name for name in line["shown"] if f"{line['protocol']} {name}" in kept]
    return {**line, "shown": shown, "figures": {name: line["figures"][name] for name in shown}}
