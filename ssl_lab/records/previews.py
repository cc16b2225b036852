"""Pictures of what a method answers, while it trains."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.utils import make_grid, save_image

from ssl_lab.draws import Draws


@runtime_checkable
class Previewed(Protocol):
    """A method whose answers can be looked at."""

    def preview(self, inputs: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n p 3 h w"]: ...


@runtime_checkable
class Viewed(Protocol):
    """A method that augments: every one."""

    views: Any


class Previews(Callback):
    """Pictures of a training: at its start the views of a few images, after each epoch what a method answers to them.

    images: to look at. folder: gets `views.png`, a row each of the image and its views, and `epoch_0003.png` and so on,
    a row each of what was shown, what was answered, and what was there. Loggers that keep images get them too.
    """

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], folder: Path):
        self.images, self.folder = images, folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Viewed) or not trainer.is_global_zero:
            return
        images = self.images.to(pl_module.device)
        views: list[Tensor] = pl_module.views(images, Draws(0, 0, total=len(images)))  # type: ignore[operator]  # callable
        size = max(view.shape[-1] for view in views)
        panels = [interpolate(part, (size, size)) for part in (images / 255, *views)]
        self._keep(torch.stack(panels, 1), "views", trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Previewed) or not trainer.is_global_zero:
            return
        with torch.autocast(pl_module.device.type, enabled=False):
            panels = pl_module.preview(self.images.to(pl_module.device)).float().cpu()
        self._keep(panels, f"epoch_{trainer.current_epoch + 1:04d}", trainer)

    def _keep(self, panels: Float[Tensor, "n p 3 h w"], name: str, trainer: Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        picture = make_grid(panels.flatten(0, 1).float().cpu(), nrow=panels.shape[1], padding=1, pad_value=1.0)
        save_image(picture, self.folder / f"{name}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("views" if name == "views" else "previews", [picture])
