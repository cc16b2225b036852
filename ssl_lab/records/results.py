"""What evaluations found: one line each, and tables of them."""

import fcntl
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ssl_lab.figures import markdown, per_cent
from ssl_lab.records.lines import read_lines

WIDEST = 8  # columns of a table on a terminal
SPREADS = "in brackets 95 % over test images drawn again; ± the standard deviation over subsets of the labels"


def append_result(file: Path, line: Mapping[str, Any]) -> None:
    """Add one evaluation to `results.jsonl`, whole, whatever other processes add to it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        written = stream.read()
        if written and not written.endswith("\n"):  # a line that a kill cut off
            os.truncate(file, len(written[: written.rfind("\n") + 1].encode()))
        stream.write(json.dumps(dict(line)) + "\n")


def read_results(file: Path) -> list[dict[str, Any]]:
    """All evaluations of a run, oldest first; a last line that was cut off is none. ValueError names a damaged one."""
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return read_lines(file, whole, "take it out, and what it held is measured again")


def readable(line: Any) -> bool:
    """Whether a table can read a result: lines of older versions lack some of its keys, and damage takes more."""
    if not isinstance(line, Mapping):
        return False
    texts = all(isinstance(line.get(key), str) for key in ("name", "protocol", "split"))
    maps = all(isinstance(line.get(key), Mapping) for key in ("asked", "data", "figures"))
    maps = maps and isinstance(line.get("shown", []), list)
    return texts and maps and (not line["figures"] or all(is_number(line["figures"].get(name)) for name in shown(line)))


def shown(line: Mapping[str, Any]) -> list[str]:
    """The figures that stand for a result in a table; lines of older versions do not say it, or not accuracy."""
    named = list(line.get("shown", ["top1"]))
    return named if "top1" in named or "top1" not in line["figures"] else ["top1", *named]


def is_number(value: Any) -> bool:
    """Whether it is one, and finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def asked_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a protocol's configuration asks for, as a result line holds it under `asked`."""
    return {key: value for key, value in node.items() if not key.startswith("_")}


def same_evaluation(line: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two lines measure the same thing in the same way, whatever they found."""
    keys = ("protocol", "asked", "split", "data", "encoder", "precision")
    return all(line.get(key) == other.get(key) for key in keys)


def results_table(lines: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A row an encoder, a column a figure that its protocol shows, or turned; below the settings that made them."""
    table = Table(title=title, title_justify="left", caption_justify="left", caption="\n".join(settings(lines)))
    head, *rows = cells(lines)
    if len(head) > WIDEST:
        head, *rows = zip(head, *rows, strict=True)
    table.add_column(head[0], no_wrap=True)
    for column in head[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def results_markdown(lines: Sequence[Mapping[str, Any]], title: str) -> str:
    """The same as Markdown, a row a figure: many protocols make a long page, not a wide one. With intervals."""
    first, *figures = zip(*cells(lines, intervals=True), strict=True)
    below = [f"- {one}" for one in [SPREADS, *settings(lines)]]
    return "\n".join([title, "", markdown([first, *figures]), "", *below]) + "\n"


def cells(lines: Sequence[Mapping[str, Any]], intervals: bool = False) -> list[tuple[str, ...]]:
    """The rows of a table of results, the head first: an encoder each."""
    columns = list(dict.fromkeys((line["protocol"], name) for line in lines for name in shown(line)))
    found = {(line["name"], line["protocol"]): line for line in lines}
    names = dict.fromkeys(line["name"] for line in lines)
    rows = [
        (name, *(cell(found.get((name, protocol)), figure, intervals) for protocol, figure in columns))
        for name in names
    ]
    return [("encoder", *(f"{protocol} {label(figure)}" for protocol, figure in columns)), *rows]


def label(figure: str) -> str:
    """The name of a figure at the head of a column, with its unit; some say it themselves ("1 %" of the labels)."""
    return figure if figure.endswith("%") else f"{figure.replace('top1', 'top-1')} %"


def settings(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """How each protocol measured, described once; where no figure is for the table, of each encoder."""
    told: dict[tuple[str, str], str] = {}
    for line in lines:
        own = "" if shown(line) else line["name"]
        if line["figures"]:  # of a trained encoder rather than of a baseline: those come first
            told[line["protocol"], own] = f"{own}, {describe(line)}" if own else describe(line)
    return list(told.values())


def cell(line: Mapping[str, Any] | None, figure: str, interval: bool = False) -> str:
    """A figure in per cent, with its deviation over draws where there are some; "-" where it was not measured.

    interval: whether that over the images is shown, where there is one.
    """
    figures = {} if line is None else line["figures"]
    value, deviation = figures.get(figure), figures.get(f"{figure}, std")
    if value is None:
        return "-"
    written = per_cent(value, deviation or None)
    low, high = figures.get(f"{figure}_low"), figures.get(f"{figure}_high")
    if not interval or low is None or high is None:
        return written
    return f"{written} ({per_cent(low)} to {per_cent(high)})"


def describe(line: Mapping[str, Any]) -> str:
    """A protocol and all its settings in one line; before them its figures, where none is a share for the table."""
    words = ", ".join(f"{key} {value}" for key, value in line.get("settings", {}).items())
    if not shown(line):
        figures = (f"{key} {value:.4g}" for key, value in line["figures"].items() if isinstance(value, float))
        words = f"{', '.join(figures)}; {words}"
    how = f"{epoch(line.get('epoch_rule', ''))}{line.get('precision', '')}"  # older lines lack some
    return f"{line['protocol']}: {words}; {line['split']} split, {how}"


def epoch(rule: str) -> str:
    """Which epoch's weights were measured, where any were trained."""
    return {"last": "last epoch, ", "as given": "weights as given, "}.get(rule, "")
