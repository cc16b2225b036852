"""Keys of earlier batches."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Queue(nn.Module):
    """First in, first out: the last `size` keys, each of length 1, whatever the batch (MoCo, arXiv 1911.05722).

    Starts with random directions, which are far from every image. Read `keys` first, then `push`: a key that waits in
    the queue while its own query is scored would be that query's negative.
    """

    keys: Tensor
    position: Tensor

    def __init__(self, size: int, width: int):
        super().__init__()
        if size < 1:
            raise ValueError(
                f"method.queue_size={size}: a queue holds at least 1 key; MoCo's is 65536, on CIFAR-10 4096"
            )
        self.register_buffer("keys", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return len(self.keys)

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "n d"]) -> None:
        """Write a batch over the oldest keys, in place; of more keys than there is room for, the last stay."""
        size = len(self)
        kept = F.normalize(keys.to(self.keys), dim=1)[-size:]
        first = self.position + len(keys) - len(kept)
        self.keys[(first + torch.arange(len(kept), device=self.keys.device)) % size] = kept
        self.position.copy_((self.position + len(keys)) % size)
