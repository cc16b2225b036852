"""Pictures of a training: the views, what a method answers, what it holds to be alike."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import interpolate, normalize
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


@runtime_checkable
class Encoding(Protocol):
    """A method that trains an encoder: every one."""

    encoder: Any


class Sheet(Callback):
    """What the pictures share: images to look at, the folder they go to, and the loggers that keep images."""

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], folder: Path):
        self.images, self.folder = images, folder

    def keep(self, panels: Float[Tensor, "n p 3 h w"], name: str, kind: str, trainer: Trainer) -> None:
        """A row each of `panels`, as a file and in the logs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        picture = make_grid(panels.flatten(0, 1).float().cpu(), nrow=panels.shape[1], padding=1, pad_value=1.0)
        save_image(picture, self.folder / f"{name}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(kind, [picture])


class ViewsShown(Sheet):
    """`views.png`, at the start: a row each of an image and its views."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Viewed) or not trainer.is_global_zero:
            return
        images = self.images.to(pl_module.device)
        views: list[Tensor] = pl_module.views(images, Draws(0, 0, total=len(images)))  # type: ignore[operator]  # callable
        size = max(view.shape[-1] for view in views)
        panels = [interpolate(part, (size, size)) for part in (images / 255, *views)]
        self.keep(torch.stack(panels, 1), "views", "views", trainer)


class Answers(Sheet):
    """`epoch_0003.png` and so on: a row each of what was shown, what was answered, and what was there."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Previewed) or not trainer.is_global_zero:
            return
        with torch.autocast(pl_module.device.type, enabled=False):
            panels = pl_module.preview(self.images.to(pl_module.device)).float().cpu()
        self.keep(panels, f"epoch_{trainer.current_epoch + 1:04d}", "previews", trainer)


class Neighbours(Sheet):
    """`neighbours.png`, at the end: a row each of an image and those that the features hold nearest to it."""

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], folder: Path, rows: int = 8, columns: int = 8):
        super().__init__(images, folder)
        self.rows, self.columns = min(rows, len(images)), min(columns, len(images))

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Encoding) or not trainer.is_global_zero:
            return
        encoder: Any = pl_module.encoder
        encoder.eval()
        parts = [encoder(part.to(pl_module.device)) for part in self.images.split(128)]
        features = normalize(torch.cat(parts).float(), dim=1).cpu()
        asked = torch.linspace(0, len(features) - 1, self.rows).long()
        nearest = (features[asked] @ features.T).topk(self.columns, dim=1).indices  # itself first
        self.keep(self.images[nearest.flatten()].unflatten(0, nearest.shape) / 255, "neighbours", "neighbours", trainer)
