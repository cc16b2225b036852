"""A run that is asked to end leaves a checkpoint first."""

import signal
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_lab.records.checkpoints import Checkpoints


class Interrupted(Exception):  # noqa: N818  # not an error
    """The run has saved its state because of a signal; `code` is what a shell gives for it: 128 and the signal."""

    def __init__(self, number: int):
        self.code = 128 + number
        super().__init__(signal.Signals(number).name)


class LeaveOnSignal(Callback):
    """On SIGTERM or SIGINT: finish the step, save, and raise Interrupted. A second signal ends the run at once.

    checkpoints: who saves. Stands behind it, so that the checkpoint holds what all others have done.
    """

    def __init__(self, checkpoints: Checkpoints):
        self.checkpoints = checkpoints
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._asked = number
        signal.signal(number, signal.SIG_DFL)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._asked is not None and not trainer.is_last_batch:  # the last one's checkpoint comes behind the probes
            self.checkpoints.save(trainer)
            raise Interrupted(self._asked)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._asked is not None:
            raise Interrupted(self._asked)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, *_: Any) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
