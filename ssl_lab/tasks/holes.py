"""What was where the hole is?"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.types import TaskBatch


class Holes(nn.Module):
    """Images with holes, to be filled (context encoders: Pathak et al. 2016, arXiv 1604.07379, without the adversary).

    regions: square holes of an image, which may overlap. fraction: of the image that they take together, at most.
    place: "anywhere", or "centre" for one hole in the middle. fill: value that stands in a hole, in [0, 1].
    """

    num_outputs = 3
    stride = 1
    whole_images = False

    def __init__(
        self,
        regions: int = 1,
        fraction: float = 0.25,
        place: Literal["anywhere", "centre"] = "anywhere",
        fill: float = 0.5,
    ):
        super().__init__()
        if regions < 1 or not 0 < fraction < 1 or (place == "centre" and regions > 1):
            raise ValueError(
                f"holes: regions={regions}, fraction={fraction}, place={place}; allowed: regions >= 1, one in the "
                "centre, and a fraction between 0 and 1"
            )
        self.regions, self.fraction, self.place, self.fill = regions, fraction, place, fill

    def side(self, size: int) -> int:
        """Side of a hole in images of `size` pixels."""
        return round(size * math.sqrt(self.fraction / self.regions))

    def check(self, size: int) -> None:
        """Refuse images too small for a hole, or for anything beside it."""
        if self.side(size) < 1:
            raise ValueError(
                f"holes: regions={self.regions} of fraction={self.fraction} leave no pixel in images of {size} px; "
                "set method.task.fraction to more, or method.task.regions to less"
            )
        if self.side(size) >= size:
            raise ValueError(
                f"holes: fraction={self.fraction} leaves nothing of images of {size} px to answer from; set "
                "method.task.fraction to less"
            )

    def forward(self, images: Float[Tensor, "n c s s"], draws: Draws) -> TaskBatch:
        """Images with holes, the images, and weights that are zero outside the holes and have mean 1 in each image."""
        hole = self.cut(images.shape[-1], draws).to(images.device)
        weights = hole / hole.float().mean((1, 2, 3), keepdim=True)
        rows = torch.arange(len(images), device=images.device)
        return TaskBatch(torch.where(hole, self.fill, images)[:, None], images, rows, weights.to(images.dtype))

    def cut(self, size: int, draws: Draws) -> Bool[Tensor, "n 1 s s"]:
        """True where the holes are."""
        side = self.side(size)
        room = size - side
        start = (draws.uniform(self.regions, 2) * (room + 1)).long()
        if self.place == "centre":
            start = torch.full_like(start, room // 2)
        line = torch.arange(size, device=start.device)
        inside = (line >= start[..., None]) & (line < start[..., None] + side)  # (n, regions, 2, s)
        return (inside[:, :, 0, :, None] & inside[:, :, 1, None, :]).any(1, keepdim=True)
