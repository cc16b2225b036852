"""From the records of runs to the cells of a table."""

import csv
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from scipy.stats import t as student

from ssl_lab.records import duration, same_run


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


def rows(spec: Mapping[str, Any], jobs: list[Job], known: Known, split: str) -> list[dict[str, str]]:
    """The cells of a table: figures in per cent, mean and standard deviation over seeds, and what they cost."""
    runs = {(job.row, job.seed): run for job in jobs if (run := known.run(job)) is not None}
    beside = [line for line in known.baselines if about(line, list(runs.values())) and line["split"] == split]
    random = {p: scores(line for line in beside if line["name"] == "random weights" and line["protocol"] == p)
              for p in spec["protocols"]}  # fmt: skip
    lines = []
    for name in (name.replace("_", " ") for name in spec["baselines"]):
        cells = {"method": name}
        for protocol in spec["protocols"]:
            found = scores(line for line in beside if line["name"] == name and line["protocol"] == protocol)
            cells |= {f"{protocol} %": spread(found), f"{protocol} over random": ""}
        lines.append(cells)
    for row in spec["rows"]:
        own = {seed: run for (name, seed), run in runs.items() if name == row}
        for again in (False, True):
            cells = {"method": f"{row}, recalibrated" if again else row}
            for protocol in spec["protocols"]:
                found = {
                    seed: line["figures"]["top1"]
                    for seed, run in own.items()
                    for line in run["results"]
                    if (line["protocol"], line["split"]) == (protocol, split)
                    and line["name"].endswith(", recalibrated") == again
                }
                over = [score - random[protocol][seed] for seed, score in found.items() if seed in random[protocol]]
                cells |= {f"{protocol} %": spread(found), f"{protocol} over random": interval(over)}
            if any(cells[f"{protocol} %"] for protocol in spec["protocols"]):
                lines.append(cells | ({} if again else costs(list(own.values()))))
    return lines


def scores(lines: Any) -> dict[int | None, float]:
    """Accuracy of each seed; of none where nothing is random."""
    return {line["trained_by"].get("seed"): line["figures"]["top1"] for line in lines if line["figures"]}


def costs(runs: list[dict[str, Any]]) -> dict[str, str]:
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
    half = student.ppf(0.975, len(points) - 1) * stdev(points) / len(points) ** 0.5 if len(points) > 2 else None
    return f"{mean(points):+.1f}" + ("" if half is None else f" ± {half:.1f}")


def markdown(lines: list[dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    body = [[line.get(column, "") for column in columns] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *body))


def write(stem: Path, lines: list[dict[str, str]], text: str) -> None:
    """The table as `.md` and `.csv`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text)
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with stem.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(lines)


def about(line: Mapping[str, Any], runs: list[dict[str, Any]]) -> bool:
    """Whether an evaluation of a baseline belongs beside these runs: of the same data, backbone and seed."""
    made_by = line["trained_by"]
    return any(
        line["data"] == run["data"]
        and made_by.get("seed", run["config"]["seed"]) == run["config"]["seed"]
        and made_by.get("backbone", run["config"]["method"]["backbone"]) == run["config"]["method"]["backbone"]
        for run in runs
    )
