"""What a sweep comes to in a few lines."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from ssl_lab.figures import over_seeds
from ssl_lab.pages.runs_page import PROBED, labels
from ssl_lab.pages.seen import look, once


def ranking(folders: Sequence[Path], figure: str = PROBED) -> list[str]:
    """A line for each group of seeds, best first: mean and standard deviation of a probe's last figure, in per cent.

    None where the probe was off. It ranks settings on validation; what the best is worth on test, `evaluate` says.
    """
    runs = [run for run in once(map(look, folders)) if run.finished and run.group]
    values: dict[str, list[float]] = {}
    for run in runs:
        if figure in run.last:
            values.setdefault(run.group, []).append(run.last[figure])
    names = labels(runs)
    width = max((len(names[group]) for group in values), default=0)
    return [
        f"  {names[group]:{width}}  {over_seeds(found)}" + (f" ({len(found)} seeds)" if len(found) > 1 else "")
        for group, found in sorted(values.items(), key=lambda item: -mean(item[1]))
    ]
