"""What a benchmark returns."""

from typing import NamedTuple


class Row(NamedTuple):
    """One measured figure, and what it is held to."""

    name: str
    value: float
    unit: str
    target: str = ""
