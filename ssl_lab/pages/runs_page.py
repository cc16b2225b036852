"""Many runs side by side on one page."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote

from ssl_lab.figures import over_seeds
from ssl_lab.pages.apart import METHOD, beyond, by_node, differing, telling
from ssl_lab.pages.columns import Column, Columns
from ssl_lab.pages.page import escape, page, place, table, thinned
from ssl_lab.pages.run_page import health_section
from ssl_lab.pages.seen import COSTS, Seen, look, once
from ssl_lab.records import duration

POINTS = 60  # of each curve
MOST = 12  # groups side by side, values in a line
PROBED = "val/knn_top1"
PROBE = Column("while training, knn", "val", "", "", "top1")


def runs_page(folders: Sequence[Path], to: Path, failed: Mapping[str, str] | None = None) -> str:
    """Groups of seeds in a table, curves, accuracy against cost, what differs, and what did not come to its end.

    to: the file that the page will be, so that it can point to the pages of the runs. failed: jobs that failed, by
    their folder or, where they had none yet, by their name, with what each said last.
    """
    seen = once(map(look, folders))
    whole = [run for run in seen if run.group]
    names = labels(whole)
    columns = Columns(line for run in whole for line in run.results)
    figures = {run.folder: figures_of(run, columns) for run in whole}
    drawn, costs = curves(whole, names), cost(whole, names, figures)
    health = health_charts(drawn)
    sections = [
        ("Methods", groups(whole, names, figures, to)),
        ("Curves", place("curves", "compare") if drawn else ""),
        ("Accuracy against cost", place("cost", "charts") if costs else ""),
        ("Health, without labels", health_section() if health else ""),
        ("What differs", differences(whole, names)),
        ("Not finished, or damaged", problems(seen, failed or {})),
    ]
    return page(f"{len(seen)} runs", sections, {"curves": drawn, "cost": costs, "health": health})


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


def figures_of(run: Seen, columns: Columns) -> dict[Column, float]:
    """A run's newest figure for each column, then its probe's last; recalibrated encoders are not its own."""
    own = [line for line in run.results if not line["name"].endswith(", recalibrated")]
    found = {columns.of(line, name): line["figures"][name] for line in own for name in line["shown"]}
    return found | ({PROBE: run.last[PROBED]} if PROBED in run.last else {})


def groups(
    runs: Sequence[Seen], names: Mapping[str, str], figures: Mapping[Path, Mapping[Column, float]], to: Path
) -> str:
    """A row a group: mean and standard deviation over seeds of every figure, and what a run cost."""
    columns = list(dict.fromkeys(column for run in runs for column in figures[run.folder]))
    columns.sort(key=lambda column: column == PROBE)  # what was measured afterwards stands before it
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
        finished = [run for run in own if run.finished]
        cells = [escape(name), f"{len(finished)} of {len(own)}"]
        cells += [spread(found(finished, column), len(finished)) for column in columns]
        cells += [spent(key, [run.costs[key] for run in finished if key in run.costs]) for key in COSTS]
        rows.append([*cells, " ".join(link(run, to) for run in own)])
    head = ["runs", "finished", *map(str, columns)]
    note = "<p>Mean ± standard deviation over seeds. Click a heading to sort.</p>"
    find = '<input class="find" placeholder="show rows that hold …" aria-label="filter">'
    return note + find + table([*head, "views, M", "FLOPs", "time", "seeds"], rows, sortable=True) if rows else ""


def spread(values: Sequence[float], of: int) -> str:
    return f'<span data-sort="{mean(values)}">{over_seeds(values, of)}</span>' if values else ""


def spent(key: str, values: Sequence[float]) -> str:
    """The mean of what runs cost: views in millions, FLOPs, or time."""
    if not values:
        return ""
    average = mean(values)
    text = {"views_seen": f"{average / 1e6:.2f}", "flops": f"{average:.3g}", "seconds": duration(average)}[key]
    return f'<span data-sort="{average}">{text}</span>'


def link(run: Seen, to: Path) -> str:
    """The seed, leading to the run's own page where there is one."""
    seed, own = escape(run.seed), run.folder / "report.html"
    if not own.is_file():
        return seed
    target = Path(os.path.relpath(own.resolve(), to.resolve().parent)).as_posix()
    return f'<a href="{escape(quote(target))}">{seed}</a>'


