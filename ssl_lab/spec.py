"""A table's file: the rows and runs it asks for, and under which protocols."""

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ssl_lab import recipes
from ssl_lab.config import ConfigError, check
from ssl_lab.known import Job
from ssl_lab.records import asked_of, identity, same_run
from ssl_lab.say import near
from ssl_lab.schemas import TableRow, TableSpec


def read_spec(
    name: str, only: list[str] | None = None, folder: Path | None = None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A file of `conf/table` by its name, or one of the user's by its path, checked; and what it asks of each protocol.

    only: these of its rows. Raises ConfigError with all that is wrong.
    """
    file = Path(name) if name.endswith(".yaml") else recipes.conf() / "table" / f"{name}.yaml"
    if not file.exists():
        there = sorted(found.stem for found in (recipes.conf() / "table").glob("*.yaml"))
        raise ConfigError([f"name={name}: no such table; {near(name, there)}, or give the path of a yaml file"])
    try:
        spec: Any = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file.name}: no yaml: {' '.join(str(error).split())}"]) from None
    problems = check(spec, TableSpec) if isinstance(spec, dict) else ["holds no keys; see conf/table/cifar10-cpu.yaml"]
    if not problems:
        spec["rows"] |= combinations(spec.get("sweep") or {})
        spec["rows"] = {name: row if isinstance(row, Mapping) else {"train": row} for name, row in spec["rows"].items()}
        problems += [f"rows.{name}.{problem}" for name, row in spec["rows"].items() for problem in check(row, TableRow)]
    if not problems:
        told = ("run=", "split=", "protocol=", "baselines=")
        problems += [f"rows.{name}: a name is text: '{name}'" for name in spec["rows"] if not isinstance(name, str)]
        problems += [
            f"evaluation: {word}: is said by the table itself; take it out"
            for word in spec.get("evaluation") or []
            if word.startswith(told)
        ]
        problems += [
            f"rows.{row}.published.{protocol}: no protocol of this row; {near(protocol, protocols_of(row, spec))}"
            for row, given in published(spec).items()
            for protocol in given
            if protocol not in protocols_of(row, spec)
        ]
    if problems:
        raise ConfigError([f"{file.name}: {problem}" for problem in problems])
    there = list(spec["rows"])
    if not there:
        raise ConfigError([f"{file.name}: rows: holds none; see conf/table/cifar10-cpu.yaml"])
    spec["first"] = there[0]  # also where it is not among those asked for
    if wrong := [row for row in only or [] if row not in there]:
        raise ConfigError([f"rows={row}: {file.name} has no such row; {near(row, there)}" for row in wrong])
    spec["rows"] = {name: row for name, row in spec["rows"].items() if only is None or name in only}
    return spec, asked_by(spec, folder)


def asked_by(spec: Mapping[str, Any], folder: Path | None) -> dict[str, dict[str, Any]]:
    """The settings of each protocol, so that results of other settings do not count. Raises ConfigError."""

    def asked(protocols: list[str], words: list[str] | None) -> dict[str, dict[str, Any]]:
        given = [f"protocol=[{','.join(protocols)}]", *(words or [])]
        nodes = recipes.compose("evaluate", ["run=run", *given], folder)[0]["protocols"]
        return {protocol: asked_of(node) for protocol, node in nodes.items()}

    tuned = asked(["finetune"], spec["supervised"]) if spec.get("supervised") else {}
    also = [protocol for protocol in beside(spec) if protocol not in tuned]
    return asked(spec["protocols"], spec.get("evaluation")) | (asked(also, []) if also else {}) | tuned


def combinations(axes: Mapping[str, list[Any]]) -> dict[str, list[str]]:
    """A row for each combination of the values of a sweep, named by them."""
    rows = {}
    for values in product(*axes.values()) if axes else []:
        chosen = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen.items())
        rows[name] = [f"{key}={value}" for key, value in chosen.items()]
    return rows


def jobs_of(
    spec: Mapping[str, Any], seeds: list[int], folder: Path | None = None, words: list[str] | None = None
) -> list[Job]:
    """Every run of a table, seed after seed, so that whole columns fill early. Raises ConfigError naming the row.

    words: for every run besides, such as trainer=ddp; of what leaves the result alone.
    """
    jobs, problems = [], []
    rows: dict[str, str] = {}  # by what makes a run what it is
    for seed in dict.fromkeys(seeds):
        for row, own in spec["rows"].items():
            if seed not in (own.get("seeds") or [seed]):
                continue
            plain = [*spec["shared"], *own["train"], f"seed={seed}"]
            overrides = [*plain, *(words or [])]
            try:
                config = recipes.compose("train", overrides, folder)[0]
                if words and not same_run(config, recipes.compose("train", plain, folder)[0]):
                    problems.append(
                        f"words={','.join(words)}: changes the result of {row}; put it into the table's file"
                    )
            except ConfigError as error:
                problems += [f"{row}: {problem}" for problem in error.problems]
                continue
            jobs.append(Job(row, seed, overrides, config))
            known = json.dumps([identity(config), config["data"].get("root")], sort_keys=True, default=str)
            if (first := rows.setdefault(known, row)) != row:
                problems.append(
                    f"{row}: the same run as {first}; a table has it once (its seeds are no axis of a sweep)"
                )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return jobs


def protocols_of(row: str, spec: Mapping[str, Any]) -> list[str]:
    """What its runs are measured under."""
    tuned = ["finetune"] if beside_supervised(row, spec) else []
    return list(dict.fromkeys([*spec["protocols"], *(spec["rows"][row].get("also") or []), *tuned]))


def beside_supervised(row: str, spec: Mapping[str, Any]) -> bool:
    """Whether it is fine-tuned as what is supervised is: the file's first row."""
    return bool(spec.get("supervised")) and row == (spec.get("first") or next(iter(spec["rows"])))


def beside(spec: Mapping[str, Any]) -> list[str]:
    """Protocols that some of the rows are measured under as well."""
    also = [protocol for row in spec["rows"].values() for protocol in row.get("also") or []]
    return list(dict.fromkeys([*also, *(["finetune"] if spec.get("supervised") else [])]))


def published(spec: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """What was printed elsewhere, by row and protocol."""
    return {name: row["published"] for name, row in spec["rows"].items() if row.get("published")}
