"""A run whose loss is no longer finite ends, and keeps what was good."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class FiniteLoss(Callback):
    """Stops when a loss is infinite or no number: looked at each few updates, and before anything is saved.

    In between the losses are only added on their device, since reading one makes a GPU wait.
    """

    def __init__(self, every_n_steps: int):
        self.every_n_steps = every_n_steps
        self._sum: Tensor | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        loss = outputs["loss"].detach()
        self._sum = loss if self._sum is None else self._sum + loss
        if trainer.global_step % self.every_n_steps == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)  # before the probes look at what has become of the weights

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._sum is not None and not torch.isfinite(self._sum):
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            raise ValueError(
                f"the loss is no finite number any more by step {trainer.global_step} (learning rate {rate:.2e}); the "
                "checkpoints are those from before. Usually the rate is too high: set method.optim.lr to less, or "
                "another optim"
            )
        self._sum = None
