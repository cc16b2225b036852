"""How were the tiles shuffled?"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_lab.draws import Draws
from ssl_lab.tasks.chroma import CHROMA
from ssl_lab.tasks.patches import cut, standardise
from ssl_lab.tasks.permutations import hamming_permutations
from ssl_lab.types import TaskBatch

SMALLEST = 4  # pixels of a tile that still shows something


class Jigsaw(nn.Module):
    """The tiles of an image in one of several orders, to be told which (Noroozi and Favaro 2016, arXiv 1603.09246).

    grid: tiles a side. permutations: how many orders there are to choose from, made from `seed` and kept with the
    weights. gap: pixels that each tile lacks of its cell, left out at a random place, so that edges do not continue.
    standardise: whether each tile gets a mean and a deviation of its own. chroma: what hides the lens' colour fringes.
    """

    whole_images = False
    table: Tensor

    def __init__(
        self,
        grid: int = 3,
        permutations: int = 100,
        gap: int = 4,
        standardise: bool = True,
        chroma: Literal["keep", "gray", "jitter", "drop", "project"] = "gray",
        seed: int = 0,
    ):
        super().__init__()
        if gap < 0:
            raise ValueError(f"method.task.gap={gap}: pixels that a tile lacks of its cell; set 0 or more")
        self.grid, self.gap, self.standardise, self.chroma = grid, gap, standardise, CHROMA[chroma]
        self.num_inputs, self.num_outputs = grid**2, permutations
        self.inputs_per_image = grid**2
        with torch.device("cpu"):
            self.register_buffer("table", hamming_permutations(grid**2, permutations, seed))

    def check(self, size: int) -> None:
        """Refuse images of `size` pixels that are too small to cut."""
        tile = size // self.grid - self.gap
        if tile < SMALLEST:
            raise ValueError(
                f"jigsaw: images of {size} px in {self.grid} x {self.grid} tiles with a gap of {self.gap} leave "
                f"{max(0, tile)} px a tile, and {SMALLEST} is the least: set data.store_size to at least "
                f"{self.grid * (SMALLEST + self.gap)}, or method.task.grid or method.task.gap to less"
            )

    def forward(self, images: Float[Tensor, "n c s s"], draws: Draws) -> TaskBatch:
        """Place j shows the tile of cell `table[target, j]`, cells counted row by row."""
        self.check(images.shape[-1])
        n, cells = len(images), self.grid**2
        cell = images.shape[-1] // self.grid
        target = (draws.uniform() * self.num_outputs).long()
        slack = (draws.uniform(cells, 2) * (self.gap + 1)).long()
        number = torch.arange(cells)
        tiles = cut(
            images,
            number // self.grid * cell + slack[..., 0],
            number % self.grid * cell + slack[..., 1],
            cell - self.gap,
        )
        tiles = self.chroma(tiles, draws)
        if self.standardise:
            tiles = standardise(tiles)
        target = target.to(images.device)
        rows = torch.arange(n, device=images.device)
        return TaskBatch(tiles[rows[:, None], self.table[target]], target, rows)
