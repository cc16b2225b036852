"""What tasks compute once: bins of the gamut, sets of permutations. `python -m benchmarks.tables`."""

import time
from collections.abc import Callable

from benchmarks.rows import Row
from ssl_lab.tasks import gamut_bins, hamming_permutations


def measure() -> list[Row]:
    """Seconds of the first call and of the next, which is cached."""
    bins: Callable[[], object] = lambda: gamut_bins(10)  # noqa: E731  # two calls to time, side by side
    orders: Callable[[], object] = lambda: hamming_permutations(9, 1000)  # noqa: E731
    rows = []
    for name, call in (("bins of the gamut, grid 10", bins), ("1,000 permutations of 9 tiles", orders)):
        rows += [Row(name, seconds(call), "s", "< 2"), Row(f"{name}, again", seconds(call), "s")]
    return rows


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
