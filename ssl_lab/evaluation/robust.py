"""What is left of a probe's accuracy on images that are worse than those it knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from jaxtyping import Float, UInt8
from torch import Tensor

from ssl_lab.draws import seed_from
from ssl_lab.evaluation.corruptions import CORRUPTIONS, corrupt
from ssl_lab.evaluation.logistic import PENALTIES, probe_of
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

    After Hendrycks and Dietterich 2019 (arXiv 1903.12261). `corrupted` is the mean over corruptions and severities.
    Raises ValueError for a corruption or severity that does not exist.
    """
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown or not all(1 <= severity <= 5 for severity in severities):
        raise ValueError(
            f"protocols.robust: corruptions={unknown or list(corruptions)}, severities={list(severities)}; allowed: "
            f"{', '.join(CORRUPTIONS)}, and severities from 1 to 5"
        )
    sets, probe = subject.sets, probe_of(subject, penalties, max_iterations)
    labels = subject.labels(sets.test)

    def accuracy(features: Float[Tensor, "n d"]) -> float:
        return float((probe.predict(features) == labels).float().mean())

    figures = {"clean": accuracy(subject.features(sets.test))}
    for name in corruptions:
        found = []
        for severity in severities:
            found.append(accuracy(subject.extract(Corrupted(sets.test, name, severity))))
            figures[f"{name}_{severity}"] = found[-1]
        figures[name] = mean(found)
    figures["corrupted"] = mean(figures[name] for name in corruptions)
    settings = {"corruptions": list(corruptions), "severities": list(severities), "penalties": list(penalties)}
    settings |= {"max_iterations": max_iterations, "fitted_on": len(sets.fit), "chosen_on": len(sets.select)}
    settings |= {"noise_for_batches_of": subject.batch_size}
    return Result("robust", figures, settings, ("clean", "corrupted"))
