"""From a table's file to the runs it needs."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ssl_lab import cli
from ssl_lab.cells import Job, Known, about, against, beside, notes, ranks, rows
from ssl_lab.config import ConfigError, check, near
from ssl_lab.pages import runs_page
from ssl_lab.records import (
    baseline_results,
    duration,
    finished_folders,
    read_ledger,
    same_run,
    summary,
    write_ledger,
)
from ssl_lab.say import say
from ssl_lab.schemas import TableRow, TableSpec
from ssl_lab.sheet import markdown, write
from ssl_lab.slots import Job as Command
from ssl_lab.slots import Slots, report


def tabulate(config: dict[str, Any]) -> None:
    """Make the runs that are missing, unless told otherwise; print the table, and write it to `outputs/tables`."""
    spec, out, name = read_spec(config["name"]), Path(config["paths"]["out"]), Path(config["name"]).stem
    jobs = jobs_of(spec, config["seeds"] or spec["seeds"])
    kept = cli.conf().parent / "docs" / "results" / f"{name}.jsonl"
    elsewhere = Known([], []) if config["anew"] else read_known(kept)
    known = collect(out, elsewhere)
    missing = [job for job in jobs if not measured(known.run(job), protocols_of(job, spec), config["split"])]
    say(f"{spec['title']}: {len(jobs)} runs, {len(missing)} of them to make or to measure")
    if config["plan"]:
        plan(missing, known, spec, config["at_once"])
        return
    code = 0
    if config["train"] and missing:
        code = make(missing, spec, config, out / "tables" / name)
        known = collect(out, elsewhere)
    lines = rows(spec, jobs, known, config["split"])
    text = "\n\n".join([f"{spec['title']}; {config['split']} split", markdown(lines), *told(spec, jobs, known, config)])
    say(text)
    if config["anew"]:
        same = against(jobs, known, read_known(kept), [*spec["protocols"], *beside(spec)], config["split"])
        say("\n".join([f"Made anew, beside {kept.name} and its 95 % interval over images:", *same]))
    for folder in (out / "tables", *([Path(config["save"])] if config["save"] else [])):
        write(folder / name, lines, f"{text}\n")
    if folders := [run.path for run in finished_folders(out) for job in jobs if same_run(run.config, job.config)]:
        page = out / "tables" / f"{name}.html"
        page.write_text(runs_page(folders, page))
        say(f"\n{page}: open it in a browser")
    if config["save"]:
        runs = [run for job in jobs if (run := known.run(job)) is not None]
        ledger = [*runs, *({"baseline": line} for line in known.baselines if about(line, runs))]
        write_ledger(Path(config["save"]) / f"{name}.jsonl", ledger)
    if code:
        raise SystemExit(code)


def told(spec: Mapping[str, Any], jobs: list[Job], known: Known, config: Mapping[str, Any]) -> list[str]:
    """What stands below a table: which rows differ, and where published figures come from."""
    ranked = ranks(spec, jobs, known, config["split"])
    differ = (
        "From best to worst; > where the next row is worse by the 95 % interval of the paired difference over seeds"
    )
    return [*([f"{differ}, ≈ where that is not told apart:", *ranked] if ranked else []), *notes(spec)]


def read_spec(name: str) -> dict[str, Any]:
    """A file of `conf/table` by its name, or one of the user's by its path, checked; each row with its `train`."""
    file = Path(name) if name.endswith(".yaml") else cli.conf() / "table" / f"{name}.yaml"
    if not file.exists():
        there = sorted(found.stem for found in (cli.conf() / "table").glob("*.yaml"))
        raise ConfigError([f"name={name}: no such table; {near(name, there)}, or give the path of a yaml file"])
    spec: dict[str, Any] = yaml.safe_load(file.read_text())
    problems = check(spec, TableSpec)
    if isinstance(spec.get("rows"), Mapping):
        spec["rows"] |= {} if problems else combinations(spec.get("sweep") or {})
        spec["rows"] = {name: row if isinstance(row, Mapping) else {"train": row} for name, row in spec["rows"].items()}
        problems += [f"rows.{name}.{problem}" for name, row in spec["rows"].items() for problem in check(row, TableRow)]
    if problems:
        raise ConfigError([f"{file.name}: {problem}" for problem in problems])
    return spec


