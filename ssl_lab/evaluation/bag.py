"""An image as a bag of its patches."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.evaluation.logistic import PENALTIES, logistic
from ssl_lab.evaluation.settings import require_penalties
from ssl_lab.evaluation.subject import Subject
from ssl_lab.evaluation.training import features
from ssl_lab.types import Result
from ssl_lab.views import Policy, Views


class BagOfPatches(nn.Module):
    """The mean feature of `patches` random square crops of an image, each resized to the image's own size."""

    def __init__(self, encoder: Any, patches: int, scale: float, size: int, seed: int):
        super().__init__()
        self.encoder, self.seed = encoder, seed
        self.views = Views([Policy(size=size, scale=(scale, scale), ratio=(1.0, 1.0), flip=0.5)], count=patches)

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        views = self.views(images, Draws(self.seed, 0, total=len(images)))
        return torch.stack([features(self.encoder, view).float() for view in views]).mean(0)


def bag(
    subject: Subject,
    patches: int = 16,
    scale: float = 0.25,
    penalties: Sequence[float] = PENALTIES,
    max_iterations: int = 200,
    seed: int = 0,
) -> Result:
    """The logistic probe on the mean feature of random patches (Tong et al. 2023, arXiv 2304.03977, which takes 128).

    Not comparable with a probe of one centre view: it sees each image `patches` times. scale: share of the image that a
    patch takes. Other settings as of `logistic`.
    """
    require_penalties(penalties)
    size = subject.sets.test.gather(torch.arange(1)).shape[-1]
    encoder = BagOfPatches(subject.encoder, patches, scale, size, seed)
    found = logistic(subject.of(encoder), penalties, max_iterations)
    settings = found.settings | {"views": f"{patches} patches", "scale": scale, "seed": seed}
    return Result(found.figures, settings)
