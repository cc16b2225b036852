"""What tasks compute once: bins of the gamut, sets of permutations. `python -m benchmarks tables`."""

import time
from collections.abc import Callable
from functools import partial

from benchmarks.rows import Row
from ssl_lab.tasks import gamut_bins, hamming_permutations


def measure() -> list[Row]:
    """Seconds of the first call and of the next, which is cached."""
    calls: dict[str, Callable[[], object]] = {
        "bins of the gamut, grid 10": partial(gamut_bins, 10),
        "1,000 permutations of 9 tiles": partial(hamming_permutations, 9, 1000),
    }
    rows = []
    for name, call in calls.items():
        rows += [Row(name, seconds(call), "s", "< 2"), Row(f"{name}, again", seconds(call), "s")]
    return rows


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
