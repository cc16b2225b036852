"""Health figures while training, without labels, and an alarm when the features collapse."""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.evaluation.health import measures


@runtime_checkable
class Learner(Protocol):
    """What a method shows here: its encoder, and the views that it makes."""

    encoder: Any
    views: Any


class HealthProbe(Callback):
    """Logs `health/<figure>` of the backbone's pooled features, each few epochs, in evaluation mode.

    images: to look at, without labels. lidar_images, lidar_views: how many of them, and views of each, for alignment
    and LiDAR. The other figures read clean images.
    floor, patience: the run stops when the deviation stays below `floor` times that of the initial weights for so many
    checks; null for no alarm.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        every_n_epochs: int = 1,
        lidar_images: int = 256,
        lidar_views: int = 4,
        floor: float | None = 0.1,
        patience: int = 3,
    ):
        self.images, self.every_n_epochs = images, every_n_epochs
        self.lidar_images, self.lidar_views = min(lidar_images, len(images)), lidar_views
        self.floor, self.patience = floor, patience
        self._at_start: float | None = None
        self._low = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._at_start is None:
            self._at_start = self.measure(pl_module, str(trainer.precision))["health/deviation"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        figures = self.measure(pl_module, str(trainer.precision))
        for logger in trainer.loggers:
            logger.log_metrics({**figures, "epoch": trainer.current_epoch}, trainer.global_step)
        self._watch(figures["health/deviation"], trainer.current_epoch)

    def _watch(self, found: float, epoch: int) -> None:
        if self.floor is None or self._at_start is None:
            return
        self._low = self._low + 1 if found < self.floor * self._at_start else 0
        if self._low >= self.patience:
            raise ValueError(
                f"the features have collapsed: after epoch {epoch + 1} the deviation of the backbone's normalised "
                f"features is {found:.2g}, {self._low} checks in a row below {self.floor:g} times the "
                f"{self._at_start:.2g} of the initial weights. Usually a lower method.optim.lr, a larger "
                "data.batch_size, or the loss's own weights help; callbacks.health.floor=null goes on regardless. The "
                "checkpoints are those from before"
            )

    def measure(self, module: LightningModule, precision: str = "32-true") -> dict[str, float]:
        """All figures, of the encoder as it stands; every module's mode is left as it was."""
        learner = cast(Learner, module)
        encoder: nn.Module = learner.encoder
        modes = [(part, part.training) for part in encoder.modules()]
        encoder.eval()
        with torch.no_grad(), torch.autocast(module.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            clean = torch.cat([encoder(part.to(module.device)).float() for part in self.images.split(256)])
            several = self._views(learner, module.device)
        for part, mode in modes:
            part.training = mode
        return {f"health/{name}": value for name, value in measures(clean, several).items()}

    def _views(self, learner: Learner, device: torch.device) -> Float[Tensor, "n q d"]:
        """Features of several views of each image; the same views at every check."""
        images = self.images[: self.lidar_images].to(device)
        views = learner.views(images, Draws(0, 0, total=len(images)), count=self.lidar_views)
        encoder = learner.encoder
        return torch.stack([encoder.backbone(encoder.normalize(view)).float() for view in views], 1)

    def state_dict(self) -> dict[str, Any]:
        return {"at_start": self._at_start, "low": self._low}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._at_start, self._low = state_dict["at_start"], state_dict["low"]
