"""Commands side by side, each in a process of its own, so that none can disturb another."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ssl_lab.follow import MARK
from ssl_lab.say import say

Item = TypeVar("Item")
Made = TypeVar("Made")
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last when the terminal closes


class Commands(NamedTuple):
    """What is to be run: `python -m ssl_lab.<command> <words>` for each line, as long as these succeed."""

    name: str
    lines: Iterable[list[str]]  # a command and its words; each is asked for when those before have succeeded
    then: Callable[[Path], Iterable[list[str]]] = lambda _: ()  # further lines, of what the job's log has said

    def all_lines(self, log: Path) -> Iterator[list[str]]:
        """The lines, then those that follow from the log."""
        yield from self.lines
        yield from self.then(log)

    @property
    def file_name(self) -> str:
        """The name as a file may have it."""
        return re.sub(r"[^\w.=-]+", "-", self.name).strip("-")[:100]


class Outcome(NamedTuple):
    """How a job ended."""

    name: str
    code: int | None  # of the process, 0 when all went well; None: it was not started
    log: Path
    seconds: float

    @property
    def last_line(self) -> str:
        """What it said last, errors before anything else."""
        lines = said(self.log)
        errors = [line for line in lines if line.startswith("error: ") or re.match(r"\w*(Error|Exception)\b", line)]
        return (errors or lines or ["said nothing"])[-1]

    @property
    def folder(self) -> Path | None:
        """The run that a training command named first of all, or found finished."""
        return folder_named(self.log)


class Processes:
    """Commands in `count` slots, each with its own part of the cores and of the GPUs.

    SIGINT, SIGTERM and a closed terminal go on to all that runs, which then saves and leaves; `asked` holds the signal.
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"at_once={count}: at least one runs at a time")
        self.count, self.asked = count, 0
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def each(self, work: Callable[[int, Item], Made], items: Iterable[Item]) -> list[Made]:
        """What `work` makes of a slot and each item, in the order of the items; `count` at a time."""
        free: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.count):
            free.put(slot)

        def one(item: Item) -> Made:
            slot = free.get()
            try:
                return work(slot, item)
            finally:
                free.put(slot)

        before = {number: signal.signal(number, self._pass_on) for number in ASKING}
        try:
            with ThreadPoolExecutor(self.count) as pool:
                return list(pool.map(one, items))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def started(
        self, slot: int, command: str, words: Sequence[str], stream: Any
    ) -> Iterator[subprocess.Popen[bytes] | None]:
        """`python -m ssl_lab.<command> <words>` in a slot, printing to `stream`; None once a signal has come."""
        process = None
        with self._lock:
            if not self.asked:
                # A session of its own: Ctrl-C reaches it through us alone, once.
                process = subprocess.Popen(
                    [sys.executable, "-m", f"ssl_lab.{command}", *words], stdout=stream, stderr=stream,
                    env=environment(slot, self.count), start_new_session=True,
                )  # fmt: skip
                self._running[slot] = process
                if self.asked:  # it came while this one was started
                    pass_on(process, self.asked)
        try:
            yield process
        finally:
            with self._lock:
                self._running.pop(slot, None)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.asked = number
        for process in list(self._running.values()):
            pass_on(process, number)


