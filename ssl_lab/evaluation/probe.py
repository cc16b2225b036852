"""kNN while training: says how a run is going, and chooses nothing."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ssl_lab.evaluation.knn import NEIGHBOURS, predict
from ssl_lab.evaluation.subject import LabelledImages, extract


class KnnProbe(Callback):
    """Weighted kNN accuracy on the validation split, clean images, evaluation mode, each few epochs and at the end.

    bank, queries: labelled training images without validation, and the validation images.
    k: lowered to the smallest class of the bank, and recorded as `val/knn_k`.
    max_bank: images of the bank at most, evenly spaced over the set.
    """

    def __init__(
        self,
        bank: LabelledImages,
        queries: LabelledImages,
        num_classes: int,
        every_n_epochs: int = 1,
        k: int = NEIGHBOURS,
        temperature: float = 0.1,
        max_bank: int = 50_000,
    ):
        stride = -(-len(bank) // max_bank)
        self.bank, self.queries = bank.subset(torch.arange(0, len(bank), stride)), queries
        self.every_n_epochs, self.temperature, self.num_classes = every_n_epochs, temperature, num_classes
        if self.bank.labels is None or queries.labels is None:
            raise ValueError("probe=knn needs labels, and the data has none; set probe=none")
        self.bank_labels, self.labels = self.bank.labels, queries.labels
        self.k = min(k, int(torch.bincount(self.bank_labels, minlength=num_classes).min().clamp_min(1)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step
        if last or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            encoder: nn.Module = pl_module.encoder  # type: ignore[assignment]  # every Method has one
            accuracy = self.measure(encoder, pl_module.device, str(trainer.precision))
            figures = {"val/knn_top1": accuracy, "val/knn_k": float(self.k)}
            pl_module.log_dict(
                figures, logger=False, rank_zero_only=True
            )  # to be shown; loggers get it now, before a checkpoint is made
            for logger in trainer.loggers:
                logger.log_metrics({**figures, "epoch": trainer.current_epoch}, trainer.global_step)

    def measure(self, encoder: nn.Module, device: torch.device, precision: str) -> float:
        """Accuracy of the encoder as it stands."""
        bank = extract(encoder, self.bank, device, precision)
        queries = extract(encoder, self.queries, device, precision)
        predicted = predict(bank, self.bank_labels.to(device), queries, self.k, self.temperature, self.num_classes)
        return float((predicted.cpu() == self.labels).float().mean())
