"""All weights trained on labels, from what an encoder has learned; from random weights, this is supervised learning."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_lab.evaluation.few_label import subset
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.subject import LabelledImages, NotApplicable, Subject, extract
from ssl_lab.evaluation.training import Augmented, Schedule, autocast, descend, features, side
from ssl_lab.types import Result


class Classifier(nn.Module):
    """An encoder and a linear layer; takes what the encoder takes."""

    def __init__(self, encoder: Any, num_classes: int):
        super().__init__()
        self.encoder = deepcopy(encoder)
        self.head = nn.Linear(encoder.num_features, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images).float())  # type: ignore[no-any-return]  # modules return Any


def finetune(
    subject: Subject,
    rates: Sequence[float] = (0.003, 0.03, 0.3),
    epochs: int = 30,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    head_rate: float = 10.0,
    layer_decay: float = 1.0,
    schedule: Schedule = "cosine",
    scale: Sequence[float] = (0.3, 1.0),
    amount: float | None = None,
    draw: int = 0,
    seed: int = 0,
) -> Result:
    """SGD on random crops and flips through the whole network; tested on clean images, after the last epoch.

    rates: of the backbone; each trains a copy, and the one that does best on held-out labels is reported. head_rate:
    factor on the rate for the new layer. layer_decay: factor on the rate from each part of the backbone to the one
    below. amount: of the labels: null for all, below 1 a share, from 1 on a number a class (as the subsets of
    `few_label`, number `draw`); the rate is then chosen on a fifth of the subset. NotApplicable without weights.
    """
    sets, num_classes, encoder = subject.sets, len(subject.sets.classes), subject.encoder
    if not hasattr(encoder, "backbone"):
        raise NotApplicable(f"protocol=finetune: {type(encoder).__name__} has no weights")
    fit, held, chosen_on = divide(subject, amount, draw, seed)

    def trained(images: LabelledImages, rate: float) -> Classifier:
        torch.manual_seed(seed)
        network = Classifier(encoder, num_classes).to(subject.device).train()
        labels = subject.labels(images)
        batches = Augmented(images, labels, side(encoder, images), scale, batch_size, seed)

        def loss(view: Tensor, targets: Tensor) -> Tensor:
            with autocast(subject.device, subject.precision):
                x = features(network.encoder, view)
            return cross_entropy(network.head(x.float()), targets)

        descend(
            network,
            groups(network, rate, head_rate, layer_decay),
            batches,
            loss,
            epochs,
            momentum,
            weight_decay,
            schedule,
        )
        return network

    def predicted(network: Classifier, images: LabelledImages) -> Int[Tensor, " n"]:
        return extract(network, images, subject.device, subject.precision, subject.batch_size).argmax(1)

    best: tuple[float, float, Classifier] | None = None
    for rate in rates:
        network = trained(fit, rate)
        accuracy = float((predicted(network, held) == subject.labels(held)).float().mean())
        if best is None or accuracy > best[0]:
            best = accuracy, rate, network
    if best is None:
        raise ValueError("protocols.finetune.rates is empty; give at least one, such as [0.03]")
    figures = scores(predicted(best[2], sets.test), subject.labels(sets.test), num_classes)
    figures |= {"rate": best[1], "select_top1": best[0]}
    settings = {"rates": list(rates), "epochs": epochs, "batch_size": batch_size, "momentum": momentum}
    settings |= {"weight_decay": weight_decay, "head_rate": head_rate, "layer_decay": layer_decay}
    settings |= {"schedule": schedule, "scale": list(scale), "amount": amount, "draw": draw, "seed": seed}
    return Result(
        "finetune", figures, settings | {"fitted_on": len(fit), "chosen_on": len(held), "held_out": chosen_on}
    )


def divide(subject: Subject, amount: float | None, draw: int, seed: int) -> tuple[LabelledImages, LabelledImages, str]:
    """What is fitted on, what the rate is chosen on, and what that is."""
    sets = subject.sets
    if amount is None:
        return sets.fit, sets.select, "validation"
    labels = subject.labels(sets.train).cpu()
    rows = subset(labels, len(sets.classes), amount, draw)
    inside = subset(labels[rows], len(sets.classes), 0.2, seed)
    if len(inside) == len(rows):  # one label a class: it has to serve twice, and that is said
        return sets.train.subset(rows), sets.train.subset(rows), "the subset itself"
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[inside] = False
    return sets.train.subset(rows[kept]), sets.train.subset(rows[inside]), "a fifth of the subset"


def groups(network: Classifier, rate: float, head_rate: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameters with their rates: the head, then the parts of the backbone from the last to the first."""
    parts: list[nn.Module] = []
    for part in network.encoder.backbone.children():
        parts += list(part) if isinstance(part, nn.ModuleList) else [part]
    found = [{"params": list(network.head.parameters()), "lr": rate * head_rate}]
    for depth, part in enumerate(reversed(parts)):
        if trainable := [p for p in part.parameters() if p.requires_grad]:
            found.append({"params": trainable, "lr": rate * layer_decay**depth})
    return found
