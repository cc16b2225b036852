"""Many runs side by side on one page."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from ssl_lab.pages.page import escape, page, place, table, thinned
from ssl_lab.records import RunFolder, duration, read_metrics, read_results

POINTS = 60  # of each curve


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
    def group(self) -> str:
        """What its seeds share: all that makes it what it is, as text."""
        return json.dumps({key: value for key, value in flat(self.config).items() if key != "seed"}, sort_keys=True)

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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        return Seen(folder, {}, {}, [], [], f"damaged: {type(error).__name__} {error}")
    if not (isinstance(method, str) and isinstance(seed, int)):
        return Seen(folder, {}, {}, [], [], "damaged: no method or seed")
    problem = "" if record.get("status") == "finished" else str(record.get("last_error") or "has not finished")
    return Seen(folder, config, record, lines, results, problem)


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
        keys = differing([flat(first[group].config) for group in alike])
        for group in alike:
            config = flat(first[group].config)
            own = ", ".join(f"{key.rpartition('.')[2]} {config.get(key)}" for key in keys[:4])
            found[group] = f"{title} ({own})" if own else title
    return found


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


def groups(runs: Sequence[Seen], names: Mapping[str, str], to: Path) -> str:
    """A row a group: mean and standard deviation over seeds of every figure, and what a run cost."""
    columns = list(dict.fromkeys((line["protocol"], line["split"], name) for run in runs for line in run.results
                                 for name in line["shown"] if line["figures"]))  # fmt: skip
    members = {group: [run for run in runs if run.group == group] for group in names}

    def first_figure(group: str) -> float:
        values = [value for run in members[group] for column in columns[:1] for value in found(run, column)]
        return mean(values) if values else -1.0

    rows = []
    for group in sorted(names, key=first_figure, reverse=True):
        name, own = names[group], members[group]
        finished = [run for run in own if not run.problem]
        cells = [escape(name), f"{len(finished)} of {len(own)}"]
        cells += [spread([value for run in finished for value in found(run, column)]) for column in columns]
        for key, scale, form in (("views_seen", 1e6, "{:.2f}"), ("flops", 1, "{:.3g}"), ("seconds", 1, "{}")):
            values = [run.record[key] for run in finished if key in run.record]
            average = mean(values) / scale if values else 0.0
            text = duration(average) if key == "seconds" else form.format(average)
            cells.append(f'<span data-sort="{average}">{text}</span>' if values else "")
        rows.append([*cells, " ".join(link(run, to) for run in own)])
    head = ["runs", "finished", *(f"{p} {n.replace('top1', 'top-1')} %, {s}" for p, s, n in columns)]
    note = "<p>Mean ± standard deviation over seeds. Click a heading to sort.</p>"
    find = '<input class="find" placeholder="show rows that hold …" aria-label="filter">'
    return note + find + table([*head, "views, M", "FLOPs", "time", "seeds"], rows, sortable=True) if rows else ""


def found(run: Seen, column: tuple[str, str, str]) -> list[float]:
    """A run's newest figure of a protocol, as a list of one or none; recalibrated encoders are not its own."""
    protocol, split, name = column
    values = [line["figures"][name] for line in run.results if (line["protocol"], line["split"]) == (protocol, split)
              and name in line["figures"] and not line["name"].endswith(", recalibrated")]  # fmt: skip
    return values[-1:]


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
        batch = run.config["data"]["batch_size"] * run.config["trainer"]["accumulate_grad_batches"]
        epochs = max((line.get("epoch", 0) for line in run.lines), default=0) + 1
        seconds = run.record.get("seconds", 0)
        for name in dict.fromkeys(name for line in run.lines for name in line if "/" in name and name != "val/knn_k"):
            points = [(line["step"], line[name]) for line in run.lines if math.isfinite(line.get(name, math.nan))]
            if len(points) > 1:
                per_step = {"epochs": epochs / steps, "images": batch, "seconds": seconds / steps}
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
    first = {run.group: flat(run.config) for run in runs}
    keys = differing(list(first.values()))
    outside = [key for key in keys if not key.startswith("method.") or key.startswith("method.backbone.")]
    note = f"<p class='flag'>They differ beyond the method: {escape(', '.join(outside))}.</p>" if outside else ""
    rows = [
        [escape(key), *(escape(config.get(key, "")) for config in first.values())] for key in keys if len(first) <= 12
    ]
    if keys and not rows:
        return note + f"<p>{len(keys)} keys differ among {len(first)} groups: too many to show side by side.</p>"
    return note + table(["key", *(names[group] for group in first)], rows) if rows else ""


def problems(seen: Sequence[Seen]) -> str:
    """A row for each run that is no whole one."""
    rows = [[escape(run.folder), escape(run.problem)] for run in seen if run.problem]
    return table(["folder", "what is known"], rows) if rows else ""
