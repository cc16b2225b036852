"""The frame of a page, and the pieces that are written into it."""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


def page(title: str, sections: Iterable[tuple[str, str]], data: dict[str, Any]) -> str:
    """A whole HTML document: headed sections, our style and script, and the data that the script draws.

    sections: heading and HTML; those without HTML are left out. data: plain values, by the id of the element they fill.
    """
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    # "<" never stands in the data, so that no text in it can end the element that holds it.
    told = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    body = "".join(f"<section><h2>{escape(head)}</h2>{content}</section>" for head, content in sections if content)
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{style}</style></head><body><header><h1>{escape(title)}</h1></header><main>{body}</main>"
        f'<script type="application/json" id="data">{told}</script><script>{script}</script></body></html>\n'
    )
    return text.encode("utf-8", "backslashreplace").decode()  # names of files may hold bytes that are no text


def escape(text: object) -> str:
    """Text as it may stand in HTML."""
    return html.escape(str(text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], sortable: bool = False) -> str:
    """A table of cells that are HTML already."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="wide"><table{kind}><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values; those without a value are left out."""
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs if value not in (None, "")
    )
    return f"<dl>{items}</dl>"


def picture(file: Path, text: str) -> str:
    """A picture from a file, put into the page; nothing where there is no file."""
    return f'<img class="picture" alt="{escape(text)}" src="{address(file)}">' if file.is_file() else ""


def address(file: Path) -> str:
    """A picture's content as an address that needs no file."""
    return f"data:{_TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def place(key: str, kind: str) -> str:
    """An empty element that the script fills from `data[key]`: kind is chart, map or compare."""
    return f'<div class="{escape(kind)}" data-key="{escape(key)}"></div>'


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many of the points, evenly spaced, first and last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]
