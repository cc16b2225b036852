"""Batch norm that expects what evaluation shows it."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lab.evaluation.subject import LabelledImages


@torch.no_grad()
def recalibrated(
    encoder: nn.Module, images: LabelledImages, num_images: int = 5000, batch_size: int = 250
) -> nn.Module:
    """A copy of an encoder whose batch norm has its running statistics from clean images, evenly spaced over a set.

    For encoders that trained on tiles, patches or holes: their statistics are not those of whole images. Weights stay,
    labels are not read. Each layer's mean and variance become the average over batches (momentum = None).
    """
    copy = deepcopy(encoder).eval()
    for module in copy.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    rows = torch.linspace(0, len(images) - 1, min(num_images, len(images)), dtype=torch.float64).long()
    for part in rows.split(batch_size):
        if len(part) > 1:
            copy(images.gather(part).to(next(copy.parameters()).device))
    return copy.eval()
