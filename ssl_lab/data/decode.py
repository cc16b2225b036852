"""Decoding many pictures at once into arrays."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_lab.data.picture import Square, to_mask, to_pixels
from ssl_lab.data.source import Item

# Handed to a worker at once: many enough to hide the hand-over, few enough to balance and to fit in memory.
CHUNK_PICTURES, CHUNK_BYTES = 64, 8 << 20


HOLE = 255  # in `Arrays.splits`: a row whose picture could not be read


class Arrays(NamedTuple):
    """Where decoded pictures go, in memory or on disk."""

    images: NDArray[np.uint8]  # (n, 3, side, side)
    labels: NDArray[np.int64]  # (n,)
    sums: NDArray[np.int64]  # (n, 2, 3): sum and sum of squares of the pixels a channel
    splits: NDArray[np.uint8]  # (n,) index into SPLITS, or HOLE
    masks: NDArray[np.uint8] | None = None  # (n, side, side) class of each pixel; none where a label is all there is


class Outcome(NamedTuple):
    """What decoding found beside the pixels."""

    failures: dict[int, str]  # row -> why it cannot be read
    enlarged: int  # pictures smaller than the square
    gray: bool  # no picture has colour


def decode(
    items: Iterable[Item], arrays: Arrays, square: Square, most_failures: int, advance: Callable[[int], None]
) -> Outcome:
    """Decodes all items into the arrays with as many threads as there are cores.

    Threads suffice: PIL frees the interpreter while it decodes and resizes. Stops early, with what it has,
    once more than `most_failures` pictures could not be read.
    """
    failures: dict[int, str] = {}
    enlarged, gray = 0, True
    with warnings.catch_warnings():
        # PIL warns of oddities in single files; what matters is whether they decode. Set here, not in the
        # workers, because warning filters belong to the process.
        warnings.simplefilter("ignore")
        for count, outcome in _in_workers(items, lambda chunk: _decode_chunk(chunk, arrays, square)):
            failures |= outcome.failures
            enlarged, gray = enlarged + outcome.enlarged, gray and outcome.gray
            advance(count)
            if len(failures) > most_failures:
                break
    return Outcome(failures, enlarged, gray)


def _in_workers(items: Iterable[Item], work: Callable[[list[Item]], Outcome]) -> Iterator[tuple[int, Outcome]]:
    """Number of pictures and outcome of each chunk, with a bounded number of chunks in memory."""
    workers = min(32, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[tuple[int, Future[Outcome]]] = deque()
    try:
        for chunk in _chunks(items):
            waiting.append((len(chunk), pool.submit(work, chunk)))
            if len(waiting) > 2 * workers:
                count, future = waiting.popleft()
                yield count, future.result()
        for count, future in waiting:
            yield count, future.result()
    finally:
        # Also on Ctrl-C: no worker may write into a cache that is being removed.
        pool.shutdown(wait=True, cancel_futures=True)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += item.held
        if len(chunk) == CHUNK_PICTURES or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _decode_chunk(chunk: list[Item], arrays: Arrays, square: Square) -> Outcome:
    failures: dict[int, str] = {}
    rows, labels, pictures, enlarged = [], [], [], 0
    for item in chunk:
        try:
            picture, label = item.load()
            if item.mask:
                _write_mask(item.row, picture, arrays, square)
                continue
            pixels, small = to_pixels(picture, square)
        except Exception as error:  # damaged files make decoders raise nearly anything; the reason is reported
            told = isinstance(error, (ValueError, OSError)) and str(error)
            failures[item.row] = str(error) if told else f"{type(error).__name__} {error}".strip()
            continue
        enlarged += small
        rows.append(item.row)
        labels.append(label)
        pictures.append(pixels)
    if not rows:
        return Outcome(failures, 0, True)
    return Outcome(failures, enlarged, _write(rows, labels, np.stack(pictures), arrays))


def _write(rows: list[int], labels: list[int], pixels: NDArray[np.uint8], arrays: Arrays) -> bool:
    """Stores a chunk (k, h, w, 3) and its sums; whether it is gray all over."""
    arrays.images[rows] = pixels.transpose(0, 3, 1, 2)
    arrays.labels[rows] = labels
    squares = np.multiply(pixels, pixels, dtype=np.uint16)
    arrays.sums[rows, 0] = pixels.sum(axis=(1, 2), dtype=np.int64)
    arrays.sums[rows, 1] = squares.sum(axis=(1, 2), dtype=np.int64)
    return bool((pixels == pixels[..., :1]).all())


def _write_mask(row: int, encoded: bytes | NDArray[np.uint8], arrays: Arrays, square: Square) -> None:
    if arrays.masks is None or not isinstance(encoded, bytes):
        raise RuntimeError("a mask came from a source that has planned none")
    arrays.masks[row] = to_mask(encoded, square)
