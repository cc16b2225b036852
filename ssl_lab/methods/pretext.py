"""Methods that answer a question about each image that needs no label."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.methods.base import Method
from ssl_lab.methods.compatibility import another_task, check_head, check_loss, check_sizes
from ssl_lab.methods.two_view import at_least_float32
from ssl_lab.types import Step, TaskBatch
from ssl_lab.views import Views


@runtime_checkable
class Task(Protocol):
    """What a pretext task promises; and `whole_images = False` where they are parts, which batch norm then expects."""

    num_inputs: int  # images that one answer looks at
    num_outputs: int  # answers to choose from
    inputs_per_image: int  # images that the backbone sees for each one of the batch

    def check(self, size: int) -> None: ...

    def __call__(self, images: Tensor, draws: Draws) -> TaskBatch: ...


class Pretext(Method):
    """view -> task -> backbone, one for all images of a question -> their features side by side -> head -> loss.

    task: makes the questions. head: from the width of the features and the number of answers to a module.
    loss: of answers and targets. views: augmentation before the task; the first of its views is used.
    """

    def __init__(
        self,
        task: nn.Module,  # a Task
        head: Callable[[int, int], nn.Module],
        loss: Callable[[Tensor, Tensor], Tensor],
        views: Views,
        **parts: Any,
    ):
        super().__init__(**parts)
        check_loss(loss, "targets")
        if not isinstance(task, Task):
            raise another_task(task, "rotation")
        check_head(head, dense=False)
        task.check(views.sizes[0])
        if not any(tensor.is_meta for tensor in task.state_dict().values()):  # else it is too early to ask it
            check_sizes(self.encoder.backbone, [side_of(task, views.sizes[0])])
        self.task, self.loss, self.views = task, loss, views
        self.whole_images = getattr(task, "whole_images", True)
        if not self.whole_images and views.policies[0].pad:
            raise ValueError(
                f"method.views: pad={views.policies[0].pad} puts a black border around the image, which tells where a "
                "tile or a patch was cut; set pad to 0, or method.views to a policy without, such as views=shift_flip"
            )
        self.head = head(task.num_inputs * self.encoder.num_features, task.num_outputs)
        self.views_per_image = task.inputs_per_image

    def step(self, inputs: UInt8[Tensor, "n 3 h w"], draws: Draws) -> Step:
        (images,) = self.views(inputs, draws, count=1)
        questions = self.task(images, draws)
        features = self.embed(questions.inputs)
        answers = at_least_float32(self.head(features.flatten(1)))
        with torch.autocast(inputs.device.type, enabled=False):
            loss = self.loss(answers, questions.targets)
        right = (answers.argmax(1) == questions.targets).float().mean()
        mean = per_source(features.detach().mean(1), questions.source, len(inputs))
        return Step(loss, mean, {"pretext_top1": right, "pretext_chance": right.new_tensor(1 / self.task.num_outputs)})

    def embed(self, inputs: Float[Tensor, "m k c h w"]) -> Float[Tensor, "m k d"]:
        """Features of each image of each question."""
        images = self.encoder.normalize(inputs.flatten(0, 1))
        features: Tensor = self.encoder.backbone(images)
        return features.view(*inputs.shape[:2], -1)


class RotNet(Pretext):
    """RotNet: which of four quarter turns (Gidaris, Singh, Komodakis 2018, arXiv 1803.07728); use `task=rotation`."""


class JigsawPuzzle(Pretext):
    """Jigsaw: which order of the tiles (Noroozi and Favaro 2016, arXiv 1603.09246); use `task=jigsaw`."""


class ContextPrediction(Pretext):
    """Context prediction: which neighbour (Doersch, Gupta, Efros 2015, arXiv 1505.05192); use `task=context`."""


def side_of(task: Task, size: int) -> int:
    """Pixels a side of what a task makes of images of `size` pixels: of tiles, of patches."""
    with torch.device("cpu"):  # a task draws its places, so it cannot be asked for shapes alone
        return task(torch.zeros(2, 3, size, size), Draws(seed=0, counter=0, total=2)).inputs.shape[-1]


def per_source(features: Float[Tensor, "m d"], source: Tensor, n: int) -> Float[Tensor, "{n} d"]:
    """The mean of the features that came from each of n images."""
    total = features.new_zeros(n, features.shape[1]).index_add_(0, source, features)
    count = features.new_zeros(n).index_add_(0, source, features.new_ones(len(source)))  # bincount makes a GPU wait
    return total / count.clamp(min=1)[:, None]