class Slots(Processes):
    """Runs jobs, and says how they go.

    logs: folder of what the jobs print. fail_fast: whether jobs that have not started stay so once one has failed.
    """

    def __init__(self, count: int, logs: Path, fail_fast: bool = False):
        super().__init__(count)
        self.logs, self.fail_fast = Path(logs), fail_fast
        self.shown: dict[int, tuple[str, float, Path]] = {}  # each running job: its name, since when, and its log
        self._console = Console(soft_wrap=True)
        self._failed = False

    def run(self, jobs: Sequence[Commands]) -> list[Outcome]:
        """All outcomes, in the order of the jobs."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self._live():
            return self.each(self._run, enumerate(jobs))

    def board(self) -> Text:
        """A line for each running job: its name, how long it runs, and what it said last."""
        now = time.monotonic()
        lines = [
            f"  {name}  {int(now - began) // 60}:{int(now - began) % 60:02}  {(said(log) or [''])[-1]}"
            for name, began, log in list(self.shown.values())
        ]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def _live(self) -> AbstractContextManager[Any]:
        if not self._console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self.board, console=self._console, refresh_per_second=1, transient=True)

    def _tell(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _run(self, slot: int, numbered: tuple[int, Commands]) -> Outcome:
        number, job = numbered
        log = self.logs / f"{number:03d}-{job.file_name}.log"
        began, code = time.monotonic(), 0
        if self.asked or (self._failed and self.fail_fast):
            return Outcome(job.name, None, log, 0.0)
        self._tell(f"  {job.name}: started")
        self.shown[number] = (job.name, began, log)
        with log.open("wb") as stream:
            try:
                for command, *words in job.all_lines(log):
                    with self.started(slot, command, words, stream) as process:
                        ended = 128 + self.asked if process is None else process.wait()
                    code = 128 - ended if ended < 0 else ended
                    if code:
                        break
            except Exception:  # the caller makes its commands, and may fail in any way: the log says how
                stream.write(traceback.format_exc().encode())
                code = 1
        outcome = Outcome(job.name, code, log, time.monotonic() - began)
        self._failed = self._failed or bool(code)
        self.shown.pop(number)
        self._tell(f"  {job.name}: {'done' if code == 0 else f'failed ({code}), see {log}: {outcome.last_line}'}")
        return outcome


def pass_on(process: subprocess.Popen[bytes], number: int) -> None:
    """A signal to end, as commands understand it: of SIGHUP they know nothing."""
    process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


def said(log: Path) -> list[str]:
    """The lines of a log that hold something."""
    return list(filter(None, log.read_text(errors="replace").splitlines())) if log.exists() else []


def folder_named(log: Path) -> Path | None:
    """The run that a training command named first of all, or found finished."""
    for line in said(log):
        if named := re.fullmatch(r"run {6}(.+)|(.+) is finished: nothing to train", line):
            return Path(named[1] or named[2])
    return None


def report(slots: Slots, outcomes: Sequence[Outcome]) -> int:
    """Say how the jobs ended; the code to exit with: 0 when all went well, else 1, or 128 and the signal."""
    asked_to = {128 + number for number in (signal.SIGINT, signal.SIGTERM)} if slots.asked else set()
    saved = sum(outcome.code in asked_to for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.code not in {0, None, *asked_to}]
    waiting = sum(outcome.code is None for outcome in outcomes)
    say(f"{sum(outcome.code == 0 for outcome in outcomes)} of {len(outcomes)} done")
    for outcome in failed:
        say(f"  failed ({outcome.code})  {outcome.name}: {outcome.last_line}\n    see {outcome.log}")
    if slots.asked:
        say(f"{saved} were running and saved, {waiting} had not started: the same command goes on from there")
        return 128 + slots.asked
    if waiting:
        say(f"  {waiting} were not started")
    return 1 if failed or waiting else 0


def slots_for(devices: int | str) -> int:
    """Jobs at a time where each takes so many devices: as the GPUs allow; without GPUs two, for two cores and more."""
    each = devices if isinstance(devices, int) else len(gpus()) or 1
    return max(1, (len(gpus()) or min(2, os.cpu_count() or 1)) // each)


def environment(slot: int, count: int) -> dict[str, str]:
    """The environment of a slot: nothing of the ranks that started us, its share of the cores and of the GPUs."""
    ranks = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ranks)}
    kept[MARK] = str(os.getpid())
    kept.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    if (devices := gpus()) and count > 1:
        share = max(1, len(devices) // count)
        first = slot * share % len(devices)  # more slots than GPUs: some share one
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first : first + share])
    return kept


def gpus() -> list[str]:
    """The NVIDIA GPUs that are ours, by number, found without torch."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device for device in named.split(",") if device]
    return [name.name.removeprefix("nvidia") for name in sorted(Path("/dev").glob("nvidia[0-9]*"))]
