"""From a table's file to the runs it needs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_lab import cli
from ssl_lab.cells import Job, Known, about, markdown, rows, write
from ssl_lab.config import ConfigError, TableSpec, check, near
from ssl_lab.records import baseline_results, finished_folders, read_ledger, same_run, summary, write_ledger
from ssl_lab.slots import Job as Command
from ssl_lab.slots import Slots, report, tell


def tabulate(config: dict[str, Any]) -> None:
    """Make the runs that are missing, unless told otherwise; print the table, and write it to `outputs/tables`."""
    spec, out, name = read_spec(config["name"]), Path(config["paths"]["out"]), Path(config["name"]).stem
    jobs = jobs_of(spec, config["seeds"] or spec["seeds"])
    kept = cli.conf().parent / "docs" / "results" / f"{name}.jsonl"
    known = collect(out, kept)
    missing = [job for job in jobs if not measured(known.run(job), spec["protocols"], config["split"])]
    tell(f"{spec['title']}: {len(jobs)} runs, {len(missing)} of them to make or to measure")
    if config["plan"]:
        for job in missing:
            tell(f"  {'train' if known.run(job) is None else 'measure'}  {' '.join(job.overrides)}")
        return
    code = 0
    if config["train"] and missing:
        code = make(missing, spec, config, out / "tables" / name)
        known = collect(out, kept)
    lines = rows(spec, jobs, known, config["split"])
    text = f"{spec['title']}; {config['split']} split\n\n{markdown(lines)}\n"
    tell(text)
    for folder in (out / "tables", *([Path(config["save"])] if config["save"] else [])):
        write(folder / name, lines, text)
    if config["save"]:
        runs = [run for job in jobs if (run := known.run(job)) is not None]
        ledger = [*runs, *({"baseline": line} for line in known.baselines if about(line, runs))]
        write_ledger(Path(config["save"]) / f"{name}.jsonl", ledger)
    if code:
        raise SystemExit(code)


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


def make(jobs: list[Job], spec: Mapping[str, Any], config: Mapping[str, Any], logs: Path) -> int:
    """Train and evaluate, several runs at a time, each in processes of its own; the code to exit with."""
    out = Path(config["paths"]["out"])
    places = [f"paths.{key}={value}" for key, value in config["paths"].items()]
    evaluation = [
        f"protocol=[{','.join(spec['protocols'])}]",
        f"baselines=[{','.join(spec['baselines'])}]",
        f"split={config['split']}",
        *(spec.get("evaluation") or []),
    ]

    def lines(job: Job) -> Iterator[list[str]]:
        yield ["train", *job.overrides, *places]
        folder = next(run for run in finished_folders(out) if same_run(run.config, job.config))
        yield ["evaluate", f"run={folder.path}", *evaluation, *places]

    slots = Slots(config["at_once"], logs)
    return report(slots, slots.run([Command(f"{job.row}, seed {job.seed}", lines(job)) for job in jobs]))
