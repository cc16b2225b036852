"""What colours did the picture have?"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssl_lab import pixels
from ssl_lab.draws import Draws
from ssl_lab.types import TaskBatch


class Coloring(nn.Module):
    """The ab of every image, averaged over squares of `stride` pixels, to be told from its lightness.

    Zhang, Isola, Efros 2016 (arXiv 1603.08511) answer at a quarter of the size. The images are handed over in colour:
    the Encoder is what sees lightness alone, here and in evaluation.
    """

    num_outputs = 2
    whole_images = True

    def __init__(self, stride: int = 4):
        super().__init__()
        if stride < 1:
            raise ValueError(f"method.task.stride={stride}: set 1 or more pixels")
        self.stride = stride

    def check(self, size: int) -> None:
        """Refuse images that do not divide into squares."""
        if size % self.stride:
            raise ValueError(
                f"method.task.stride={self.stride}: images of {size} px do not divide into squares of so many; "
                "set a divisor, or another data.store_size"
            )

    def forward(self, images: Float[Tensor, "n 3 s s"], draws: Draws) -> TaskBatch:
        """The images, and their ab; draws nothing."""
        return TaskBatch(images[:, None], self.colours(images), torch.arange(len(images), device=images.device))

    def colours(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 2 h w"]:
        """The averaged ab of images."""
        return F.avg_pool2d(pixels.chroma(images), self.stride)
