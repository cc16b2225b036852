"""Many runs side by side on one page."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml

from ssl_lab.pages.page import escape, page, place, table, thinned
from ssl_lab.records import RunFolder, duration, read_metrics, read_results

POINTS = 60  # of each curve
MOST = 12  # groups side by side, values in a line


@dataclass(frozen=True)
class Seen:
    """A folder as the page shows it; `problem` where it cannot be read, or has not come to its end."""

    folder: Path
    config: dict[str, Any]
    record: dict[str, Any]
    lines: list[dict[str, Any]]
    results: list[dict[str, Any]]
    problem: str

    @cached_property
    def made_of(self) -> dict[str, Any]:
        """All that makes it what it is, by dotted keys: its configuration, its images, its precision."""
        told = {"images": (self.record.get("data") or {}).get("fingerprint"), "precision": self.record.get("precision")}
        return flat(self.config) | told

    @cached_property
    def group(self) -> str:
        """What its seeds share, as text."""
        return json.dumps({key: value for key, value in self.made_of.items() if key != "seed"}, sort_keys=True)

    @property
    def title(self) -> str:
        """The folder's name without its hash."""
        return self.folder.name.rpartition("-")[0] or self.folder.name


def look(folder: Path) -> Seen:
    """A run folder, whatever its state: a damaged one becomes a row that says so."""
    run = RunFolder(folder)
    try:
        record, config = run.record, run.config
        lines, results = read_metrics(run.metrics_file), read_results(run.results_file)
        method, seed = config["method"]["_target_"], config["seed"]
        _ = int(config["data"]["batch_size"]), [line["step"] + 0 for line in lines]  # the curves read them
        results = [shown(line, record) for line in results]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        return Seen(folder, {}, {}, [], [], f"damaged: {type(error).__name__} {error}")
    if not (isinstance(method, str) and isinstance(seed, int)):
        return Seen(folder, {}, {}, [], [], "damaged: no method or seed")
    problem = ""
    if record.get("status") != "finished":
        problem = "is running" if run.being_written else str(record.get("last_error") or "has not finished")
    return Seen(folder, config, record, lines, results, problem)


