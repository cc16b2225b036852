"""A table on a page of its own: its rows, what stands below them, and accuracy against cost."""

from collections.abc import Sequence
from typing import Any

from ssl_lab.cells import Cells, columns_of, figure
from ssl_lab.known import Job, Known, Table, lines_of
from ssl_lab.pages.page import escape, page, place, table

COSTS = {"FLOPs": "flops", "views": "views_seen"}


def table_page(of: Table, lines: list[Cells], told: Sequence[str], jobs: Sequence[Job], known: Known) -> str:
    """From what is known of its runs, wherever they were made.

    lines: the rows. told: how they were measured, which differ, where published figures come from.
    """
    columns = columns_of(lines)
    rows = [[escape(line.get(column, "")) for column in columns] for line in lines]
    charts = cost(of, jobs, known)
    sections = [
        (f"{of.split} split", table(columns, rows, sortable=True)),
        ("How it was measured", "".join(f"<p>{escape(line)}</p>" for line in told)),
        ("Accuracy against cost", place("cost", "charts") if charts else ""),
    ]
    return page(of.spec["title"], sections, {"cost": charts})


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
