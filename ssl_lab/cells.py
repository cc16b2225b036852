"""From the records of runs to the cells of a table."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from statistics import mean, stdev
from typing import Any, NamedTuple

from scipy.stats import t as student

from ssl_lab.records import duration, same_run

Cells = dict[str, str]  # of a row, by column


class Job(NamedTuple):
    """One run of a table."""

    row: str
    seed: int
    overrides: list[str]
    config: dict[str, Any]  # that the overrides make


class Known(NamedTuple):
    """What has been measured: runs as lines of a ledger, and evaluations of baselines."""

    runs: list[dict[str, Any]]
    baselines: list[dict[str, Any]]

    def run(self, job: Job) -> dict[str, Any] | None:
        """The run of a job; the newest where there are several."""
        return next((run for run in reversed(self.runs) if same_run(run["config"], job.config)), None)


class Found(NamedTuple):
    """The figures of a table, from 0 to 1, by protocol and seed (None where nothing is random)."""

    runs: dict[str, list[dict[str, Any]]]  # of each row
    rows: dict[str, dict[str, dict[int | None, float]]]  # of each row and, recalibrated, once more
    baselines: dict[str, dict[str, dict[int | None, float]]]


def find(spec: Mapping[str, Any], jobs: list[Job], known: Known, split: str) -> Found:
    """What is known of a table's runs and of the baselines beside them."""
    protocols = [*spec["protocols"], *beside(spec)]
    of_jobs = {(job.row, job.seed): run for job in jobs if (run := known.run(job)) is not None}
    own = [line for line in known.baselines if about(line, list(of_jobs.values())) and line["split"] == split]
    baselines: dict[str, dict[str, dict[int | None, float]]] = {}
    for name in (name.replace("_", " ") for name in spec["baselines"]):
        lines = [line for line in own if line["name"] == name and line["figures"]]
        baselines[name] = {p: scores(line for line in lines if line["protocol"] == p) for p in protocols}
    rows: dict[str, dict[str, dict[int | None, float]]] = {}
    for (row, seed), run in of_jobs.items():
        for line in run["results"]:
            if line["split"] == split and line["protocol"] in protocols:
                name = f"{row}, recalibrated" if line["name"].endswith(", recalibrated") else row
                rows.setdefault(name, {}).setdefault(line["protocol"], {})[seed] = figure(line)
    runs = {row: [run for (name, _), run in of_jobs.items() if name == row] for row in spec["rows"]}
    return Found(runs, rows, baselines)


def rows(spec: Mapping[str, Any], jobs: list[Job], known: Known, split: str) -> list[Cells]:
    """The cells of a table: figures in per cent, mean and standard deviation over seeds, and what they cost."""
    found = find(spec, jobs, known, split)
    random, elsewhere = found.baselines.get("random weights", {}), published(spec)
    lines = []
    for name, own in found.baselines.items():
        cells = {"method": name}
        for protocol in spec["protocols"]:
            cells[f"{protocol} %"] = spread(own[protocol])
            if random:
                cells[f"{protocol} over random"] = ""
        lines.append(cells)
    if spec.get("supervised") and random:
        lines.append({"method": "supervised from scratch", "finetune %": spread(random["finetune"])})
    for row in spec["rows"]:
        for name in (row, f"{row}, recalibrated"):
            own = found.rows.get(name, {})
            cells = {"method": name}
            for protocol in spec["protocols"]:
                scored = own.get(protocol, {})
                cells[f"{protocol} %"] = spread(scored)
                if random:
                    cells[f"{protocol} over random"] = interval(paired(scored, random[protocol]))
                if elsewhere:
                    cells |= compared(elsewhere.get(name, {}).get(protocol), protocol, scored)
            cells |= {f"{protocol} %": spread(own[protocol]) for protocol in beside(spec) if protocol in own}
            if own or name in elsewhere:
                lines.append(cells | (costs(found.runs[row]) if own and name == row else {}))
    return lines


def beside(spec: Mapping[str, Any]) -> list[str]:
    """Protocols that some of the rows are measured under as well."""
    also = [protocol for row in spec["rows"].values() for protocol in row.get("also") or []]
    return list(dict.fromkeys([*also, *(["finetune"] if spec.get("supervised") else [])]))


def figure(line: Mapping[str, Any]) -> float:
    """The figure that stands for a protocol in a table."""
    return float(line["figures"][line.get("shown", ["top1"])[0]])


def scores(lines: Iterable[Mapping[str, Any]]) -> dict[int | None, float]:
    """The figure of each seed; of none where nothing is random."""
    return {line["trained_by"].get("seed"): figure(line) for line in lines}