def combinations(axes: Mapping[str, list[Any]]) -> dict[str, list[str]]:
    """A row for each combination of the values of a sweep, named by them."""
    rows = {}
    for values in product(*axes.values()) if axes else []:
        chosen = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen.items())
        rows[name] = [f"{key}={value}" for key, value in chosen.items()]
    return rows


def jobs_of(spec: Mapping[str, Any], seeds: list[int]) -> list[Job]:
    """Every run of a table, seed after seed, so that whole columns fill early. Raises ConfigError naming the row."""
    jobs, problems = [], []
    for seed in seeds:
        for row, own in spec["rows"].items():
            if seed not in (own.get("seeds") or [seed]):
                continue
            overrides = [*spec["shared"], *own["train"], f"seed={seed}"]
            try:
                jobs.append(Job(row, seed, overrides, cli.compose("train", overrides)[0]))
            except ConfigError as error:
                problems += [f"{row}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return jobs


def protocols_of(job: Job, spec: Mapping[str, Any]) -> list[str]:
    """What a run is measured under: the first row's fine-tuning stands beside what is supervised from scratch."""
    tuned = spec.get("supervised") and job.row == next(iter(spec["rows"]))
    return [*spec["protocols"], *(spec["rows"][job.row].get("also") or []), *(["finetune"] if tuned else [])]


def collect(out: Path, elsewhere: Known) -> Known:
    """What lies in a folder of runs, and what is known of runs made elsewhere."""
    runs = elsewhere.runs + [summary(run) for run in finished_folders(out)]
    return Known(runs, elsewhere.baselines + baseline_results(out))


def read_known(ledger: Path) -> Known:
    """What a ledger holds."""
    lines = read_ledger(ledger)
    runs = [line for line in lines if "config" in line]
    return Known(runs, [line["baseline"] for line in lines if "baseline" in line])


def measured(run: Mapping[str, Any] | None, protocols: list[str], split: str) -> bool:
    """Whether a run stands, with a result of every protocol."""
    found = {line["protocol"] for line in run["results"] if line["split"] == split} if run else set()
    return set(protocols) <= found


def plan(jobs: list[Job], known: Known, spec: Mapping[str, Any], at_once: int) -> None:
    """What is missing, and how long the training will take: told from a few steps of each row, made now."""
    from ssl_lab.estimate import seconds

    each: dict[str, float | None] = {}
    total, unknown = 0.0, 0
    for job in jobs:
        words = " ".join(job.overrides)
        if known.run(job) is not None:
            say(f"  measure  {words}")
            continue
        if job.row not in each:
            each[job.row] = seconds(job.config, spec.get("images"))
        took = each[job.row]
        total, unknown = total + (took or 0.0), unknown + (took is None)
        say(f"  train    {words}: {'length unknown' if took is None else duration(took)}")
    if total:
        say(f"about {duration(total / at_once)} of training, {at_once} at a time, each as fast as alone")
    if unknown:
        say(f"{unknown} of unknown length: their data is not at hand, and the table does not say `images`")


def make(jobs: list[Job], spec: Mapping[str, Any], config: Mapping[str, Any], logs: Path) -> int:
    """Train and evaluate, several runs at a time, each in processes of its own; the code to exit with."""
    out = Path(config["paths"]["out"])
    places = [f"paths.{key}={value}" for key, value in config["paths"].items()]
    split = f"split={config['split']}"
    asked = [f"protocol=[{','.join(spec['protocols'])}]", f"baselines=[{','.join(spec['baselines'])}]"]
    asked += spec.get("evaluation") or []

    def lines(job: Job) -> Iterator[list[str]]:
        yield ["train", *job.overrides, *places]
        folder = next(run for run in finished_folders(out) if same_run(run.config, job.config))
        yield ["evaluate", f"run={folder.path}", *asked, split, *places]
        for protocol in spec["rows"][job.row].get("also") or []:
            yield ["evaluate", f"run={folder.path}", f"protocol={protocol}", split, *places]
        if "finetune" in protocols_of(job, spec):
            words = ["protocol=finetune", "baselines=[random_weights]", *spec["supervised"]]
            yield ["evaluate", f"run={folder.path}", *words, split, *places]

    slots = Slots(config["at_once"], logs)
    return report(slots, slots.run([Command(f"{job.row}, seed {job.seed}", lines(job)) for job in jobs]))
