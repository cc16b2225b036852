"""Methods that answer a question at every pixel."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab import pixels
from ssl_lab.draws import Draws
from ssl_lab.methods.base import Method
from ssl_lab.methods.compatibility import Kind, another_task, check_head, check_loss, check_sizes
from ssl_lab.methods.two_view import at_least_float32
from ssl_lab.tasks import Palette
from ssl_lab.types import Step, TaskBatch
from ssl_lab.views import Views


@runtime_checkable
class DenseTask(Protocol):
    """What a task with an answer at every pixel promises; and `whole_images = False` where images have holes."""

    num_outputs: int  # numbers that make one answer
    stride: int  # pixels of the image between two answers

    def check(self, size: int) -> None: ...

    def __call__(self, images: Tensor, draws: Draws) -> TaskBatch: ...


class Dense(Method):
    """view -> task -> the backbone's stages -> head -> loss at every pixel.

    task: makes the questions. head: from the stages' channels and strides, the numbers an answer has and its stride, to
    a module of the stages' maps. loss: of answers, targets and weights of the pixels. views: augmentation before the
    task; the first of its views is used. palette: the targets as classes, for a loss that compares distributions; one
    that compares values leaves it aside.
    """

    option = "inpainting"  # a task that it answers

    def __init__(
        self,
        task: nn.Module,  # a DenseTask
        head: Callable[..., nn.Module],
        loss: Callable[..., Tensor],
        views: Views,
        palette: Palette | None = None,
        **parts: Any,
    ):
        super().__init__(**parts)
        self.kind: Kind = check_loss(loss, "distribution", "values") if palette else check_loss(loss, "values")
        if not (isinstance(task, DenseTask) and self.answers_to(task)):
            raise another_task(task, self.option)
        check_head(head, dense=True)
        task.check(views.sizes[0])
        check_sizes(self.encoder.backbone, views.sizes[:1])
        self.task, self.loss, self.views = task, loss, views
        self.whole_images = getattr(task, "whole_images", True)
        self.palette = palette if self.kind == "distribution" else None
        num_outputs = task.num_outputs if self.palette is None else len(self.palette)
        backbone: Any = self.encoder.backbone
        self.head = head(backbone.stage_channels, backbone.stage_strides, num_outputs, task.stride)
        train_stages_alone(backbone, views.sizes[0])

    def answers_to(self, task: DenseTask) -> bool:
        """Whether a task asks what this method answers."""
        return True

    def step(self, inputs: UInt8[Tensor, "n 3 h w"], draws: Draws) -> Step:
        (images,) = self.views(inputs, draws, count=1)
        questions = self.task(images, draws)
        targets, weights = self.targets(questions)
        features, answers = self.answer(questions)
        with torch.autocast(inputs.device.type, enabled=False):
            loss = self.loss(answers, targets, weights)
        return Step(loss, features.detach(), score(self.kind, answers.detach(), targets, weights))

    def answer(self, questions: TaskBatch) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n o h w"]]:
        """The features, and what the head makes of the stages' maps."""
        maps = self.encoder.backbone.stages(self.encoder.normalize(questions.inputs[:, 0]))  # type: ignore[operator]  # a Backbone
        return maps[-1].mean((2, 3)), at_least_float32(self.head(maps, *questions.targets.shape[-2:]))

    def targets(self, questions: TaskBatch) -> tuple[Float[Tensor, "n o h w"], Float[Tensor, "n 1 h w"]]:
        """What the loss compares answers with, and how much each pixel counts."""
        return questions.targets, pixel_weights(questions)

    @torch.no_grad()
    def preview(self, inputs: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n p 3 h w"]:
        """What is shown, what is answered, and what was there, side by side, in [0, 1]; the same draws every time."""
        was_training = self.training
        self.eval()
        size = self.views.sizes[0]
        images = pixels.centre_crop(pixels.resize_short(pixels.to_float(inputs), size), size)
        questions = self.task(images, Draws(self.seed, 0, total=len(images)))
        shown = self.paint(images, questions, self.answer(questions)[1])
        self.train(was_training)
        return torch.stack([*shown, images], 1).clamp(0, 1)

    def paint(self, images: Tensor, questions: TaskBatch, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures of the questions and of the answers."""
        raise NotImplementedError


def train_stages_alone(backbone: Any, size: int) -> None:
    """Freeze what lies behind the last stage, which a dense method does not reach: a norm, an affine map as it begins.

    Raises ValueError where that is a layer with weights, since the features would pass through it untrained.
    """
    twin = deepcopy(backbone).to("meta")  # shapes alone: this costs nothing
    names, tensors = zip(*((name, p) for name, p in twin.named_parameters() if p.requires_grad), strict=True)
    with torch.enable_grad():
        reached = sum(stage.sum() for stage in twin.stages(torch.empty(2, 3, size, size, device="meta")))
    gradients = torch.autograd.grad(reached, tensors, allow_unused=True)
    behind = [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]
    if weights := [name for name in behind if twin.get_parameter(name).ndim > 1]:
        raise ValueError(
            f"method.backbone: {', '.join(weights)} lies behind its last stage, where this method trains nothing; "
            "choose a backbone whose features are its last stage, such as resnet18 or convnet"
        )
    for name in behind:
        backbone.get_parameter(name).requires_grad_(False)


class ContextEncoder(Dense):
    """Inpainting: what was in the hole (context encoders: Pathak et al. 2016, arXiv 1604.07379, without the adversary).

    The loss compares in the backbone's units, so that answering the mean colour costs about 1. Use `task=inpainting`.
    """

    def answers_to(self, task: DenseTask) -> bool:
        """The three channels of the image."""
        return task.num_outputs == 3

    def targets(self, questions: TaskBatch) -> tuple[Float[Tensor, "n o h w"], Float[Tensor, "n 1 h w"]]:
        return at_least_float32(self.encoder.normalize(questions.targets)), pixel_weights(questions)

    def paint(self, images: Tensor, questions: TaskBatch, answers: Tensor) -> tuple[Tensor, Tensor]:
        mean = images.new_tensor(self.encoder.mean).view(-1, 1, 1)
        std = images.new_tensor(self.encoder.std).view(-1, 1, 1)
        return questions.inputs[:, 0], torch.where(pixel_weights(questions) > 0, answers * std + mean, images)


class Colorization(Dense):
    """Colorization: what colours the picture had (Zhang et al. 2016, arXiv 1603.08511); use `task=colorization`.

    The encoder sees lightness alone, here and in evaluation. With `loss=squared_error` the two numbers a and b are told
    instead of classes of the palette, in units of 25.
    """

    option = "colorization"
    unit = 25.0  # of ab: about their deviation in photographs

    def __init__(self, preprocessing: dict[str, Any], **parts: Any):
        super().__init__(preprocessing={**preprocessing, "color": "lightness"}, **parts)

    def answers_to(self, task: DenseTask) -> bool:
        """The ab of the image; `colours` is beyond what a DenseTask promises."""
        return hasattr(task, "colours")

    def prepare(self, images: UInt8[Tensor, "n 3 h w"]) -> None:
        """Also weigh the colours by how rare they are. Raises ValueError when the images have none."""
        super().prepare(images)
        task: Any = self.task
        ab = torch.cat([task.colours(pixels.to_float(part)) for part in images.split(512)])
        mean = float(ab.norm(dim=1).mean())
        if mean < 1:
            raise ValueError(
                f"method=colorization: the images are gray (mean chroma {mean:.2f}), so there is no colour to tell; "
                "choose data with colours, or another method, such as method=rotation"
            )
        if self.palette is not None:
            self.palette.fit(ab)

    def targets(self, questions: TaskBatch) -> tuple[Float[Tensor, "n o h w"], Float[Tensor, "n 1 h w"]]:
        if self.palette is not None:
            return self.palette.encode(questions.targets)
        return questions.targets / self.unit, pixel_weights(questions)

    def paint(self, images: Tensor, questions: TaskBatch, answers: Tensor) -> tuple[Tensor, Tensor]:
        light = pixels.lightness(images)
        ab = answers * self.unit if self.palette is None else self.palette.decode(answers)
        ab = F.interpolate(ab, light.shape[-2:], mode="bilinear", align_corners=False)
        return (light / 100).expand_as(images), pixels.rgb(torch.cat([light, ab], 1))


def pixel_weights(questions: TaskBatch) -> Float[Tensor, "n 1 h w"]:
    """How much each pixel counts; all alike where the task does not say."""
    return torch.ones_like(questions.targets[:, :1]) if questions.weights is None else questions.weights


def score(kind: Kind, answers: Tensor, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """How well the question is answered, beside what a constant answer would get; a pixel counts by its weight.

    Distributions: share of pixels whose likeliest class is right, and share of the class that makes up the most.
    Values: the squared error, and that of the targets' mean.
    """
    if kind == "distribution":
        classes, counts = targets.argmax(1).flatten(), weights.flatten()
        most = counts.new_zeros(targets.shape[1]).index_add_(0, classes, counts).max()
        right = (counts * (answers.argmax(1).flatten() == classes)).sum()
        return {"pretext_top1": right / counts.sum(), "pretext_chance": most / counts.sum()}
    mean = (targets * weights).mean((0, 2, 3), keepdim=True)
    errors = [((values - targets).square() * weights).mean() for values in (answers, mean)]
    return {"pretext_error": errors[0], "pretext_chance": errors[1]}
