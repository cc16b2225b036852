"""A run that is asked to end leaves a checkpoint first."""

import signal
from types import FrameType
from typing import Any


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
        self._insistent = True
        self._before: dict[int, Any] = {}

    def listen(self, insistent: bool) -> None:
        """insistent: a second signal ends the process. Where a parent passes signals on, one Ctrl-C arrives twice."""
        self._insistent = insistent
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Give back the handlers that were there."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        if self._insistent:
            signal.signal(number, signal.SIG_DFL)
