"""How figures and tables of them are written, on the screen and in files."""

from collections.abc import Iterable, Sequence
from statistics import mean, stdev


def per_cent(value: float, deviation: float | None = None) -> str:
    """A share from 0 to 1 in per cent, with its standard deviation where there is one."""
    return f"{100 * value:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def over_seeds(values: Sequence[float], of: int | None = None) -> str:
    """The mean of shares in per cent, and their standard deviation where there are several; nothing of none.

    of: how many there could be; where some are missing, their number follows.
    """
    if not values:
        return ""
    fewer = f" (n = {len(values)})" if of not in (None, len(values)) else ""
    return per_cent(mean(values), stdev(values) if len(values) > 1 else None) + fewer


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the head first."""
    head, *body = rows
    lines = [[cell.replace("|", r"\|") for cell in cells] for cells in (head, ["---"] * len(head), *body)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
