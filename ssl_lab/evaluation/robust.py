"""What is left of a probe's accuracy on images that are worse than those it knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ssl_lab.draws import seed_from
from ssl_lab.evaluation.corruptions import CORRUPTIONS, corrupt
from ssl_lab.evaluation.logistic import PENALTIES, probe_of
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import require, require_penalties
from ssl_lab.evaluation.subject import LabelledImages, Subject
from ssl_lab.types import Result


@dataclass(frozen=True)
class Corrupted:
    """A set of images under a corruption."""

    images: LabelledImages
    name: str
    severity: int

    @property
    def labels(self) -> Tensor | None:
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, index: Tensor) -> UInt8[Tensor, "m 3 h w"]:
        seed = seed_from("corruption", self.name, self.severity, int(index[0]))
        return corrupt(self.images.gather(index), self.name, self.severity, seed)

    def subset(self, index: Tensor) -> "Corrupted":
        return Corrupted(self.images.subset(index), self.name, self.severity)


def robust(
    subject: Subject,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    penalties: Sequence[float] = PENALTIES,
    max_iterations: int = 200,
) -> Result:
    """The logistic probe, fitted and chosen on clean images, on test images under common corruptions.

    After Hendrycks and Dietterich 2019 (arXiv 1903.12261). `corrupted` is the mean over corruptions and severities; its
    interval is over test images drawn again, each with all its corruptions.
    Raises ValueError for a corruption or severity that does not exist, and for none.
    """
    known = len(corruptions) > 0 and all(name in CORRUPTIONS for name in corruptions)
    require(known, "corruptions", list(corruptions), f"one or more of {', '.join(CORRUPTIONS)}", "[blur]")
    fine = len(severities) > 0 and all(1 <= severity <= 5 for severity in severities)
    require(fine, "severities", list(severities), "one or more, each from 1 to 5", "[3]")
    require_penalties(penalties)
    sets, probe = subject.sets, probe_of(subject, penalties, max_iterations)
    labels = subject.labels(sets.test)

    clean = scores(probe.predict(subject.features(sets.test)), labels, len(sets.classes))
    figures: dict[str, Any] = {"clean" + key.removeprefix("top1"): clean[key] for key in clean if key[:4] == "top1"}
    figures |= {key: clean[key] for key in ("macro_f1", "per_class")}
    share = torch.zeros(len(labels), dtype=torch.float64)  # of its corruptions under which an image is known
    for name in corruptions:
        for severity in severities:
            right = probe.predict(subject.extract(Corrupted(sets.test, name, severity))) == labels
            figures[f"{name}_{severity}"] = float(right.double().mean())
            share += right.cpu() / (len(corruptions) * len(severities))
        figures[name] = mean(figures[f"{name}_{severity}"] for severity in severities)
    mid, error = float(share.mean()), float(share.std() / len(share) ** 0.5)
    figures |= {"corrupted": mid, "corrupted_low": mid - 1.96 * error, "corrupted_high": mid + 1.96 * error}
    settings = {"corruptions": list(corruptions), "severities": list(severities), "penalties": list(penalties)}
    settings |= {"max_iterations": max_iterations, "fitted_on": len(sets.fit), "chosen_on": len(sets.select)}
    settings |= {"noise_for_batches_of": subject.batch_size}
    return Result(figures | probe.chosen(), settings, ("clean", "corrupted"))
