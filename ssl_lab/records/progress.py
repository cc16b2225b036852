"""What the screen shows while a run trains."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor


class Progress(Callback):
    """One line: epoch, step, images/s, loss, rate, time left and the last kNN; live on a terminal, else now and then.

    every_seconds: between two lines where the output is no terminal.
    """

    def __init__(self, batch_size: int, every_seconds: float = 15.0):
        self.batch_size, self.every_seconds = batch_size, every_seconds
        self.console = Console(soft_wrap=True)
        self._live: Live | None = None
        self._started = self._shown = 0.0
        self._steps = 0
        self._loss: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._shown = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self._steps += 1
        self._loss = outputs["loss"]  # read when it is shown: reading makes a GPU wait
        now = time.monotonic()
        if now - self._shown >= (0.5 if self._live else self.every_seconds):
            self._shown = now
            self._show(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _show(self, trainer: Trainer) -> None:
        line = self.line(trainer)
        if self._live:
            self._live.update(Text(line))
        else:
            self.console.print(line, highlight=False)

    def line(self, trainer: Trainer) -> str:
        """The state of a run in words."""
        rate = self._steps / max(1e-9, time.monotonic() - self._started)
        total = int(trainer.estimated_stepping_batches)
        epochs = -(-total * trainer.accumulate_grad_batches // int(trainer.num_training_batches))
        left = (total - trainer.global_step) * trainer.accumulate_grad_batches / max(1e-9, rate)
        figures = trainer.callback_metrics
        parts = [
            f"epoch {trainer.current_epoch + 1}/{epochs}",
            f"step {trainer.global_step}/{total}",
            f"{rate * self.batch_size:,.0f} images/s",
        ]
        if self._loss is not None:
            parts.append(f"loss {float(self._loss):.4f}")
        parts.append(f"lr {trainer.optimizers[0].param_groups[0]['lr']:.2e}")
        if "val/knn_top1" in figures:
            parts.append(f"kNN {100 * float(figures['val/knn_top1']):.1f} %")
        return " · ".join([*parts, f"{duration(left)} left"])


def duration(seconds: float) -> str:
    """Seconds as a person writes them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
