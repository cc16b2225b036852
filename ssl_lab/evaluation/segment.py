"""The class of every pixel."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_lab.draws import seed_from
from ssl_lab.evaluation.settings import SettingError
from ssl_lab.evaluation.subject import Few, LabelledImages, MaskedImages, NotApplicable, Sets, Subject
from ssl_lab.evaluation.training import Augmented, Recipe, Schedule, autocast, descend, groups, side, tuned
from ssl_lab.pixels import centre_crop
from ssl_lab.types import Result
from ssl_lab.views import crop_nearest

RESAMPLES = 1000  # of the test images, for the interval


class Segmenter(nn.Module):
    """An encoder and a head on the maps of its stages: raw images in, logits of each pixel out.

    head: from `stage_channels`, `stage_strides`, the number of classes and a stride of 1 to a module. frozen: whether
    the encoder stays as it is, batch norm's statistics included.
    """

    def __init__(self, encoder: Any, head: Callable[..., nn.Module], num_classes: int, frozen: bool):
        super().__init__()
        backbone = encoder.backbone
        self.encoder = encoder if frozen else deepcopy(encoder)
        self.head = head(backbone.stage_channels, backbone.stage_strides, num_classes, 1)
        self.frozen = frozen

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def logits(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Of images in the backbone's units."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = [x.float() for x in self.encoder.backbone.stages(images)]
        return self.head(maps, *images.shape[-2:])  # type: ignore[no-any-return]  # modules return Any

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        return self.logits(self.encoder.prepare(images))


def segment(
    subject: Subject,
    head: Callable[..., nn.Module],
    frozen: bool = True,
    rates: Sequence[float] = (0.003, 0.03),
    epochs: int = 30,
    batch_size: int = 16,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    head_rate: float = 10.0,
    layer_decay: float = 1.0,
    schedule: Schedule = "cosine",
    scale: Sequence[float] = (0.25, 1.0),
    amount: float | None = None,
    draw: int = 0,
    seed: int = 0,
) -> Result:
    """Mean intersection over union of a head on the stages, trained by SGD on crops and flips, the last epoch's.

    IoU of a class: TP / (TP + FP + FN), over the pixels of all test images, void ones left out; the mean is over the
    classes that occur. At the size the encoder sees. `miou_low, miou_high`: 95 % over test images drawn again.
    head: see `Segmenter`. frozen: learn the head alone, whose rate is then `head_rate` times each of `rates`, as when
    all is learned; from random weights the latter is supervised learning. The rate that does best on `sets.select` is
    reported. amount: of the training images: null for all, below 1 a share, from 1 on a number (nested subsets, number
    `draw`); the rate is then chosen on a fifth of them. ValueError without masks; NotApplicable without stages.
    """
    if not hasattr(subject.encoder, "stages"):
        raise NotApplicable(f"{type(subject.encoder).__name__} has no stages to read masks from")
    recipe = Recipe(epochs, batch_size, momentum, weight_decay, schedule, tuple(scale), seed)
    recipe.check()
    fit, held = divide(subject.sets, amount, draw)
    test = subject.sets.test

    def train(rate: float) -> Segmenter:
        torch.manual_seed(seed)
        network = Segmenter(subject.encoder, head, len(subject.sets.classes), frozen)
        return trained(network, subject, fit, recipe, (rate, head_rate, layer_decay))

    best = tuned(rates, train, lambda network: miou(confusions(network, held, subject, batch_size)))
    found = confusions(best.network, test, subject, batch_size)
    figures = scores(found) | {"rate": best.rate, "select_miou": best.score}
    settings = {"frozen": frozen, "head": type(best.network.head).__name__, "rates": list(rates), **recipe._asdict()}
    settings |= {"head_rate": head_rate, "layer_decay": layer_decay, "amount": amount, "draw": draw}
    settings |= {"fitted_on": len(fit), "chosen_on": len(held), "side": side(subject.encoder, test)}
    return Result(figures, settings, ("miou", "pixel_accuracy"))


def trained(
    network: Segmenter, subject: Subject, images: LabelledImages, recipe: Recipe, rates: tuple[float, float, float]
) -> Segmenter:
    """The same network, trained on these images, of a frozen one the head alone; rates: as of `groups`."""
    network.to(subject.device).train()
    top, *below = groups(network.encoder.backbone, network.head, *rates)
    size = side(network.encoder, images)
    batches = Augmented(images, masks_of(images, size), size, recipe, subject.device)
    learned = [top] if network.frozen else [top, *below]
    descend(network, learned, batches, lambda view, classes: loss(network, view, classes, subject), recipe)
    return network


def divide(sets: Sets, amount: float | None, draw: int) -> tuple[LabelledImages, LabelledImages]:
    """What is fitted on, and what the rate is chosen on. Raises ValueError for more images than there are."""
    if amount is None:
        return sets.fit, sets.select
    n = len(sets.train)
    count = max(2, round(amount * n)) if amount < 1 else int(amount)
    if not 2 <= count <= n:
        raise SettingError("amount", amount, f"allowed: 2 to {n}, the training images, or a share of them", n)
    order = torch.tensor([seed_from("few masks", draw, row) for row in range(n)]).argsort()[:count]
    inside = max(1, count // 5)
    few = Few(sets.train, order)
    return few.subset(order[inside:].sort().values), few.subset(order[:inside].sort().values)


def masks_of(images: LabelledImages, size: int) -> Callable[..., Tensor]:
    """The masks of rows, cropped as their images were."""
    return lambda rows, crops: crop_nearest(masks(images, rows), crops, size)


def masks(images: LabelledImages, rows: Tensor) -> UInt8[Tensor, "n h w"]:
    """Of these rows of a set. Raises ValueError for a set without."""
    if not isinstance(images, MaskedImages):
        raise ValueError("these images have no masks: give data that has, such as data=camvid")
    return images.gather_masks(rows)


def loss(
    network: Segmenter, view: Float[Tensor, "n 3 h w"], classes: UInt8[Tensor, "n h w"], subject: Subject
) -> Tensor:
    """Mean cross-entropy over the pixels that have a class."""
    with autocast(subject.device, subject.precision):
        logits = network.logits(network.encoder.normalize(view)).float()
    targets = classes.long().masked_fill(classes >= logits.shape[1], -100)
    total = cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    return total / (targets >= 0).sum().clamp_min(1)


@torch.inference_mode()
def confusions(network: Segmenter, images: LabelledImages, subject: Subject, batch_size: int) -> Int[Tensor, "n c c"]:
    """Of each image how often a pixel of a class (row) was taken for one (column); void pixels left out."""
    found = []
    for rows in torch.arange(len(images)).split(batch_size):
        with autocast(subject.device, subject.precision):
            logits = network(images.gather(rows).to(subject.device))
        c, said = logits.shape[1], logits.argmax(1).flatten(1)
        classes = as_seen(masks(images, rows), network.encoder).to(subject.device).long().flatten(1)
        pairs = torch.where(classes < c, classes * c + said, c * c)
        found.append(torch.stack([torch.bincount(row, minlength=c * c + 1)[:-1].view(c, c) for row in pairs]).cpu())
    return torch.cat(found)


def as_seen(masks: UInt8[Tensor, "n h w"], encoder: Any) -> UInt8[Tensor, "n s s"]:
    """Masks as the encoder sees their images: resized without interpolation, and the middle taken."""
    height, width = masks.shape[1:]
    if encoder.resize is not None:
        factor = encoder.resize / min(height, width)
        masks = nn.functional.interpolate(masks[:, None].float(), scale_factor=factor, mode="nearest-exact")[
            :, 0
        ].byte()
    if encoder.crop is not None:
        masks = centre_crop(masks[:, None], encoder.crop)[:, 0]
    return masks


def scores(found: Int[Tensor, "n c c"]) -> dict[str, Any]:
    """The figures of a set, and their interval over its images."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(found), (RESAMPLES, len(found)), generator=generator)
    counts = torch.zeros(RESAMPLES, len(found), dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(drawn.shape).double()
    )
    again = (counts @ found.double().flatten(1)).unflatten(1, found.shape[1:])
    low, high = torch.tensor([miou(one[None]) for one in again]).quantile(torch.tensor([0.025, 0.975])).tolist()
    total = found.sum(0)
    return {
        "miou": miou(found),
        "miou_low": low,
        "miou_high": high,
        "pixel_accuracy": float(total.diagonal().sum() / total.sum().clamp_min(1)),
        "per_class": [None if value.isnan() else float(value) for value in ious(total)],
    }


def ious(confusion: Tensor) -> Float[Tensor, " c"]:
    """Of each class; not a number for one that is neither there nor predicted."""
    right = confusion.diagonal().double()
    return right / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal()).double()


def miou(found: Tensor) -> float:
    """Mean over the classes that occur, of all images together."""
    return float(ious(found.sum(0)).nanmean())
