"""Multinomial logistic regression on frozen features."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result


class Classifier(NamedTuple):
    """A linear classifier on standardised features."""

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]

    def accuracy(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
        """Fraction of rows whose largest logit is the label's."""
        return float(((features @ self.weight.T + self.bias).argmax(1) == labels).float().mean())


def logistic(
    subject: Subject,
    penalties: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    max_iterations: int = 200,
) -> Result:
    """Accuracy of L2-regularised logistic regression on cached clean features, fitted by L-BFGS.

    Minimises mean cross-entropy + penalty / 2 · |W|² on features standardised by the training set (as SimCLR's
    transfer protocol, arXiv 2002.05709 appendix B.8, without its refit). The penalty is the one that does best on
    `sets.select`; ties go to the larger.
    """
    sets = subject.sets
    num_classes = len(sets.classes)
    train = subject.features(sets.fit)
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    select, test = ((subject.features(s) - mean) / std for s in (sets.select, sets.test))
    train = (train - mean) / std
    labels = subject.labels(sets.fit)
    best, best_accuracy, best_penalty = None, -1.0, 0.0
    start: Classifier | None = None
    for penalty in sorted(penalties, reverse=True):  # from the smoothest problem on, each starts from the last
        start = fit(train, labels, num_classes, penalty, max_iterations, start)
        accuracy = start.accuracy(select, subject.labels(sets.select))
        if accuracy > best_accuracy:
            best, best_accuracy, best_penalty = start, accuracy, penalty
    if best is None:
        raise ValueError("protocols.logistic.penalties is empty; give at least one, such as [0.001]")
    figures = {
        "top1": best.accuracy(test, subject.labels(sets.test)),
        "select_top1": best_accuracy,
        "penalty": best_penalty,
    }
    settings = {
        "penalties": list(penalties),
        "max_iterations": max_iterations,
        "fitted_on": len(sets.fit),
        "chosen_on": len(sets.select),
        "views": "clean",
    }
    return Result("logistic", figures, settings)


def fit(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    penalty: float,
    max_iterations: int,
    start: Classifier | None = None,
) -> Classifier:
    """Minimise mean cross-entropy + penalty / 2 · |W|² from `start`, or from zero."""
    d = features.shape[1]

    def unpack(flat: np.ndarray) -> Classifier:
        table = torch.from_numpy(flat).to(features).view(num_classes, d + 1)
        return Classifier(table[:, :d].contiguous(), table[:, d])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = (part.requires_grad_() for part in unpack(flat))
        loss = cross_entropy(features @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        gradient = torch.autograd.grad(loss, (weight, bias))
        table = torch.cat([gradient[0], gradient[1][:, None]], 1)
        return float(loss.detach()), table.flatten().double().cpu().numpy()

    origin = np.zeros(num_classes * (d + 1))
    if start is not None:
        origin = torch.cat([start.weight, start.bias[:, None]], 1).flatten().double().cpu().numpy()
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations}
    return unpack(minimize(objective, origin, jac=True, method="L-BFGS-B", options=options).x)
