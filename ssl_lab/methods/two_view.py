"""Methods that compare views of the same images."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab.distributed import gather
from ssl_lab.draws import Draws
from ssl_lab.methods.base import Method
from ssl_lab.methods.fit import check_loss
from ssl_lab.types import Step
from ssl_lab.views import Views


class TwoView(Method):
    """views -> encoder -> projector -> loss of the projections, one argument a view.

    projector: from the width of the features to a module.
    loss: of the projections of the whole batch, over all processes.
    views: from images to a list of views.
    """

    def __init__(self, projector: Callable[[int], nn.Module], loss: Callable[..., Tensor], views: Views, **parts: Any):
        super().__init__(**parts)
        check_loss(loss, "views", views.count)
        self.projector = projector(self.encoder.num_features)
        self.loss = loss
        self.views = views
        self.views_per_image = views.count

    def step(self, inputs: UInt8[Tensor, "n 3 h w"], draws: Draws) -> Step:
        views = [self.encoder.normalize(view) for view in self.views(inputs, draws)]
        features = self.embed(views)
        projections = self.projector(features).chunk(len(views))
        loss = whole_batch_loss(self.loss, *projections)
        return Step(loss, features[: len(inputs)].detach(), {})

    def embed(self, views: list[Float[Tensor, "n 3 _ _"]]) -> Float[Tensor, "kn d"]:
        """Features of all views, view after view. Views of one size share a pass, and so their batch statistics."""
        passes = (torch.cat(list(same)) for _, same in groupby(views, key=lambda view: view.shape[-2:]))
        return torch.cat([self.encoder.backbone(images) for images in passes])


class SimCLR(TwoView):
    """SimCLR: two views of an image attract, all others repel (Chen et al. 2020, arXiv 2002.05709); use `nt_xent`."""


class BarlowTwins(TwoView):
    """Barlow Twins: each dimension agrees with itself alone (Zbontar et al. 2021, arXiv 2103.03230); `barlow_twins`."""


class VICReg(TwoView):
    """VICReg: the same aim in three terms, each view apart (Bardes et al. 2022, arXiv 2105.04906); use `vicreg`."""


def whole_batch_loss(loss: Callable[..., Tensor], *projections: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The loss of the batch over all processes, outside autocast: a sum over many terms wants more than bfloat16."""
    with torch.autocast(projections[0].device.type, enabled=False):
        return loss(*[gather(at_least_float32(z)) for z in projections])


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is where that is finer."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
