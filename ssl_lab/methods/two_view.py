"""Methods that compare views of the same images."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lab.distributed import gather
from ssl_lab.draws import Draws
from ssl_lab.methods.base import Method
from ssl_lab.methods.compatibility import check_loss, check_sizes
from ssl_lab.methods.microbatch import in_parts
from ssl_lab.types import Step
from ssl_lab.views import Views


class TwoView(Method):
    """views -> encoder -> projector -> loss of the projections, one argument a view.

    projector: from the width of the features to a module.
    loss: of the projections of the whole batch, over all processes.
    views: from images to a list of views.
    microbatch: images embedded at a time, in the memory that these take; null embeds the whole batch at once. The loss
    still compares the whole batch, and a step costs one forward pass more.
    apart: whether each view passes the networks by itself, so that batch norm sees one view at a time, as in the code
    of Barlow Twins, VICReg and solo-learn; else views of one size share a pass, as in SimCLR's and EMP-SSL's.
    """

    def __init__(
        self,
        projector: Callable[[int], nn.Module],
        loss: Callable[..., Tensor],
        views: Views,
        microbatch: int | None = None,
        apart: bool = False,
        **parts: Any,
    ):
        super().__init__(**parts)
        if microbatch is not None and microbatch < 1:
            raise ValueError(f"method.microbatch={microbatch}: at least one image is embedded at a time; null for all")
        check_loss(loss, "views", views=views.count)
        check_sizes(self.encoder.backbone, views.sizes)
        self.projector = projector(self.encoder.num_features)
        self.loss = loss
        self.views = views
        self.microbatch, self.apart = microbatch, apart
        self.views_per_image = views.count

    def check(self, batch_size: int, processes: int) -> None:
        """A part of one row stops a batch norm of features, where views pass apart; maps have more than a row."""
        share = batch_size // processes
        if self.microbatch is None or self.microbatch >= share or not self.apart:
            return
        fewest = share // -(-share // self.microbatch)
        if fewest < 2 and any(isinstance(module, nn.BatchNorm1d) for module in self.modules()):
            raise ValueError(
                f"method.microbatch={self.microbatch}: of {share} images some part is one alone, and batch norm needs "
                "two; set it to 3 or more"
            )

    def remarks(self, num_images: int, accumulate: int) -> list[str]:
        said = accumulation_remarks(accumulate)
        if self.microbatch and any(isinstance(module, _BatchNorm) for module in self.modules()):
            said.append(
                f"method.microbatch={self.microbatch}: batch norm takes its statistics from each part, so the gradient "
                "is near that of the whole batch, and equal to it only without batch norm"
            )
        return said

    def step(self, inputs: UInt8[Tensor, "n 3 h w"], draws: Draws) -> Step:
        def project(start: int, stop: int) -> tuple[Tensor, ...]:
            """Features of the first view, then the projections of each, for some of the rows."""
            rows = draws if stop - start == len(inputs) else draws.rows(start, stop)
            views = [self.encoder.normalize(view) for view in self.views(inputs[start:stop], rows)]
            features = [self.encoder.backbone(torch.cat(images)) for images in self.passes(views)]
            projections = [self.projector(x) for x in (features if self.apart else [torch.cat(features)])]
            return features[0][: stop - start].detach(), *torch.cat(projections).chunk(len(views))

        if self.microbatch is None or self.microbatch >= len(inputs):
            features, *projections = project(0, len(inputs))
        else:
            features, *projections = in_parts(project, self, len(inputs), self.microbatch)
        return Step(whole_batch_loss(self.loss, *projections), features, {})

    def passes(self, views: list[Float[Tensor, "n 3 _ _"]]) -> list[list[Float[Tensor, "n 3 _ _"]]]:
        """The views that go through the backbone together, and so share their batch statistics."""
        if self.apart:
            return [[view] for view in views]
        return [list(same) for _, same in groupby(views, key=lambda view: view.shape[-2:])]


class SimCLR(TwoView):
    """SimCLR: two views of an image attract, all others repel (Chen et al. 2020, arXiv 2002.05709); use `nt_xent`."""


class BarlowTwins(TwoView):
    """Barlow Twins: each dimension agrees with itself alone (Zbontar et al. 2021, arXiv 2103.03230); `barlow_twins`."""


class VICReg(TwoView):
    """VICReg: the same aim in three terms, each view apart (Bardes et al. 2022, arXiv 2105.04906); use `vicreg`."""


class EMPSSL(TwoView):
    """EMP-SSL: many patches of an image agree, images spread out (Tong et al. 2023, arXiv 2304.03977); `emp_ssl`."""

    whole_images = False


def accumulation_remarks(accumulate: int, microbatch: str | None = "method.microbatch") -> list[str]:
    """What accumulated gradients do to a loss that compares the rows of a batch; microbatch: the key that helps."""
    if accumulate == 1:
        return []
    return [
        f"trainer.accumulate_grad_batches={accumulate} does not enlarge what the loss compares: for that, set "
        f"data.batch_size to {accumulate} times as much"
        + (
            f", and {microbatch} to what fits in memory"
            if microbatch
            else "; methods of two views have method.microbatch"
        )
    ]


def whole_batch_loss(loss: Callable[..., Tensor], *projections: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The loss of the batch over all processes, outside autocast: a sum over many terms wants more than bfloat16."""
    with torch.autocast(projections[0].device.type, enabled=False):
        return loss(*[gather(at_least_float32(z)) for z in projections])


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is where that is finer."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