def paired(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> list[float]:
    """The differences at the seeds that both have."""
    return [score - theirs[seed] for seed, score in ours.items() if seed in theirs]


def published(spec: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """What was printed elsewhere, by row and protocol."""
    return {name: row["published"] for name, row in spec["rows"].items() if row.get("published")}


def compared(given: Mapping[str, Any] | None, protocol: str, scored: Mapping[Any, float]) -> Cells:
    """What was printed elsewhere, and the difference where it was measured in the same way; else it is marked."""
    if given is None:
        return {f"{protocol} published": "", f"{protocol} difference": ""}
    marks = ("†" if given.get("measured") else "") + ("?" if given.get("verified") is False else "")
    own = f"{100 * mean(scored.values()) - given['value']:+.1f}" if scored and not given.get("measured") else ""
    return {f"{protocol} published": f"{given['value']:g}{marks}", f"{protocol} difference": own}


def notes(spec: Mapping[str, Any]) -> list[str]:
    """Where the published figures stand, and how they were measured where that is not our way."""
    told: dict[str, list[str]] = {}
    for row, given in published(spec).items():
        for protocol, one in given.items():
            how = f"; † measured as: {one['measured']}" if one.get("measured") else ""
            doubt = "; ? not verified" if one.get("verified") is False else ""
            told.setdefault(f"{one['source']}{how}{doubt}", []).append(f"{row} ({protocol})")
    return [f"{', '.join(names)}: {source}" for source, names in told.items()]


def ranks(spec: Mapping[str, Any], jobs: list[Job], known: Known, split: str) -> list[str]:
    """The rows of each protocol from best to worst; > where the next is worse beyond doubt, ≈ where it is not.

    Beyond doubt: the 95 % interval of the paired difference over seeds excludes zero. Below three seeds none is.
    """
    told = []
    for protocol in spec["protocols"]:
        own = {name: by[protocol] for name, by in find(spec, jobs, known, split).rows.items() if protocol in by}
        order = sorted(own, key=lambda name: -mean(own[name].values()))
        if len(order) < 2 or min(len(scored) for scored in own.values()) < 3:
            continue
        line = order[0]
        for better, worse in pairwise(order):
            line += f" {'>' if differ(paired(own[better], own[worse])) else '≈'} {worse}"
        told.append(f"{protocol}: {line}")
    return told


def against(jobs: list[Job], ours: Known, kept: Known, protocols: list[str], split: str) -> list[str]:
    """Each figure made here beside the one that was kept, and whether it lies in that one's interval over images."""
    told = []
    for job in jobs:
        here, there = (_lines(known.run(job), protocols, split) for known in (ours, kept))
        for name in [name for name in here if name in there]:
            made, was = figure(here[name]), there[name]
            shown = was.get("shown", ["top1"])[0]
            low, high = (was["figures"].get(f"{shown}_{end}") for end in ("low", "high"))
            line = f"{job.row}, seed {job.seed}, {', '.join(name)}: {100 * made:.1f} here, {100 * figure(was):.1f} kept"
            if low is not None and high is not None:
                inside = "in" if low <= made <= high else "OUTSIDE"
                line += f", {inside} {100 * low:.1f} to {100 * high:.1f}"
            told.append(line)
    return told


def _lines(run: Mapping[str, Any] | None, protocols: list[str], split: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """The evaluations of a run, the newest of each kind; those with batch norm recalibrated are of their own."""
    found = {}
    for line in run["results"] if run else []:
        if line["split"] == split and line["protocol"] in protocols:
            again = ("recalibrated",) if line["name"].endswith(", recalibrated") else ()
            found[(line["protocol"], *again)] = line
    return found


def costs(runs: list[dict[str, Any]]) -> Cells:
    """How well the pretext question was answered, and what training took, on average over seeds."""
    cells = {}
    ending = [run["ending"] for run in runs]
    figure = next((name for name in ("train/pretext_top1", "train/pretext_error") if name in ending[0]), None)
    if figure is not None:
        per_cent = figure == "train/pretext_top1"
        score, chance = (mean(e[name] for e in ending) for name in (figure, "train/pretext_chance"))
        cells["pretext (chance)"] = (
            f"{100 * score:.1f} % ({100 * chance:.1f})" if per_cent else f"{score:.2f} ({chance:.2f})"
        )
    cells["views"] = f"{mean(run['views_seen'] for run in runs) / 1e6:.2f} M"
    cells["FLOPs"] = f"{mean(run['flops'] for run in runs):.2g}"
    cells["time"] = duration(mean(run["seconds"] for run in runs))
    cells["seeds"] = str(len(runs))
    return cells


def spread(found: Mapping[Any, float]) -> str:
    """Per cent: the mean, and the standard deviation where there are several."""
    values = [100 * value for value in found.values()]
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


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


def about(line: Mapping[str, Any], runs: list[dict[str, Any]]) -> bool:
    """Whether an evaluation of a baseline belongs beside these runs: of the same data, backbone and seed."""
    made_by = line["trained_by"]
    return any(
        line["data"] == run["data"]
        and made_by.get("seed", run["config"]["seed"]) == run["config"]["seed"]
        and made_by.get("backbone", run["config"]["method"]["backbone"]) == run["config"]["method"]["backbone"]
        for run in runs
    )
