"""What a step of a method costs."""

from copy import deepcopy

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ssl_lab.draws import Draws
from ssl_lab.methods.base import Method


def flops_per_image(method: Method, images: Tensor, batch_size: int) -> float:
    """Floating-point operations of a training step, forward and backward, for each image of the batch.

    Counted by running one step of a copy on a few images; a multiplication and an addition are two operations. Where a
    microbatch is less than `batch_size`, that of all processes, the batch passes once more, and so do these few.
    """
    twin = deepcopy(method).to("cpu", torch.float32)
    if twin.microbatch is not None:
        twin.microbatch = len(images) // 2 if twin.microbatch < batch_size else None
    counter = FlopCounterMode(display=False)
    with counter:
        twin.step(images, Draws(seed=0, counter=0, total=len(images))).loss.backward()
    return counter.get_total_flops() / len(images)
