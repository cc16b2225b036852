"""Multinomial logistic regression on frozen features."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import require_penalties
from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Classifier(NamedTuple):
    """A linear classifier on standardised features."""

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]
    converged: bool = True  # rather than stopped after so many iterations

    def predict(self, features: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The class of the largest logit."""
        return (features @ self.weight.T + self.bias).argmax(1)

    def accuracy(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
        """Fraction of rows whose largest logit is the label's."""
        return float((self.predict(features) == labels).float().mean())


class Standardise(NamedTuple):
    """Centre and scale of each feature, from the images that a probe is fitted on."""

    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Standardise":
        return cls(features.mean(0), features.std(0, correction=0).clamp_min(1e-6))

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (features - self.mean) / self.std


class Probe(NamedTuple):
    """The classifier of the best penalty, behind the standardising that it was fitted with."""

    standardise: Standardise
    classifier: Classifier
    penalty: float
    accuracy: float  # where the penalty was chosen

    def predict(self, features: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The class of the largest logit."""
        return self.classifier.predict(self.standardise(features))

    def chosen(self) -> dict[str, Any]:
        """What a result line says of the choice."""
        return {"select_top1": self.accuracy, "penalty": self.penalty, "converged": self.classifier.converged}


def logistic(subject: Subject, penalties: Sequence[float] = PENALTIES, max_iterations: int = 200) -> Result:
    """Accuracy of L2-regularised logistic regression on cached clean features, fitted by L-BFGS.

    Minimises mean cross-entropy + penalty / 2 · |W|² on features standardised by the training set (as SimCLR's
    transfer protocol, arXiv 2002.05709 appendix B.8, without its refit). The penalty is the one that does best on
    `sets.select`; ties go to the larger. `converged` is false where `max_iterations` ended the fit before its time.
    """
    require_penalties(penalties)
    sets = subject.sets
    probe = probe_of(subject, penalties, max_iterations)
    predicted = probe.predict(subject.features(sets.test))
    figures = scores(predicted, subject.labels(sets.test), len(sets.classes))
    settings = {
        "penalties": list(penalties),
        "max_iterations": max_iterations,
        "fitted_on": len(sets.fit),
        "chosen_on": len(sets.select),
        "views": "clean",
    }
    return Result(figures | probe.chosen(), settings)


def probe_of(subject: Subject, penalties: Sequence[float], max_iterations: int) -> Probe:
    """The probe on clean features, fitted once for all protocols that read it."""

    def make() -> Probe:
        sets = subject.sets
        train, select = ((subject.features(s), subject.labels(s)) for s in (sets.fit, sets.select))
        return choose(*train, *select, len(sets.classes), penalties, max_iterations)

    return subject.once(("probe", *penalties, max_iterations), make)


def choose(
    train: Float[Tensor, "n d"],
    train_labels: Int[Tensor, " n"],
    select: Float[Tensor, "m d"],
    select_labels: Int[Tensor, " m"],
    num_classes: int,
    penalties: Sequence[float],
    max_iterations: int,
) -> Probe:
    """The classifier of `train` whose penalty does best on `select`; ties go to the larger."""
    standardise = Standardise.of(train)
    train, select = standardise(train), standardise(select)
    start: Classifier | None = None
    probes = []
    for penalty in sorted(penalties, reverse=True):  # from the smoothest problem on, each starts from the last
        start = fit(train, train_labels, num_classes, penalty, max_iterations, start)
        probes.append(Probe(standardise, start, penalty, start.accuracy(select, select_labels)))
    return max(probes, key=lambda probe: probe.accuracy)


def fit(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    penalty: float,
    max_iterations: int,
    start: Classifier | None = None,
) -> Classifier:
    """Minimise mean cross-entropy + penalty / 2 · |W|² from `start`, or from zero.

    Few rows of many features are turned first into as many features as rows: a rotation changes neither the loss nor
    the length of W, and what the rows do not reach stays zero.
    """
    if 4 * len(features) <= features.shape[1]:
        basis, coordinates = torch.linalg.qr(features.T)  # d x n, n x n
        turned = None if start is None else Classifier(start.weight @ basis, start.bias)
        found = fit(coordinates.T.contiguous(), labels, num_classes, penalty, max_iterations, turned)
        return found._replace(weight=found.weight @ basis.T)
    d = features.shape[1]

    def unpack(flat: np.ndarray) -> Classifier:
        table = torch.from_numpy(flat).to(features).view(num_classes, d + 1)
        return Classifier(table[:, :d].contiguous(), table[:, d])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = (part.requires_grad_() for part in unpack(flat)[:2])
        loss = cross_entropy(features @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        gradient = torch.autograd.grad(loss, (weight, bias))
        table = torch.cat([gradient[0], gradient[1][:, None]], 1)
        return float(loss.detach()), table.flatten().double().cpu().numpy()

    origin = np.zeros(num_classes * (d + 1))
    if start is not None:
        origin = torch.cat([start.weight, start.bias[:, None]], 1).flatten().double().cpu().numpy()
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations}
    found = minimize(objective, origin, jac=True, method="L-BFGS-B", options=options)
    return unpack(found.x)._replace(converged=found.status != 1)  # 2: nothing lower is left within float32's rounding
