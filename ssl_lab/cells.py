"""From the records of runs to the cells of a table."""

import json
from collections.abc import Callable, Mapping
from statistics import mean, stdev
from typing import Any, NamedTuple

from scipy.stats import t as student

from ssl_lab.figures import over_seeds
from ssl_lab.known import Job, Known, Table, lines_of
from ssl_lab.records import duration, shown
from ssl_lab.spec import beside, published

Cells = dict[str, str]  # of a row, by column
NOT_YET = ("not yet run here", "not yet measured")  # without runs; without figures of theirs
SCRATCH = "supervised from scratch"


Scores = dict[str, dict[int | None, float]]  # from 0 to 1, by protocol and seed; None where nothing is random


class Found(NamedTuple):
    """The figures of a table."""

    runs: dict[str, list[dict[str, Any]]]  # of each row
    rows: dict[str, Scores]  # of each row and, recalibrated, once more
    baselines: dict[str, dict[str, Scores]]  # of each by the names that it is shown by
    random: dict[str, Scores]  # random weights of each row's own backbone


def find(table: Table, jobs: list[Job], known: Known) -> Found:
    """What is known of a table's runs and of the baselines beside them."""
    found = Found({row: [] for row in table.spec["rows"]}, {}, {base: {} for base in table.baselines}, {})
    shown: dict[tuple[str, str], str] = {}  # a baseline with a backbone has a row for each that occurs
    for job in jobs:
        if (run := known.run(job, table)) is None:
            continue
        found.runs[job.row].append(run)
        for (protocol, again), line in lines_of(run, table).items():
            name = f"{job.row}, recalibrated" if again else job.row
            found.rows.setdefault(name, {}).setdefault(protocol, {})[job.seed] = figure(line)
        for (base, protocol), line in known.beside(run, table).items():
            if not (line["figures"] and line.get("shown", ["top1"])):
                continue  # it does not apply
            kind = (base, json.dumps(line["trained_by"].get("backbone"), sort_keys=True))
            name = shown.setdefault(kind, f"{base} of {job.row}" if base in shown.values() else base)
            score = {line["trained_by"].get("seed"): figure(line)}
            found.baselines.setdefault(base, {}).setdefault(name, {}).setdefault(protocol, {}).update(score)
            if base == "random weights":
                found.random.setdefault(job.row, {}).setdefault(protocol, {}).update(score)
    return found


def rows(table: Table, jobs: list[Job], known: Known) -> list[Cells]:
    """The cells of a table: figures in per cent, mean and standard deviation over seeds, and what they cost."""
    found = find(table, jobs, known)
    scratch = [supervised_row(found)] if table.spec.get("supervised") else []
    own = [cells for row in table.spec["rows"] for cells in own_rows(row, table, found)]
    return [*(cells for base in table.baselines for cells in baseline_rows(base, table, found)), *scratch, *own]


def baseline_rows(base: str, table: Table, found: Found) -> list[Cells]:
    """A baseline, once for each backbone that it was measured with."""
    lines = []
    for name, scores in (found.baselines[base] or {base: {}}).items():
        cells = {"method": name}
        seeds = {seed for by in scores.values() for seed in by} - {None}
        for protocol in table.spec["protocols"]:
            cells[f"{protocol} %"] = spread(scores.get(protocol, {}), len(seeds) or None)
            cells |= {f"{protocol} over random": ""} if table.has_random else {}
        lines.append(cells | ({"seeds": str(len(seeds))} if seeds else {}))
    return lines


def supervised_row(found: Found) -> Cells:
    """What all weights learn from all labels, from random ones on."""
    scratch = supervised(found)
    cells = {"method": SCRATCH, "finetune %": spread(scratch)}
    return cells | ({"seeds": str(len(scratch))} if scratch else {})


