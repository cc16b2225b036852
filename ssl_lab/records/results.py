"""What evaluations found: one line each, and tables of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table


def append_result(file: Path, line: Mapping[str, Any]) -> None:
    """Add one evaluation to `results.jsonl`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write(json.dumps(dict(line)) + "\n")


def read_results(file: Path) -> list[dict[str, Any]]:
    """All evaluations of a run, oldest first."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def asked_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a protocol's configuration asks for, as a result line holds it under `asked`."""
    return {key: value for key, value in node.items() if not key.startswith("_")}


def same_evaluation(line: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two lines measure the same thing in the same way, whatever they found."""
    keys = ("protocol", "asked", "split", "data", "encoder", "precision")
    return all(line.get(key) == other.get(key) for key in keys)


def results_table(lines: Sequence[Mapping[str, Any]], title: str) -> Table:
    """One row an encoder, one column a figure that its protocol shows; below them the settings that made them."""
    protocols = list(dict.fromkeys(line["protocol"] for line in lines))
    columns = list(dict.fromkeys((line["protocol"], name) for line in lines for name in line.get("shown", ["top1"])))
    cells = {(line["name"], line["protocol"]): line for line in lines}
    table = Table(title=title, title_justify="left", caption_justify="left")
    found = [next((line for line in lines if line["protocol"] == p and line["figures"]), None) for p in protocols]
    table.caption = "\n".join(describe(line) for line in found if line)
    table.add_column("encoder", no_wrap=True)
    for protocol, figure in columns:
        table.add_column(f"{protocol} {figure.replace('top1', 'top-1')} %", justify="right")
    for name in dict.fromkeys(line["name"] for line in lines):
        table.add_row(name, *(cell(cells.get((name, protocol)), figure) for protocol, figure in columns))
    return table


def cell(line: Mapping[str, Any] | None, figure: str) -> str:
    """A figure in per cent; "-" where it was not measured."""
    value = None if line is None else line["figures"].get(figure)
    return "-" if value is None else f"{100 * value:.1f}"


def describe(line: Mapping[str, Any]) -> str:
    """A protocol and all its settings in one line; before them its figures, where none is a share for the table."""
    words = ", ".join(f"{key} {value}" for key, value in line["settings"].items())
    if not line.get("shown", ["top1"]):
        figures = (f"{key} {value:.4g}" for key, value in line["figures"].items() if isinstance(value, float))
        words = f"{', '.join(figures)}; {words}"
    return f"{line['protocol']}: {words}; {line['split']} split, {line['epoch_rule']} epoch, {line['precision']}"
