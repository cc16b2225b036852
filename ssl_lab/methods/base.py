"""What every method shares: an encoder, an optimiser and the way of one batch."""

import math
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import nn

from ssl_lab.distributed import rank, world_size
from ssl_lab.draws import Draws, seed_from
from ssl_lab.nn import Encoder
from ssl_lab.optim import OptimRecipe
from ssl_lab.types import Batch, Step


class Method(LightningModule, ABC):
    """A way to train an encoder without labels: implement `step`; use `after_update` if something follows each update.

    backbone, preprocessing: together the Encoder, which is what a method trains. It normalises the views too, so
    that training and evaluation cannot disagree.
    optim: parameter groups, rate and schedule.
    seed: of every draw in the training steps.
    """

    views_per_image = 1  # images the backbone sees for each one of the batch; for the record of a run's cost

    def __init__(self, backbone: nn.Module, optim: OptimRecipe, preprocessing: dict[str, Any], seed: int):
        super().__init__()
        self.encoder = Encoder(backbone, **preprocessing)
        self.optim = optim
        self.seed = seed

    @abstractmethod
    def step(self, inputs: Any, draws: Draws) -> Step:
        """From the inputs of a batch to its loss. Labels never come here. All randomness comes from `draws`."""

    def after_update(self) -> None:
        """Follows each update of the parameters, not a step that only accumulates; a teacher moves here."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        counter = self.trainer.fit_loop.epoch_loop.total_batch_idx  # batches seen; unlike global_step it counts all
        torch.manual_seed(seed_from("layers", self.seed, counter, rank()))  # dropout; so a resumed run repeats it
        n = len(batch.index)
        draws = Draws(self.seed, counter, total=n * world_size(), start=n * rank(), stop=n * (rank() + 1))
        step = self.step(batch.inputs, draws)
        return step._asdict()  # callbacks log it, and read the features

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.after_update()

    def configure_optimizers(self) -> Any:
        # Lightning's own estimate would set up the loader here, before a checkpoint can tell it where it stood.
        trainer, data = self.trainer, cast(Any, self.trainer).datamodule
        per_epoch = math.ceil(data.num_batches / trainer.accumulate_grad_batches)
        steps = per_epoch * (trainer.max_epochs or 1)
        steps = min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
        batch_size = data.batch_size * trainer.accumulate_grad_batches
        optimizer, schedule = self.optim.build(self, batch_size, steps, per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
