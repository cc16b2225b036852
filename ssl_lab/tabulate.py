"""Make the runs that a table lacks, show it, and keep its records."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_lab import recipes
from ssl_lab.arguments import override
from ssl_lab.cells import Cells, rows
from ssl_lab.known import Job, Known, Table, about, lacking, lines_of
from ssl_lab.pages import runs_page, table_page, write_pages
from ssl_lab.records import baseline_results, duration, read_ledger, same_run, summaries, write_ledger
from ssl_lab.remarks import against, remarks
from ssl_lab.say import say
from ssl_lab.sheet import as_markdown, write
from ssl_lab.slots import Commands, Slots, folder_named, gpus, report, slots_for
from ssl_lab.spec import beside_supervised, jobs_of, protocols_of, read_spec


def tabulate(config: dict[str, Any], folder: Path | None = None) -> None:
    """Make the runs that are missing, unless told otherwise; print the table, and write it to `outputs/tables`.

    folder: of the user's own options, which rows may name.
    """
    out, name = Path(config["paths"]["out"]), Path(config["name"]).stem
    kept = read_known(recipes.conf().parent / "docs" / "results" / f"{name}.jsonl")
    table = Table(*read_spec(config["name"], config["rows"], folder), config["split"])
    jobs = jobs_of(table.spec, config["seeds"] or table.spec["seeds"], folder, config["words"])
    at_once = config["at_once"] or min((slots_for(job.config["trainer"]["devices"]) for job in jobs), default=1)
    slots = Slots(at_once, out / "tables" / name)
    elsewhere = Known([], []) if config["anew"] else kept
    here, known = collect(out, elsewhere, jobs)
    missing = [job for job in jobs if wanting(job, known, table)]
    say(f"{table.spec['title']}: {len(jobs)} runs, {len(missing)} of them to make or to measure")
    if config["plan"]:
        plan(missing, Known(list(here.values()), []), table, at_once)
        return
    code = 0
    if config["train"] and missing:
        code = make(missing, table, known, config, slots, folder)
        here, known = collect(out, elsewhere, jobs)
    made = [path for path, run in here.items() if any(same_run(run["config"], job.config) for job in jobs)]
    show(table, jobs, known, made, out / "tables" / name)
    if config["anew"]:
        compared, outside = against(table, jobs, known, kept)
        say("\n".join([f"Made anew, beside {name}.jsonl and its 95 % intervals over images:", *compared]))
        code = code or int(outside > 0)
    if config["save"]:
        whole = Table(*read_spec(config["name"], None, folder), table.split)
        stem = Path(config["save"]) / name
        there = read_known(stem.with_name(f"{name}.jsonl"))
        seeds = [*whole.spec["seeds"], *(config["seeds"] or []), *(run["config"]["seed"] for run in there.runs)]
        every = jobs_of(whole.spec, seeds, folder)
        both = Known([*kept.runs, *there.runs], [*kept.baselines, *there.baselines])
        save(whole, every, collect(out, both, every)[1], stem)
    if code:
        raise SystemExit(code)


def show(table: Table, jobs: list[Job], known: Known, made: list[Path], stem: Path) -> None:
    """Print the table, and write it, a page of it, and one of the runs that were made here."""
    lines = rows(table, jobs, known)
    text = text_of(table, lines, jobs, known)
    say(text)
    write(stem, lines, f"{text}\n")
    page = stem.with_name(f"{stem.name}.html")
    page.write_text(table_page(table, lines, remarks(table, jobs, known), jobs, known))
    say(f"\n{page}: the same to look at, and accuracy against cost; open it in a browser")
    if made:
        page = stem.with_name(f"{stem.name}-runs.html")
        write_pages(made, known.baselines)
        page.write_text(runs_page(made, page))
        say(f"{page}: the runs that were made here, with their curves")


def text_of(table: Table, lines: list[Cells], jobs: list[Job], known: Known) -> str:
    """A table's rows, and what is to be said below them."""
    return "\n\n".join(
        [f"{table.spec['title']}; {table.split} split", as_markdown(lines), *remarks(table, jobs, known)]
    )


def save(table: Table, jobs: list[Job], known: Known, stem: Path) -> None:
    """Keep what is known of all seeds, those that were kept before among them: a table of each split, and all lines.

    Raises ValueError where a run that the files hold would be lost.
    """
    ledger = stem.with_name(f"{stem.name}.jsonl")
    runs = [run for job in jobs for run in known.of_each_split(job, table)]
    kept = read_known(ledger).runs
    if lost := [run for run in kept if not any(same_run(run["config"], one["config"]) for one in runs)]:
        raise ValueError(
            f"save={stem.parent}: {ledger.name} holds {len(lost)} runs that this table has no place for (other rows, "
            "settings or images), and they would be lost: give another folder, or take the file away"
        )
    asked = [line for line in known.baselines if table.asks_of_some_split(line)]
    keys = ("name", "split", "protocol", "data", "trained_by")
    each = {
        json.dumps([line[key] for key in keys], sort_keys=True): line
        for line in asked
        if any(about(line, run) for run in runs)
    }
    for split in ("val", "test"):
        one = table._replace(split=split)
        if any(lines_of(run, one) for run in runs):
            lines = rows(one, jobs, known)
            write(stem.with_name(f"{stem.name}-{split}"), lines, f"{text_of(one, lines, jobs, known)}\n")
    write_ledger(ledger, [*runs, *({"baseline": line} for line in each.values())])


