"""What each stage of a backbone knows."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab.evaluation.logistic import PENALTIES, choose
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import require_penalties
from ssl_lab.evaluation.subject import NotApplicable, Subject
from ssl_lab.types import Result


class PooledStages(nn.Module):
    """The features of every stage side by side, each averaged over a `grid` of cells."""

    def __init__(self, encoder: Any, grid: int):
        super().__init__()
        self.encoder, self.pool = encoder, nn.AdaptiveAvgPool2d(grid)

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return torch.cat([self.pool(x.float()).flatten(1) for x in self.encoder.stages(images)], 1)


def stages(
    subject: Subject, grid: int = 1, penalties: Sequence[float] = PENALTIES, max_iterations: int = 200
) -> Result:
    """Accuracy of logistic regression on each stage, averaged over a `grid` x `grid` of cells.

    Pretext tasks often peak before the last stage, which answers their question (Kolesnikov, Zhai, Beyer 2019, arXiv
    1901.09005). `top1`, which stands for the protocol, is that of the stage that does best on `sets.select`.
    NotApplicable for an encoder without.
    """
    encoder: Any = subject.encoder
    if not hasattr(encoder, "stages"):
        raise NotApplicable(f"{type(encoder).__name__} has no stages")
    require_penalties(penalties)
    widths = [channels * grid**2 for channels in encoder.backbone.stage_channels]
    sets, num_classes = subject.sets, len(subject.sets.classes)
    every = subject.of(PooledStages(encoder, grid))
    parts = [every.features(s).split(widths, dim=1) for s in (sets.fit, sets.select, sets.test)]
    labels = [subject.labels(s) for s in (sets.fit, sets.select, sets.test)]
    figures: dict[str, Any] = {}
    best = -1.0
    for i, (train, select, test) in enumerate(zip(*parts, strict=True), start=1):
        probe = choose(train, labels[0], select, labels[1], num_classes, penalties, max_iterations)
        found = scores(probe.predict(test), labels[2], num_classes) | probe.chosen()
        figures |= {f"stage{i}_{key}": value for key, value in found.items() if key != "confusion"}
        if probe.accuracy > best:
            best = probe.accuracy
            figures |= {"best_stage": i} | {key: found[key] for key in ("top1", "top1_low", "top1_high")}
    settings = {"grid": grid, "penalties": list(penalties), "max_iterations": max_iterations, "views": "clean"}
    settings |= {"fitted_on": len(sets.fit), "chosen_on": len(sets.select)}
    return Result(figures, settings, ("top1", *(f"stage{i}_top1" for i in range(1, len(widths) + 1))))
