"""Figures of a classification."""

import base64
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy.stats import binom
from torch import Tensor


def scores(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"], num_classes: int) -> dict[str, Any]:
    """Accuracy with its interval over the test images, that of each class, and macro-F1.

    top1_low, top1_high: 95 % of what accuracy would be on images drawn again from these, the bootstrap's percentiles;
    of a mean of zeros and ones that distribution is binomial, and needs no drawing. It says nothing of the spread over
    seeds. per_class: recall of each class, None where there is no image. macro_f1: over the classes with images. right:
    which images were classified right, see `unpacked`, so that two encoders can be compared image by image.
    """
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    confusion.view(-1).index_add_(
        0, (labels * num_classes + predicted).cpu(), torch.ones(len(labels), dtype=torch.long)
    )
    right, there, said = confusion.diagonal().double(), confusion.sum(1).double(), confusion.sum(0).double()
    n, top1 = len(labels), float(right.sum() / len(labels))
    low, high = (float(binom.ppf(q, n, top1)) / n for q in (0.025, 0.975))
    f1 = 2 * right / (there + said).clamp_min(1)
    return {
        "top1": top1,
        "top1_low": low,
        "top1_high": high,
        "macro_f1": float(f1[there > 0].mean()),
        "per_class": [None if t == 0 else float(r / t) for r, t in zip(right, there, strict=True)],
        "confusion": confusion.tolist(),
        "right": packed((predicted == labels).cpu().numpy()),
    }


def packed(right: Bool[np.ndarray, " n"]) -> str:
    """Yes or no for each image, a bit each, as text."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpacked(text: str, images: int) -> Bool[np.ndarray, " {images}"]:
    """What `packed` was given."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
