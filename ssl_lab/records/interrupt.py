"""A run that is asked to end leaves a checkpoint first."""

import os
import signal
import time
from types import FrameType
from typing import Any

AT_ONCE = 1.0  # seconds within which two signals are one request


class Interrupted(Exception):  # noqa: N818  # not an error
    """The run has saved its state because of a signal; `code` is what a shell gives for it: 128 and the signal."""

    def __init__(self, number: int):
        self.code = 128 + number
        super().__init__(signal.Signals(number).name)


class Asked:
    """Notes SIGTERM and SIGINT between `listen` and `restore`, instead of ending at once.

    number: of the signal that came, else 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0
        self._insistent = True
        self._before: dict[int, Any] = {}

    def listen(self, insistent: bool) -> None:
        """insistent: a later signal ends the process, for where a step hangs.

        One that comes within a second does not: the system tells the child of a killed parent once for each of its
        threads. Nor does one where a launcher passes on what the processes have heard themselves.
        """
        self._insistent = insistent
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Give back the handlers that were there."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self.number:
            self.number, self._since = number, time.monotonic()
        elif self._insistent and time.monotonic() - self._since > AT_ONCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
