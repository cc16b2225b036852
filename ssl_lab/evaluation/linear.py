"""A linear classifier on frozen features of augmented images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.logistic import Standardise
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.settings import require_rates
from ssl_lab.evaluation.subject import Subject
from ssl_lab.evaluation.training import (
    Augmented,
    Recipe,
    Schedule,
    autocast,
    classes,
    descend,
    features,
    side,
)
from ssl_lab.types import Result


class Heads(nn.Module):
    """Several linear classifiers side by side, one a learning rate: each step of the encoder serves them all.

    standardise: of the features, before all; None to take them as they are.
    """

    def __init__(self, in_features: int, num_classes: int, count: int, standardise: Standardise | None):
        super().__init__()
        self.standardise = standardise
        heads = [nn.Linear(in_features, num_classes) for _ in range(count)]
        for head in heads:  # as MoCo's lincls: small weights, no bias
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.standardise(x) if self.standardise else x
        return [head(x) for head in self.heads]


def linear(
    subject: Subject,
    rates: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    epochs: int = 90,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: Schedule = "cosine",
    scale: Sequence[float] = (0.08, 1.0),
    seed: int = 0,
    nesterov: bool = True,
    standardise: bool = True,
) -> Result:
    """SGD on crops and flips, the encoder frozen in evaluation mode; tested on clean images after the last epoch.

    rates: learning rates for `batch_size`; all are trained at once, and the one that does best on `sets.select` is
    reported, since published rates go from 0.1 (SimCLR) over 0.3 (Barlow Twins) to 30 (MoCo). ValueError for none.
    standardise: whether each feature is first centred and scaled as over the clean images of `sets.fit`, so that none
    is judged by the scale of its features (MAE's, arXiv 2111.06377 appendix A, has a batch norm there for this); those
    of random weights are so small that rates up to 30 leave them at chance. The published protocols do without.
    """
    require_rates(rates)
    recipe = Recipe(epochs, batch_size, momentum, weight_decay, schedule, tuple(scale), seed, nesterov)
    recipe.check()
    sets, num_classes, encoder = subject.sets, len(subject.sets.classes), subject.encoder
    encoder.eval()
    select = subject.features(sets.select)
    torch.manual_seed(seed)
    scaling = Standardise.of(subject.features(sets.fit)) if standardise else None
    heads = Heads(select.shape[1], num_classes, len(rates), scaling).to(subject.device)
    batches = Augmented(sets.fit, classes(subject.labels(sets.fit)), side(encoder, sets.fit), recipe, subject.device)

    def loss(view: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad(), autocast(subject.device, subject.precision):
            x = features(encoder, view).float()
        return torch.stack([cross_entropy(logits, labels) for logits in heads(x)]).sum()  # no head sees another's

    groups = [{"params": head.parameters(), "lr": rate} for head, rate in zip(heads.heads, rates, strict=True)]
    descend(heads, groups, batches, loss, recipe)
    with torch.no_grad():
        chosen_on = [float((x.argmax(1) == subject.labels(sets.select)).float().mean()) for x in heads(select)]
        best = max(range(len(rates)), key=lambda i: chosen_on[i])
        predicted = heads(subject.features(sets.test))[best].argmax(1)
    figures = scores(predicted, subject.labels(sets.test), num_classes)
    figures |= {"rate": rates[best], "select_top1": chosen_on[best]}
    settings = {"rates": list(rates), **recipe._replace(batch_size=batches.batch_size)._asdict()}
    settings["standardise"] = standardise
    return Result(figures, settings | {"fitted_on": len(sets.fit), "chosen_on": len(sets.select)})
