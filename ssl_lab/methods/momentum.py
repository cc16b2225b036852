"""Methods whose keys come from a slowly moving copy of the encoder."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab.distributed import gather, rank
from ssl_lab.draws import Draws
from ssl_lab.methods.base import Method
from ssl_lab.methods.compatibility import check_loss, check_sizes
from ssl_lab.methods.two_view import accumulation_remarks, at_least_float32, whole_batch_loss
from ssl_lab.nn import Queue, Teacher, split_batch_norms
from ssl_lab.types import Step
from ssl_lab.views import Views


class Taught(Method):
    """A method with a teacher that follows its backbone and its projector.

    projector: from the width of the features to a module.
    """

    def __init__(self, projector: Callable[[int], nn.Module], **parts: Any):
        super().__init__(**parts)
        self.projector = projector(self.encoder.num_features)
        self.teacher = Teacher(*self.students)

    @property
    def students(self) -> tuple[nn.Module, nn.Module]:
        """What the teacher follows."""
        return self.encoder.backbone, self.projector

    def prepare(self, images: UInt8[Tensor, "n 3 h w"]) -> None:
        super().prepare(images)
        self.teacher.copy(self.students)


def falling(progress: float) -> float:
    """From 1 to 0 as half a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


class MoCo(Taught):
    """A query finds its key among the keys of earlier batches (He et al. 2020, arXiv 1911.05722).

    loss: of queries, their keys and the queue; `info_nce`.
    views: of an image; the first is the query's, the second the key's.
    queue_size: keys kept. momentum: of the key encoder, which moves once an update. momentum_end: what that rises to as
    half a cosine (solo-learn's); None for a constant one.
    splits: parts of the global batch with batch-norm statistics of their own; the keys are normalised in another order
    than the queries, so that neither leaks which belong together. 1 keeps the networks' batch norm as it is.
    symmetric: every view is once query and once key; the mean of both losses. Costs twice the passes.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        views: Views,
        queue_size: int = 65536,
        momentum: float = 0.999,
        splits: int = 1,
        symmetric: bool = False,
        momentum_end: float | None = None,
        **parts: Any,
    ):
        super().__init__(**parts)
        check_loss(loss, "queue")
        if views.count != 2:
            raise ValueError(
                f"method.views.count={views.count}: MoCo takes a query and a key; set method.views.count=2"
            )
        if splits < 1:
            raise ValueError(f"method.splits={splits}: batch norm takes 1 part or more; 1 is the whole batch")
        check_momentum("momentum", momentum)
        check_momentum("momentum_end", momentum if momentum_end is None else momentum_end)
        check_sizes(self.encoder.backbone, views.sizes)
        if splits > 1:
            split_batch_norms(self, splits)
        self.loss, self.views = loss, views
        self.momentum, self.splits, self.symmetric = momentum, splits, symmetric
        self.momentum_end = momentum_end
        self.queue = Queue(queue_size, int(self.projector.num_features))  # type: ignore[arg-type]  # a projector has it
        self.views_per_image = 4 if symmetric else 2
        self.fewest_rows = 2 * splits

    def check(self, batch_size: int, processes: int) -> None:
        """Each process takes its share of the parts, at least one."""
        parts = max(self.splits, processes)
        if self.splits > 1 and parts % processes:
            raise ValueError(
                f"method.splits={self.splits}: its parts do not divide among {processes} processes; set it to "
                f"{-(-self.splits // processes) * processes}"
            )
        if self.splits > 1 and batch_size % parts:
            raise ValueError(
                f"method.splits={self.splits}: a batch of {batch_size} does not divide into {parts} parts; set "
                f"data.batch_size to {-(-batch_size // parts) * parts}"
            )

    def remarks(self, num_images: int, accumulate: int) -> list[str]:
        size = len(self.queue)
        norms = f"in {self.splits} parts, keys in another order" if self.splits > 1 else "over the whole batch"
        said = [f"batch norm {norms}"]
        if size >= num_images:
            said.append(
                f"method.queue_size={size} is no less than the {num_images} images: old keys of an image are among its "
                f"negatives; set method.queue_size to {num_images // 2} or less"
            )
        if accumulate > 1:
            said.append(
                f"trainer.accumulate_grad_batches={accumulate}: a query is compared with the queue, so this is a batch "
                f"{accumulate} times as large but for batch norm and for when keys join the queue; it needs no "
                "method.microbatch, which methods of two views have for that"
            )
        return said

    def step(self, inputs: UInt8[Tensor, "n 3 h w"], draws: Draws) -> Step:
        one, other = (self.encoder.normalize(view) for view in self.views(inputs, draws))
        pairs = [(one, other), (other, one)] if self.symmetric else [(one, other)]
        features = [self.encoder.backbone(query) for query, _ in pairs]
        keys = [self.keys(key, draws.permutation()) for _, key in pairs]
        losses = [
            whole_batch_loss(lambda q, k: self.loss(q, k, self.queue.keys), self.projector(query), key)
            for query, key in zip(features, keys, strict=True)
        ]
        for key in keys:  # only now: no key is a negative while its own batch is scored
            self.queue.push(gather(key))
        return Step(torch.stack(losses).mean(), features[0].detach(), {})

    @torch.no_grad()
    def keys(self, images: Float[Tensor, "n 3 h w"], order: Tensor) -> Float[Tensor, "n d"]:
        """The teacher's projections, made in another order of the global batch where batch norm could tell."""
        if self.splits == 1:
            return at_least_float32(self.teacher(images))
        n = len(images)
        mine = slice(n * rank(), n * (rank() + 1))
        order = order.to(images.device)
        projections = gather(at_least_float32(self.teacher(gather(images)[order[mine]])))
        return projections[order.argsort()[mine]]

    def after_update(self) -> None:
        end = self.momentum_end
        at = self.momentum if end is None else end - (end - self.momentum) * falling(self.progress)
        self.teacher.move(self.students, at)


