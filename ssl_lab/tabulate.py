"""From a table's file to the runs it needs, and from their records to its cells."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml
from scipy.stats import t as student

from ssl_lab import cli
from ssl_lab.config import ConfigError, TableSpec, check, near
from ssl_lab.records import (
    RunFolder,
    baseline_results,
    duration,
    finished_folders,
    read_ledger,
    same_run,
    summary,
    write_ledger,
)


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


def tabulate(config: dict[str, Any]) -> None:
    """Make the runs that are missing, unless told otherwise; print the table, and write it to `outputs/tables`."""
    spec, out, name = read_spec(config["name"]), Path(config["paths"]["out"]), Path(config["name"]).stem
    jobs = jobs_of(spec, config["seeds"] or spec["seeds"])
    kept = cli.conf().parent / "docs" / "results" / f"{name}.jsonl"
    known = collect(out, kept)
    missing = [job for job in jobs if not measured(known.run(job), spec["protocols"], config["split"])]
    say(f"{spec['title']}: {len(jobs)} runs, {len(missing)} of them to make or to measure")
    if config["plan"]:
        for job in missing:
            say(f"  {'train' if known.run(job) is None else 'measure'}  {' '.join(job.overrides)}")
        return
    if config["train"]:
        make(missing, spec, config, out / "tables" / name)
        known = collect(out, kept)
    lines = rows(spec, jobs, known, config["split"])
    text = f"{spec['title']}; {config['split']} split\n\n{markdown(lines)}\n"
    say(text)
    for folder in (out / "tables", *([Path(config["save"])] if config["save"] else [])):
        write(folder / name, lines, text)
    if config["save"]:
        runs = [run for job in jobs if (run := known.run(job)) is not None]
        ledger = [*runs, *({"baseline": line} for line in known.baselines if about(line, runs))]
        write_ledger(Path(config["save"]) / f"{name}.jsonl", ledger)


def read_spec(name: str) -> dict[str, Any]:
    """A file of `conf/table` by its name, or one of the user's by its path, checked."""
    file = Path(name) if name.endswith(".yaml") else cli.conf() / "table" / f"{name}.yaml"
    if not file.exists():
        there = sorted(found.stem for found in (cli.conf() / "table").glob("*.yaml"))
        raise ConfigError([f"name={name}: no such table; {near(name, there)}, or give the path of a yaml file"])
    spec: dict[str, Any] = yaml.safe_load(file.read_text())
    if problems := check(spec, TableSpec):
        raise ConfigError([f"{file.name}: {problem}" for problem in problems])
    return spec


def jobs_of(spec: Mapping[str, Any], seeds: list[int]) -> list[Job]:
    """Every run of a table, seed after seed, so that whole columns fill early. Raises ConfigError naming the row."""
    jobs, problems = [], []
    for seed in seeds:
        for row, own in spec["rows"].items():
            overrides = [*spec["shared"], *own, f"seed={seed}"]
            try:
                jobs.append(Job(row, seed, overrides, cli.compose("train", overrides)[0]))
            except ConfigError as error:
                problems += [f"{row}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return jobs


def collect(out: Path, kept: Path) -> Known:
    """What lies in a folder of runs, and what was kept of runs made elsewhere."""
    lines = read_ledger(kept)
    runs = [line for line in lines if "config" in line] + [summary(run) for run in finished_folders(out)]
    return Known(runs, [line["baseline"] for line in lines if "baseline" in line] + baseline_results(out))


def measured(run: Mapping[str, Any] | None, protocols: list[str], split: str) -> bool:
    """Whether a run stands, with a result of every protocol."""
    found = {line["protocol"] for line in run["results"] if line["split"] == split} if run else set()
    return set(protocols) <= found


def make(jobs: list[Job], spec: Mapping[str, Any], config: Mapping[str, Any], logs: Path) -> None:
    """Train and evaluate, several runs at a time, each in processes of its own that share the cores."""
    out = Path(config["paths"]["out"])
    places = [f"paths.{key}={value}" for key, value in config["paths"].items()]
    evaluation = [
        f"protocol=[{','.join(spec['protocols'])}]",
        f"baselines=[{','.join(spec['baselines'])}]",
        f"split={config['split']}",
        *(spec.get("evaluation") or []),
    ]
    threads = max(1, (os.cpu_count() or 1) // config["at_once"])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    logs.mkdir(parents=True, exist_ok=True)

    def one(job: Job) -> None:
        log = logs / f"{re.sub(r'[^a-z0-9]+', '-', job.row.lower())}-s{job.seed}.log"
        with log.open("w") as stream:

            def call(command: str, *words: str) -> bool:
                line = [sys.executable, "-m", f"ssl_lab.{command}", *words, *places]
                return not subprocess.run(line, stdout=stream, stderr=stream, env=environment, check=False).returncode

            done = call("train", *job.overrides)
            folder = find(job, out)
            done = done and folder is not None and call("evaluate", f"run={folder.path}", *evaluation)
        say(f"  {job.row}, seed {job.seed}: {'done' if done else f'failed, see {log}'}")

    with ThreadPoolExecutor(config["at_once"]) as pool:
        list(pool.map(one, jobs))


def find(job: Job, out: Path) -> RunFolder | None:
    """The finished folder of a job."""
    return next((run for run in finished_folders(out) if same_run(run.config, job.config)), None)


def about(line: Mapping[str, Any], runs: list[dict[str, Any]]) -> bool:
    """Whether an evaluation of a baseline belongs beside these runs: of the same data, backbone and seed."""
    made_by = line["trained_by"]
    return any(
        line["data"] == run["data"]
        and made_by.get("seed", run["config"]["seed"]) == run["config"]["seed"]
        and made_by.get("backbone", run["config"]["method"]["backbone"]) == run["config"]["method"]["backbone"]
        for run in runs
    )


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


def say(text: str) -> None:
    """A line for the user."""
    print(text, flush=True)  # noqa: T201  # the command's own output
