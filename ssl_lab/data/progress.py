"""What long work on data tells the person who waits: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 15.0


def say(text: str) -> None:
    """One line to standard error, as it is."""
    # markup and highlight off: file names may hold brackets.
    Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


@contextmanager
def track(label: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of pictures just done. shown=False keeps silent."""
    if not shown:
        yield lambda _: None
    elif Console(stderr=True).is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        yield _line_now_and_then(label, total)


def _line_now_and_then(label: str, total: int) -> Callable[[int], None]:
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{label}: {done:,} of {total:,}")

    return advance
