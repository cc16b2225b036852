"""A table on a page of its own: its rows, what stands below them, and accuracy against cost."""

import re
from collections.abc import Sequence
from typing import Any

from ssl_lab.cells import Cells, columns_of, figure
from ssl_lab.known import Job, Known, Table, lines_of
from ssl_lab.pages.page import escape, page, place, table

UNITS = {"h": 3600, "min": 60, "s": 1}
COSTS = {"FLOPs": "flops", "views": "views_seen"}


def table_page(of: Table, lines: list[Cells], told: Sequence[str], jobs: Sequence[Job], known: Known) -> str:
    """From what is known of its runs, wherever they were made.

    lines: the rows. told: how they were measured, which differ, where published figures come from.
    """
    columns = columns_of(lines)
    rows = [[cell(column, line.get(column, "")) for column in columns] for line in lines]
    charts = cost(of, jobs, known)
    sections = [
        (f"{of.split} split", table(columns, rows, sortable=True)),
        ("How it was measured", "".join(f"<p>{escape(line)}</p>" for line in told)),
        ("Accuracy against cost", place("cost", "charts") if charts else ""),
    ]
    return page(of.spec["title"], sections, {"cost": charts})


def cell(column: str, text: str) -> str:
    """A cell, with what it is sorted by where its first number does not say it: "1 h 5 min" is more than "45 s"."""
    if column != "time" or not text:
        return escape(text)
    seconds = sum(int(count) * UNITS[unit] for count, unit in re.findall(r"(\d+) (h|min|s)", text))
    return f'<span data-sort="{seconds}">{escape(text)}</span>'


def cost(of: Table, jobs: Sequence[Job], known: Known) -> list[dict[str, Any]]:
    """Each protocol's figure by training compute and by views seen, a point a run; without recalibrated encoders."""
    charts: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for job in jobs:
        if (run := known.run(job, of)) is None:
            continue
        for (protocol, again), line in lines_of(run, of).items():
            for unit, key in COSTS.items():
                if run.get(key) and not again:
                    series = charts.setdefault((protocol, unit), {})
                    series.setdefault(job.row, []).append((run[key], 100 * figure(line)))
    return [
        {
            "title": f"{protocol} %",
            "x": unit,
            "dots": True,
            "series": [{"name": n, "points": p} for n, p in one.items()],
        }
        for (protocol, unit), one in charts.items()
    ]