def check_momentum(key: str, momentum: float) -> None:
    """Refuse what is no share. Raises ValueError."""
    if not 0 <= momentum <= 1:
        raise ValueError(f"method.{key}={momentum}: the share of itself that the teacher keeps, from 0 to 1")


class MoCoV1(MoCo):
    """MoCo with a linear projection and T = 0.07 (He et al. 2020, arXiv 1911.05722)."""


class MoCoV2(MoCo):
    """MoCo with an MLP, blur, a cosine and T = 0.2 (Chen, Fan, Girshick, He 2020, arXiv 2003.04297)."""


class MoCoV3(Taught):
    """No queue: the batch's other keys are the negatives (Chen, Xie, He 2021, arXiv 2104.02057).

    Both views are query once and key once; the losses are added. A predictor follows the query's projector. The
    momentum rises from `momentum` to 1 as half a cosine.

    predictor: from the width of the projections to a module of the same width. loss: of queries and keys; `moco_v3`.
    """

    views_per_image = 4  # each view passes the encoder and its teacher

    def __init__(
        self,
        predictor: Callable[[int], nn.Module],
        loss: Callable[..., Tensor],
        views: Views,
        momentum: float = 0.99,
        **parts: Any,
    ):
        super().__init__(**parts)
        check_loss(loss, "views")
        if views.count != 2:
            raise ValueError(f"method.views.count={views.count}: MoCo v3 compares two views; set method.views.count=2")
        check_momentum("momentum", momentum)
        check_sizes(self.encoder.backbone, views.sizes)
        width = int(self.projector.num_features)  # type: ignore[arg-type]  # a projector has it
        self.predictor = predictor(width)
        if self.predictor.num_features != width:
            raise ValueError(
                f"method.predictor: its answers have {self.predictor.num_features} numbers, and the keys that they are "
                f"compared with {width}; end method.predictor.widths with null, which stands for the same width"
            )
        self.loss, self.views, self.momentum = loss, views, momentum

    def remarks(self, num_images: int, accumulate: int) -> list[str]:
        return accumulation_remarks(accumulate, None)

    def step(self, inputs: UInt8[Tensor, "n 3 h w"], draws: Draws) -> Step:
        views = [self.encoder.normalize(view) for view in self.views(inputs, draws)]
        features = [self.encoder.backbone(view) for view in views]
        queries = [self.predictor(self.projector(feature)) for feature in features]
        keys = [self.teacher(view) for view in views]
        loss = whole_batch_loss(self.loss, queries[0], keys[1]) + whole_batch_loss(self.loss, queries[1], keys[0])
        return Step(loss, features[0].detach(), {})

    def after_update(self) -> None:
        self.teacher.move(self.students, 1 - (1 - self.momentum) * falling(self.progress))
