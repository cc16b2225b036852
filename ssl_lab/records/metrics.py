"""The local log of a run: one JSON line a logged step."""

import json
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from ssl_lab.distributed import averages
from ssl_lab.records.lines import read_lines


class MetricsLog(Logger):
    """Appends `{"step": …, name: value, …}` to a file; holds nothing back, so a killed run loses no line.

    A checkpoint remembers `position`; a resumed run is cut back to it and goes on, without gaps or doubles.
    """

    def __init__(self, file: Path):
        super().__init__()
        self.file = Path(file)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return self.file.parent.name

    @property
    def experiment(self) -> Path:
        return self.file

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        line = {"step": step, **{name: float(value) for name, value in metrics.items()}}
        with self.file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` holds them."""

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self.file.stat().st_size if self.file.exists() else 0

    @rank_zero_only
    def cut_back(self, position: int) -> None:
        """Forget what was logged after `position`."""
        if self.position > position:
            os.truncate(self.file, position)


class StepMetrics(Callback):
    """Logs loss, learning rate and what a method adds, each few updates.

    Lightning would write a step's figures after all callbacks of the step, and so after the checkpoint that holds it.
    """

    def __init__(self, every_n_steps: int):
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        figures = {"loss": outputs["loss"], "lr": trainer.optimizers[0].param_groups[0]["lr"], **outputs["logs"]}
        line = averages({f"train/{name}": float(value) for name, value in figures.items()})
        for logger in trainer.loggers:
            logger.log_metrics({**line, "epoch": trainer.current_epoch}, trainer.global_step)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics log; a last line that a kill cut off is left out. ValueError names a damaged one."""
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return read_lines(file, whole, "take it out")
