"""A table as Markdown, CSV and LaTeX."""

import csv
from pathlib import Path

from ssl_lab.cells import Cells, columns_of
from ssl_lab.figures import markdown

LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {"±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$"}
)


def as_markdown(lines: list[Cells]) -> str:
    """The rows as a Markdown table."""
    columns = columns_of(lines)
    return markdown([columns, *([line.get(column, "") for column in columns] for line in lines)])


def as_latex(lines: list[Cells]) -> str:
    """The rows as a LaTeX tabular; it needs the package booktabs."""
    columns = columns_of(lines)
    body = [" & ".join(_escaped(line.get(column, "")) for column in columns) + r" \\" for line in lines]
    head = " & ".join(_escaped(column) for column in columns) + r" \\"
    parts = [rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    return text.translate(LATEX)


def write(stem: Path, lines: list[Cells], text: str) -> None:
    """The table as `.md`, which is `text`, as `.csv` and as `.tex`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    md, tex, sheet = (stem.with_name(f"{stem.name}.{kind}") for kind in ("md", "tex", "csv"))
    md.write_text(text)
    tex.write_text(as_latex(lines))
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns_of(lines))
        writer.writeheader()
        writer.writerows(lines)
