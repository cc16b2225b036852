"""Pictures of what a method answers, while it trains."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.utils import make_grid, save_image


@runtime_checkable
class Previewed(Protocol):
    """A method whose answers can be looked at."""

    def preview(self, inputs: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n p 3 h w"]: ...


class Previews(Callback):
    """After each epoch, the same few images: a row each, of what was shown, what was answered, and what was there.

    images: to look at. folder: gets `epoch_0003.png` and so on. Loggers that keep images get them too, as "previews".
    """

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], folder: Path):
        self.images, self.folder = images, folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Previewed) or not trainer.is_global_zero:
            return
        with torch.autocast(pl_module.device.type, enabled=False):
            panels = pl_module.preview(self.images.to(pl_module.device)).float().cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        picture = make_grid(panels.flatten(0, 1), nrow=panels.shape[1], padding=1, pad_value=1.0)
        save_image(picture, self.folder / f"epoch_{trainer.current_epoch + 1:04d}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("previews", [picture])
