"""Where does the second patch lie?"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.pixels import resize
from ssl_lab.tasks.chroma import CHROMA
from ssl_lab.tasks.patches import cut
from ssl_lab.types import TaskBatch

# Row and column of the eight neighbours around the middle of a 3 x 3 grid.
NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2))


class Context(nn.Module):
    """A patch and one of its eight neighbours, to be told which (Doersch, Gupta, Efros 2015, arXiv 1505.05192).

    patch: side in pixels. gap: pixels between neighbours. jitter: pixels that each patch moves by at most, either way.
    size: side that the patches are resized to, for backbones that halve often. chroma: what hides the lens' fringes.
    The 3 x 3 grid lies anywhere in the image that it fits. The paper also makes some patches smaller and larger
    again, against pixelation; this does not.
    """

    num_inputs, num_outputs = 2, 8
    inputs_per_image = 2
    whole_images = False

    def __init__(
        self,
        patch: int = 8,
        gap: int = 2,
        jitter: int = 1,
        size: int = 16,
        chroma: Literal["keep", "gray", "jitter", "drop", "project"] = "drop",
    ):
        super().__init__()
        if not (patch >= 1 and gap >= 0 and jitter >= 0 and size >= 1):
            raise ValueError(f"context: patch={patch}, gap={gap}, jitter={jitter}, size={size} must not be negative")
        self.patch, self.gap, self.jitter, self.size, self.chroma = patch, gap, jitter, size, CHROMA[chroma]

    @property
    def extent(self) -> int:
        """Pixels that the grid takes, jitter included."""
        return 3 * self.patch + 2 * self.gap + 2 * self.jitter

    def check(self, size: int) -> None:
        """Refuse images of `size` pixels that the grid does not fit."""
        if self.extent > size:
            raise ValueError(
                f"context: three patches of {self.patch} px with gaps of {self.gap} and a jitter of {self.jitter} need "
                f"{self.extent} px, and the images have {size}: set method.task.patch or method.task.gap to less, or "
                "data.store_size to more"
            )

    def forward(self, images: Float[Tensor, "n c s s"], draws: Draws) -> TaskBatch:
        """The middle patch, then its neighbour; `NEIGHBOURS[target]` says which."""
        self.check(images.shape[-1])
        target = (draws.uniform() * 8).long()
        corner = (draws.uniform(1, 2) * (images.shape[-1] - self.extent + 1)).long()
        moved = (draws.uniform(2, 2) * (2 * self.jitter + 1)).long()
        place = torch.stack([torch.ones(len(target), 2, dtype=torch.long), torch.tensor(NEIGHBOURS)[target]], 1)
        start = corner + moved + place * (self.patch + self.gap)
        patches = self.chroma(cut(images, start[..., 0], start[..., 1], self.patch), draws)
        resized = resize(patches.flatten(0, 1), self.size, self.size).unflatten(0, patches.shape[:2])
        rows = torch.arange(len(images), device=images.device)
        return TaskBatch(resized, target.to(images.device), rows)
