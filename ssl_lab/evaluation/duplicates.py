"""What the training images give away of the test images."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ssl_lab.evaluation.gallery import contact_sheet
from ssl_lab.evaluation.subject import Subject
from ssl_lab.types import Result


def duplicates(
    subject: Subject, neighbours: int = 5, threshold: float = 0.95, side: int = 16, pairs: int = 12
) -> Result:
    """Share of test images that have a near-duplicate among the training images, and the nearest such pairs.

    Features find the `neighbours` nearest of each test image (cosine); pixels confirm: a pair counts when its
    thumbnails of `side` pixels correlate by `threshold` or more. So an encoder that takes all for one finds none, and
    a twin that it cannot see stays unseen: the share is a lower bound. pairs: how many are listed and pictured.
    """
    train, test = subject.sets.train, subject.sets.test
    bank = normalize(subject.features(train), dim=1)
    best, nearest = [], []
    for rows in torch.arange(len(test)).split(256):
        near = (normalize(subject.features(test)[rows], dim=1) @ bank.T).topk(min(neighbours, len(train))).indices.cpu()
        ours = thumbnails(test.gather(rows), side)
        theirs = thumbnails(train.gather(near.flatten()), side).view(*near.shape, -1)
        value, which = (theirs @ ours[:, :, None])[..., 0].max(1)
        best.append(value)
        nearest.append(near.gather(1, which[:, None])[:, 0])
    found, twin = torch.cat(best), torch.cat(nearest)
    count = int((found >= threshold).sum())
    order = found.argsort(descending=True)[: min(pairs, count)]
    names: list[Any] = [list(getattr(images, "names", range(len(images)))) for images in (test, train)]
    figures = {
        "share": count / len(test),
        "count": count,
        "pairs": [[names[0][row], names[1][int(twin[row])], round(float(found[row]), 4)] for row in order.tolist()],
    }
    sheet = torch.stack([test.gather(order), train.gather(twin[order])], 1).flatten(0, 1)
    settings = {"neighbours": neighbours, "threshold": threshold, "side": side, "bank": len(train)}
    return Result(figures, settings, ("share",), {"pairs": contact_sheet(sheet, 64, 8)} if count else {})


def thumbnails(images: UInt8[Tensor, "n 3 h w"], side: int) -> Float[Tensor, "n d"]:
    """Small images as vectors of length 1 whose channels have mean 0, so that their products are correlations.

    Each channel by itself: otherwise all pictures of the sea would be twins.
    """
    small = interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return normalize((small - small.mean((2, 3), keepdim=True)).flatten(1), dim=1)
