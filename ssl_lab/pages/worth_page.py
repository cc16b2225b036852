"""Whether pretraining was worth it, on one page."""

from collections.abc import Sequence
from typing import Any

from ssl_lab.pages.page import escape, page, picture, place, table
from ssl_lab.records import RunFolder


def worth_page(run: RunFolder, rows: Sequence[Any], said: Sequence[str]) -> str:
    """The answer, the table, accuracy against labels, and pairs of near-duplicates where there are any.

    rows: `gains.Row`s. said: the answer, line by line.
    """
    shares = list(dict.fromkeys(point.share for row in rows for point in row.points))
    head = ["encoder", *(f"{share} of the labels" for share in shares)]
    lines = [[escape(row.name), *(cell(row.at(share)) for share in shares)] for row in rows]
    series = [
        {"name": row.name, "points": [(p.labels, 100 * p.accuracy, 100 * p.margin) for p in row.points]} for row in rows
    ]
    chart = {"title": "top-1 on the test images, % (bars: 95 %)", "x": "labels", "log": True, "series": series}
    sections = [
        ("Which to use", "".join(f"<p>{escape(line)}</p>" for line in said)),
        ("Accuracy", table(head, lines)),
        ("Against labels", place("curve", "charts")),
        ("Near-duplicates", picture(run.pictures / "duplicates_pairs.jpg", "test images, each beside its twin")),
    ]
    data = run.record["data"]
    sizes = f"{data['train']:,} images to learn from, {data['classes']} classes, {data['test']:,} to test"
    return page(f"Is it worth it? {sizes}", sections, {"curve": [chart]})


def cell(point: Any) -> str:
    """Per cent, with 95 % of the mean from draws and test images."""
    return "" if point is None else f"{100 * point.accuracy:.1f} <small>± {100 * point.margin:.1f}</small>"
