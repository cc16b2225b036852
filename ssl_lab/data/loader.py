"""Batches in an order that only the seed and the epoch decide."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import Tensor

from ssl_lab.data.image_set import ImageSet
from ssl_lab.draws import seed_from
from ssl_lab.types import Batch


class BatchLoader:
    """Shuffled batches of an ImageSet; each process takes its contiguous rows of every global batch.

    Its length is the full epoch's. After `load_state_dict` the iterator yields the rest of the epoch. One batch is
    gathered ahead in a thread, which the state does not count. The last partial batch is dropped.

    batch_size: global, over all processes. seed: with the epoch it decides the order.
    """

    def __init__(self, images: ImageSet, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        if batch_size % world_size:
            raise ValueError(f"data.batch_size={batch_size} does not divide among {world_size} processes")
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.batches = 0  # yielded since the beginning of the run

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = divmod(self.batches, len(self))
        order = self.order(epoch)
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self.batch, order, start)
            for position in range(start, len(self)):
                batch = ahead.result()
                if position + 1 < len(self):
                    ahead = thread.submit(self.batch, order, position + 1)
                self.batches += 1
                yield batch

    def order(self, epoch: int) -> Tensor:
        """The rows of the set in the order of an epoch."""
        return self.images.shuffled(np.random.default_rng(seed_from("order", self.seed, epoch)))

    def batch(self, order: Tensor, position: int) -> Batch:
        """This process' rows of one global batch."""
        share = self.batch_size // self.world_size
        begin = position * self.batch_size + self.rank * share
        index = order[begin : begin + share]
        labels = self.images.labels
        return Batch(self.images.gather(index), {} if labels is None else {"label": labels[index]}, index)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = int(state["batches"])