def shown(line: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A result with what the page reads of it: the figures that are numbers, and the data where it is not the run's."""
    figures = {name: value for name, value in line["figures"].items() if isinstance(value, int | float)}
    other = line.get("data") not in (None, record.get("data"))
    told = [name for name in line.get("shown", ["top1"]) if name in figures]
    elsewhere = str(line["data"].get("name", "other data")) if other else ""
    return {**line, "figures": figures, "shown": told, "on": elsewhere, "asked": line.get("asked") or {}}


def runs_page(folders: Sequence[Path], to: Path) -> str:
    """Groups of seeds in a table, curves, accuracy against cost, what differs, and what did not come to its end.

    to: the file that the page will be, so that it can point to the pages of the runs.
    """
    seen = [look(folder) for folder in folders]
    whole = [run for run in seen if run.config]
    names = labels(whole)
    costs = cost(whole, names)
    sections = [
        ("Methods", groups(whole, names, to)),
        ("Curves", place("curves", "compare") if any(run.lines for run in whole) else ""),
        ("Accuracy against cost", place("cost", "charts") if costs else ""),
        ("What differs", differences(whole, names)),
        ("Not finished, or damaged", problems(seen)),
    ]
    data = {"curves": curves(whole, names), "cost": costs}
    return page(f"{len(seen)} runs", sections, data)


def labels(runs: Sequence[Seen]) -> dict[str, str]:
    """A short name for each group; where two would have the same, what tells them apart follows."""
    first = {run.group: run for run in reversed(runs)}
    named: dict[str, list[str]] = {}
    for group, run in first.items():
        named.setdefault(run.title.rpartition("-s")[0] or run.title, []).append(group)
    found = {}
    for title, alike in named.items():
        configs = {group: first[group].made_of for group in alike}
        keys = telling(list(configs.values()))
        for group, config in configs.items():
            own = ", ".join(f"{key.rpartition('.')[2]} {config.get(key)}" for key in keys)
            found[group] = f"{title} ({own})" if own else title
    return found


def telling(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few of the keys in which they differ as tell them all apart, the first that help."""
    chosen: list[str] = []
    apart = 1
    for key in differing(configs):
        several = len({json.dumps([config.get(k) for k in (*chosen, key)]) for config in configs})
        if several > apart:
            chosen, apart = [*chosen, key], several
    return chosen


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What makes a run what it is, by dotted keys; where files lie and what watches the run is left out."""
    found: dict[str, Any] = {}
    left_out = {"paths", "loggers", "callbacks"} if not prefix else {"root", "search", "cache", "folder"}
    for key, value in config.items():
        if key not in left_out:
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys, but the seed, that have not one value."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [k for k in keys if k != "seed" and len({json.dumps(c.get(k), sort_keys=True) for c in configs}) > 1]


class Column(NamedTuple):
    """Which figure a column shows; figures that were measured otherwise stand in another."""

    protocol: str
    split: str
    on: str  # other data than the run's own
    asked: str  # settings, where a protocol was measured with several
    figure: str

    def __str__(self) -> str:
        others = [word for word in (self.asked, self.on) if word]
        return ", ".join([f"{self.protocol} {self.figure.replace('top1', 'top-1')} %", self.split, *others])


def figures_of(run: Seen, apart: Mapping[str, Sequence[str]]) -> dict[Column, float]:
    """A run's newest figure for each column; recalibrated encoders are not its own.

    apart: of each protocol the settings in which measurements differ.
    """
    found = {}
    for line in run.results:
        asked = ", ".join(f"{key} {line['asked'].get(key)}" for key in apart[line["protocol"]])
        for name in line["shown"] if not line["name"].endswith(", recalibrated") else ():
            found[Column(line["protocol"], line["split"], line["on"], asked, name)] = line["figures"][name]
    return found


def groups(runs: Sequence[Seen], names: Mapping[str, str], to: Path) -> str:
    """A row a group: mean and standard deviation over seeds of every figure, and what a run cost."""
    asked: dict[str, list[dict[str, Any]]] = {}
    for line in (line for run in runs for line in run.results):
        asked.setdefault(line["protocol"], []).append(line["asked"])
    apart = {protocol: differing(settings) for protocol, settings in asked.items()}
    figures = {run.folder: figures_of(run, apart) for run in runs}
    columns = list(dict.fromkeys(column for run in runs for column in figures[run.folder]))
    members: dict[str, list[Seen]] = {}
    for run in runs:
        members.setdefault(run.group, []).append(run)

    def found(own: Sequence[Seen], column: Column) -> list[float]:
        return [figures[run.folder][column] for run in own if column in figures[run.folder]]

    def first_figure(group: str) -> float:
        values = found(members[group], columns[0]) if columns else []
        return mean(values) if values else -1.0

    rows = []
    for group in sorted(names, key=first_figure, reverse=True):
        name, own = names[group], members[group]
        finished = [run for run in own if not run.problem]
        cells = [escape(name), f"{len(finished)} of {len(own)}"]
        cells += [spread(found(finished, column)) for column in columns]
        for key, scale, form in (("views_seen", 1e6, "{:.2f}"), ("flops", 1, "{:.3g}"), ("seconds", 1, "{}")):
            values = [run.record[key] for run in finished if key in run.record]
            average = mean(values) / scale if values else 0.0
            text = duration(average) if key == "seconds" else form.format(average)
            cells.append(f'<span data-sort="{average}">{text}</span>' if values else "")
        rows.append([*cells, " ".join(link(run, to) for run in own)])
    head = ["runs", "finished", *(escape(column) for column in columns)]
    note = "<p>Mean ± standard deviation over seeds. Click a heading to sort.</p>"
    find = '<input class="find" placeholder="show rows that hold …" aria-label="filter">'
    return note + find + table([*head, "views, M", "FLOPs", "time", "seeds"], rows, sortable=True) if rows else ""


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f'<span data-sort="{mean(values)}">{100 * mean(values):.1f}{deviation}</span>'


def link(run: Seen, to: Path) -> str:
    """The seed, leading to the run's own page where there is one."""
    seed, own = escape(run.config["seed"]), run.folder / "report.html"
    if not own.is_file():
        return seed
    target = Path(os.path.relpath(own.resolve(), to.resolve().parent)).as_posix()
    return f'<a href="{escape(target)}">{seed}</a>'


def curves(runs: Sequence[Seen], names: Mapping[str, str]) -> dict[str, Any]:
    """Every metric of every run by step, with what turns a step into images seen and seconds."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        steps = max((line["step"] for line in run.lines), default=0)
        batch = run.config["data"]["batch_size"] * run.config["trainer"].get("accumulate_grad_batches", 1)
        epochs = max((line.get("epoch", 0) for line in run.lines), default=0) + 1
        seconds = run.record.get("seconds")  # of a finished run alone
        for name in dict.fromkeys(name for line in run.lines for name in line if "/" in name and name != "val/knn_k"):
            points = [(line["step"], line[name]) for line in run.lines if math.isfinite(line.get(name, math.nan))]
            if len(points) > 1:
                each = max(steps, 1)
                per_step = {"epochs": epochs / each, "images": batch, "seconds": seconds and seconds / each}
                series = {"name": names[run.group], "seed": run.config["seed"], "points": thinned(points, POINTS)}
                metrics.setdefault(name, []).append(series | {"per_step": per_step})
    preferred = sorted(metrics, key=lambda name: (name != "val/knn_top1", name != "train/loss", name))
    return {name: metrics[name] for name in preferred}


def cost(runs: Sequence[Seen], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Accuracy by training compute, a point a run, for every protocol that classifies."""
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        for line in run.results:
            if "top1" in line["figures"] and run.record.get("flops") and not line["name"].endswith(", recalibrated"):
                chart = charts.setdefault(f"{line['protocol']} top-1 %, {line['split']}", {})
                chart.setdefault(names[run.group], []).append((run.record["flops"], 100 * line["figures"]["top1"]))
    return [
        {"title": title, "x": "FLOPs", "dots": True, "series": [{"name": n, "points": p} for n, p in chart.items()]}
        for title, chart in charts.items()
    ]


def differences(runs: Sequence[Seen], names: Mapping[str, str]) -> str:
    """The keys in which groups differ, a row each; beyond the method itself these are what one should know of."""
    first = {run.group: run.made_of for run in runs}
    keys = differing(list(first.values()))
    outside = [key for key in keys if not key.startswith("method.") or key.startswith("method.backbone.")]
    note = f"<p class='flag'>They differ beyond the method: {escape(', '.join(outside))}.</p>" if outside else ""
    if len(first) > MOST:  # too many to stand side by side
        told = [[escape(key), escape(values_of(key, list(first.values())))] for key in keys]
        return note + table(["key", f"values among {len(first)} groups"], told) if keys else ""
    rows = [[escape(key), *(escape(config.get(key, "")) for config in first.values())] for key in keys]
    return note + table(["key", *(names[group] for group in first)], rows) if rows else ""


def values_of(key: str, configs: Sequence[Mapping[str, Any]]) -> str:
    """What a key is in some configurations, and in how many."""
    counts = Counter(str(config.get(key)) for config in configs)
    told = ", ".join(f"{value} ({count})" for value, count in counts.most_common(MOST))
    return told + (f" and {len(counts) - MOST} more" if len(counts) > MOST else "")


def problems(seen: Sequence[Seen]) -> str:
    """A row for each run that is no whole one."""
    rows = [[escape(run.folder), escape(run.problem)] for run in seen if run.problem]
    return table(["folder", "what is known"], rows) if rows else ""