def own_rows(row: str, table: Table, found: Found) -> list[Cells]:
    """A row of the table's file as trained, and with batch norm recalibrated where that was measured."""
    elsewhere, count = published(table.spec), len(found.runs[row])
    printed = {protocol for given in elsewhere.values() for protocol in given}
    lines = []
    for name in (row, f"{row}, recalibrated"):
        own, given, cells = found.rows.get(name, {}), elsewhere.get(name, {}), {"method": name}
        for protocol in table.spec["protocols"]:
            scored, random = own.get(protocol, {}), found.random.get(row, {}).get(protocol, {})
            cells[f"{protocol} %"] = spread(scored, count)
            if table.has_random:
                cells[f"{protocol} over random"] = interval(paired(scored, random))
            if protocol in printed:
                cells |= compared(given.get(protocol), protocol, scored, table, row)
        for protocol in beside(table.spec):
            if protocol in own:
                cells[f"{protocol} %"] = spread(own[protocol], count)
            if protocol in given:
                cells |= compared(given[protocol], protocol, own.get(protocol, {}), table, row)
        if name == row:
            lines.append(cells | (costs(found.runs[row]) if own else {"seeds": NOT_YET[count > 0]}))
        elif own:
            lines.append(cells)
    return lines


def columns_of(lines: list[Cells]) -> list[str]:
    """The columns of all rows, in the order in which they first come; of how many seeds a row is stands last."""
    names = dict.fromkeys(name for line in lines for name in line)
    return [name for name in names if name != "seeds"] + [name for name in names if name == "seeds"]


def supervised(found: Found) -> dict[int | None, float]:
    """Random weights of the first row's backbone, of which all were learned."""
    return next((scores["finetune"] for scores in found.random.values() if "finetune" in scores), {})


def figure(line: Mapping[str, Any]) -> float:
    """The figure that stands for a protocol in a table."""
    return float(line["figures"][headline(line)])


def headline(line: Mapping[str, Any]) -> str:
    """Its name: accuracy where the protocol has one, else the first that it shows."""
    named = shown(line)
    return "top1" if "top1" in named else named[0]


def paired(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> list[float]:
    """The differences at the seeds that both have."""
    return [score - theirs[seed] for seed, score in ours.items() if seed in theirs]


def compared(
    given: Mapping[str, Any] | None, protocol: str, scored: Mapping[Any, float], table: Table, row: str
) -> Cells:
    """What was printed elsewhere, and the difference where it was measured in the same way; else it is marked.

    So is what was trained otherwise.
    """
    if given is None:
        return {f"{protocol} published": "", f"{protocol} difference": ""}
    alike = table.beside_published and not given.get("measured")
    trained = not (table.spec.get("unlike") or table.spec["rows"][row].get("unlike"))
    marks = ("" if alike else "†") + ("" if trained else "‡") + ("?" if given.get("verified") is False else "")
    own = f"{100 * mean(scored.values()) - given['value']:+.1f}" if scored and alike else ""
    return {f"{protocol} published": f"{given['value']:g}{marks}", f"{protocol} difference": own}


COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "views": ("views_seen", lambda value: f"{value / 1e6:.2f} M"),
    "FLOPs": ("flops", lambda value: f"{value:.2g}"),
    "time": ("seconds", duration),
}


def costs(runs: list[dict[str, Any]]) -> Cells:
    """How well the pretext question was answered, and what training took, on average over seeds."""
    cells = {}
    ending = [run["ending"] for run in runs]
    pretext = ("train/pretext_top1", "train/pretext_error")
    figure = next((name for name in pretext if all(name in figures for figures in ending)), None)
    if figure is not None:
        per_cent = figure == "train/pretext_top1"
        score, chance = (mean(e[name] for e in ending) for name in (figure, "train/pretext_chance"))
        cells["pretext (chance)"] = (
            f"{100 * score:.1f} % ({100 * chance:.1f})" if per_cent else f"{score:.2f} ({chance:.2f})"
        )
    for column, (key, told) in COSTS.items():
        if values := [run[key] for run in runs if key in run]:
            cells[column] = told(mean(values))
    cells["seeds"] = str(len(runs))
    return cells


def spread(found: Mapping[Any, float], of: int | None = None) -> str:
    """What `over_seeds` writes of scores by seed."""
    return over_seeds(list(found.values()), of)


def interval(differences: list[float]) -> str:
    """Points: the mean of paired differences, and half the width of its 95 % interval (Student's t) from three on."""
    points = [100 * value for value in differences]
    if not points:
        return ""
    return f"{mean(points):+.1f}" + (f" ± {half_width(points):.1f}" if len(points) > 2 else "")


def half_width(values: list[float]) -> float:
    """Of the 95 % interval of a mean (Student's t)."""
    return float(student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5)


def differ(differences: list[float]) -> bool:
    """Whether the 95 % interval of a paired difference excludes zero."""
    return len(differences) > 2 and abs(mean(differences)) > half_width(differences)
