"""What every method shares: an encoder, an optimiser and the way of one batch."""

import math
from abc import ABC, abstractmethod
from typing import Any, cast

from jaxtyping import UInt8
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ssl_lab.distributed import rank, world_size
from ssl_lab.draws import Draws, seed_from, seed_layers
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

    fewest_rows = 4  # a step needs, to be counted
    whole_images = True  # false where the backbone saw tiles, patches or holes, which its batch norm then expects
    microbatch: int | None = None  # images that pass the networks at a time; None for the whole batch
    views_per_image = 1  # images the backbone sees for each one of the batch; for the record of a run's cost

    def __init__(self, backbone: nn.Module, optim: OptimRecipe, preprocessing: dict[str, Any], seed: int):
        super().__init__()
        self.encoder = Encoder(backbone, **preprocessing)
        self.optim = optim
        self.seed = seed
        self.total_steps = 1  # updates of the whole run, once a trainer is there to tell

    def prepare(self, images: UInt8[Tensor, "n 3 h w"]) -> None:
        """Let the parts that start from data see some unlabelled images, once, before training."""
        self.encoder.fit(images)

    def check(self, batch_size: int, processes: int) -> None:
        """Refuse a batch that the method cannot divide among so many processes. Raises ValueError."""

    def remarks(self, num_images: int, accumulate: int) -> list[str]:
        """What a user should know before training on so many images, with the gradients of so many batches added."""
        return []

    @abstractmethod
    def step(self, inputs: Any, draws: Draws) -> Step:
        """From the inputs of a batch to its loss. Labels never come here. All randomness comes from `draws`."""

    def after_update(self) -> None:
        """Follows each update of the parameters, not a step that only accumulates; a teacher moves here."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        counter = self.trainer.fit_loop.epoch_loop.total_batch_idx  # batches seen; unlike global_step it counts all
        seed_layers(seed_from("layers", self.seed, counter, rank()), self.device)  # so a resumed run repeats them
        n = len(batch.index)
        draws = Draws(self.seed, counter, total=n * world_size(), start=n * rank(), stop=n * (rank() + 1))
        step = self.step(batch.inputs, draws)
        return step._asdict()  # callbacks log it, and read the features

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # of float16: leaves out updates that overflow
        scale = scaler.get_scale() if scaler else 1.0
        super().optimizer_step(*args, **kwargs)
        if not scaler or scaler.get_scale() >= scale:
            self.after_update()

    @property
    def progress(self) -> float:
        """Updates made so far as a part of all there will be, from 0 to 1."""
        return min(1.0, self.trainer.global_step / self.total_steps)

    def configure_optimizers(self) -> Any:
        # Lightning's own estimate would set up the loader here, before a checkpoint can tell it where it stood.
        trainer, data = self.trainer, cast(Any, self.trainer).datamodule
        per_epoch = math.ceil(data.num_batches / trainer.accumulate_grad_batches)
        steps = per_epoch * (trainer.max_epochs or 1)
        steps = min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
        self.total_steps = steps
        batch_size = data.batch_size * trainer.accumulate_grad_batches
        optimizer, schedule = self.optim.build(self, batch_size, steps, per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
