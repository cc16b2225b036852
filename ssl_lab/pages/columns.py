"""Which column of a table a figure stands in."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ssl_lab.pages.apart import telling
from ssl_lab.records import label, shown


class Column(NamedTuple):
    """Which figure a column shows; figures that were measured otherwise stand in another."""

    protocol: str
    split: str
    asked: str  # settings, where a protocol was measured with several
    on: str  # other data than the run's own
    figure: str

    def __str__(self) -> str:
        others = [word for word in (self.asked, self.on) if word]
        return ", ".join([f"{self.protocol} {label(self.figure)}", self.split, *others])


class Columns:
    """The columns of some results, and what tells measurements under one protocol apart.

    lines: as `as_read` gives them.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]]):
        lines = list(lines)
        asked: dict[str, list[Mapping[str, Any]]] = {}
        for line in lines:
            asked.setdefault(line["protocol"], []).append(line["asked"])
        self._asked = {protocol: telling(settings) for protocol, settings in asked.items()}
        self._data = [key for key in telling([line["data"] for line in lines]) if key != "name"]

    def of(self, line: Mapping[str, Any], figure: str) -> Column:
        """Where a figure of a line stands."""
        asked = words(line["asked"], self._asked[line["protocol"]])
        data = line["data"]
        on = [str(data.get("name", "other data")), words(data, self._data)] if line["elsewhere"] else []
        return Column(line["protocol"], line["split"], asked, ", ".join(word for word in on if word), figure)


def words(values: Mapping[str, Any], keys: Iterable[str]) -> str:
    # Of a fingerprint the first digits tell as much as all.
    return ", ".join(f"{key} {str(values.get(key))[: 8 if key == 'fingerprint' else None]}" for key in keys)


def as_read(line: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A result with what a table reads of it; lines of older versions lack some.

    own: the data that the run was trained on. `elsewhere`: whether the result is of other data.
    Raises KeyError, TypeError, AttributeError, ValueError where it is damaged.
    """
    facts = {key: str(line[key]) for key in ("name", "protocol", "split")}
    figures = dict(line["figures"])
    data = dict(line.get("data") or own)
    return {
        **line,
        **facts,
        "figures": figures,
        "shown": [name for name in shown(line) if name in figures],
        "asked": dict(line.get("asked") or {}),
        "data": data,
        "elsewhere": data != own,
    }