def curves(runs: Sequence[Seen], names: Mapping[str, str]) -> dict[str, Any]:
    """Every metric of every run by step, with what turns a step into images seen and seconds."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for name, points in run.curves.items():
            series = {"name": names[run.group], "seed": run.seed, "points": thinned(points, POINTS)}
            metrics.setdefault(name, []).append(series | {"per_step": run.per_step})
    preferred = sorted(metrics, key=lambda name: (name != "val/knn_top1", name != "train/loss", name))
    return {name: metrics[name] for name in preferred}


def health_charts(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A chart for each health figure, which leaves the metrics to choose from."""
    names = [name for name in metrics if name.startswith("health/")]
    return [{"title": name, "x": "step", "series": metrics.pop(name)} for name in names]


def cost(
    runs: Sequence[Seen], names: Mapping[str, str], figures: Mapping[Path, Mapping[Column, float]]
) -> list[dict[str, Any]]:
    """Accuracy against FLOPs and against seconds, a point a run: of the probe and of what classifies."""
    charts: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        found = {str(column): value for column, value in figures[run.folder].items() if column.figure == "top1"}
        for title, value in found.items():
            for key, axis in (("flops", "FLOPs"), ("seconds", "seconds")):
                if run.costs.get(key):
                    chart = charts.setdefault((title, axis), {})
                    chart.setdefault(names[run.group], []).append((run.costs[key], 100 * value))
    return [
        {
            "title": f"{title}, against {axis}",
            "x": axis,
            "dots": True,
            "series": [{"name": name, "points": points} for name, points in chart.items()],
        }
        for (title, axis), chart in charts.items()
    ]


def differences(runs: Sequence[Seen], names: Mapping[str, str]) -> str:
    """The keys in which groups differ, a row each; what differs beyond the axis they compare one should know of."""
    first = {run.group: run.made_of for run in runs}
    configs = list(first.values())
    keys, outside = differing(configs), beyond(configs)
    axis = "beyond the method" if METHOD in keys else "in more than one key"
    note = f"<p class='flag'>They differ {axis}: {escape(by_node(outside))}.</p>" if outside else ""
    if len(first) > MOST:  # too many to stand side by side
        counted = [[escape(key), escape(values_of(key, configs))] for key in keys]
        return note + table(["key", f"values among {len(first)} groups"], counted) if keys else ""
    rows = [[escape(key), *(escape(config.get(key, "")) for config in configs)] for key in keys]
    return note + table(["key", *(names[group] for group in first)], rows) if rows else ""


def values_of(key: str, configs: Sequence[Mapping[str, Any]]) -> str:
    """What a key is in some configurations, and in how many."""
    counts = Counter(str(config.get(key)) for config in configs)
    told = ", ".join(f"{value} ({count})" for value, count in counts.most_common(MOST))
    return told + (f" and {len(counts) - MOST} more" if len(counts) > MOST else "")


def told(run: Seen, failed: Mapping[str, str]) -> str:
    """What is known of a run that is no whole one, and what its job said last, where that is more."""
    last = failed.get(str(run.folder), "")
    return run.problem if not last or run.problem in last or last in run.problem else f"{run.problem}; last: {last}"


def problems(seen: Sequence[Seen], failed: Mapping[str, str]) -> str:
    """A row for each run that is no whole one, and for each job that never became one."""
    known = dict(failed) | {str(run.folder): told(run, failed) for run in seen if run.problem}
    rows = [[escape(name), escape(problem)] for name, problem in known.items()]
    return table(["folder, or job", "what is known"], rows) if rows else ""
