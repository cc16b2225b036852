"""Which way is up?"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.types import TaskBatch


class Rotation(nn.Module):
    """All four quarter turns of every image, to be told apart (RotNet: Gidaris et al. 2018, arXiv 1803.07728).

    The turns come after all augmentation, and only move pixels: a flip or a crop behind them would make 90 and 270
    degrees the same, or leave black corners that give the answer away.
    """

    num_inputs, num_outputs = 1, 4
    inputs_per_image = 4
    whole_images = True

    def check(self, size: int) -> None:
        """Every square will do."""

    def forward(self, images: Float[Tensor, "n c h w"], draws: Draws) -> TaskBatch:
        """The images turned by 0, then all by 90, 180 and 270 degrees counter-clockwise; draws nothing."""
        height, width = images.shape[-2:]
        if height != width:
            raise ValueError(
                f"rotation: got images of {height} x {width}; a quarter turn needs squares: crop them first"
            )
        n = len(images)
        turned = torch.cat([images.rot90(turns, (2, 3)) for turns in range(4)])
        rows = torch.arange(4 * n, device=images.device)
        return TaskBatch(turned[:, None], rows // n, rows % n)