def wanting(job: Job, known: Known, table: Table) -> bool:
    """Whether a run is still to be made or to be measured."""
    run = known.run(job, table)
    return run is None or bool(lacking(run, protocols_of(job.row, table.spec), known, table))


def collect(out: Path, elsewhere: Known, jobs: list[Job]) -> tuple[dict[Path, dict[str, Any]], Known]:
    """The runs that lie in a folder, and all that is known, runs made elsewhere included.

    Of these none on other images than a run of the table made here: another copy of a data set is another set.
    """
    here, unread = summaries(out)
    beside, lost = baseline_results(out)
    for line in [*unread, *lost]:
        say(f"note  {line}")
    own = [run for run in here.values() if any(same_run(run["config"], job.config) for job in jobs)]
    prints = {run["data"]["name"]: run["data"]["fingerprint"] for run in own}
    same = [run for run in elsewhere.runs if prints.get(run["data"]["name"]) in (None, run["data"]["fingerprint"])]
    if len(same) < len(elsewhere.runs):
        say(f"note  {len(elsewhere.runs) - len(same)} runs that were kept saw other images than those here: left out")
    return here, Known([*same, *here.values()], [*elsewhere.baselines, *beside])


def read_known(ledger: Path) -> Known:
    """What a ledger holds."""
    lines = read_ledger(ledger)
    runs = [line for line in lines if "config" in line]
    return Known(runs, [line["baseline"] for line in lines if "baseline" in line])


def plan(jobs: list[Job], here: Known, table: Table, at_once: int) -> None:
    """What is missing, and how long the training will take, estimated from a few steps of each row, made now."""
    from ssl_lab.estimate import seconds

    each: dict[str, float | None] = {}
    times: list[float] = []
    unknown = 0
    for job in jobs:
        words = " ".join(job.overrides)
        if here.run(job, table) is not None:
            say(f"  measure  {words}")
            continue
        if job.row not in each:
            each[job.row] = seconds(job.config, table.spec.get("images"), at_once)
        took = each[job.row]
        times.append(took or 0.0)
        unknown += took is None
        say(f"  train    {words}: {'length unknown' if took is None else duration(took)}")
    if any(times):
        apart = min(at_once, len(gpus()) or at_once)  # each was timed with a GPU to itself
        say(f"about {duration(ends(times, apart))} of training, {at_once} at a time; evaluation comes on top")
        if any(job.config["trainer"]["devices"] != 1 for job in jobs):
            say("estimated for a single device, where the runs share their batches among several")
    if unknown:
        say(f"{unknown} of unknown length: their data is not at hand, and the table does not say `images`")


def ends(times: list[float], slots: int) -> float:
    """When the last of some jobs has ended that are started in turn, each where a slot is free."""
    busy = [0.0] * slots
    for took in times:
        busy[busy.index(min(busy))] += took
    return max(busy)


def make(
    jobs: list[Job], table: Table, known: Known, config: Mapping[str, Any], slots: Slots, folder: Path | None
) -> int:
    """Train and evaluate, several runs at a time, each in processes of its own; the code to exit with."""
    places = [override(f"paths.{key}", value) for key, value in config["paths"].items()]
    own = [] if folder is None else [f"--config-dir={folder}"]

    def measured(job: Job) -> Callable[[Path], Iterator[list[str]]]:
        start = ["evaluate", *own, *places]
        return lambda log: evaluations(job, table, known, [*start, override("run", folder_named(log))])

    commands = [
        Commands(f"{job.row}, seed {job.seed}", [["train", *own, *job.overrides, *places]], measured(job))
        for job in jobs
    ]
    return report(slots, slots.run(commands))


def evaluations(job: Job, table: Table, known: Known, start: list[str]) -> Iterator[list[str]]:
    """The commands that measure a run, and beside it the baselines which no other run has had measured."""
    spec, start = table.spec, [*start, f"split={table.split}"]
    there = known.baselines_of(job, table)
    missing = [name for name in spec["baselines"] if name.replace("_", " ") not in there]
    asked = [f"protocol=[{','.join(spec['protocols'])}]", *(spec.get("evaluation") or [])]
    yield [*start, *asked, f"baselines=[{','.join(missing)}]"]
    tuned = beside_supervised(job.row, spec)
    for protocol in spec["rows"][job.row].get("also") or []:
        if not (tuned and protocol == "finetune"):
            yield [*start, f"protocol={protocol}"]
    if tuned:
        yield [*start, "protocol=finetune", "baselines=[random_weights]", *spec["supervised"]]
