"""Linear maps of images that treat rows and columns apart: cropping, resizing, flipping and blurring are all of them.

Every sample has its own pair of matrices, so a batch with other parameters in each row is still two matrix products.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def separable(
    images: Float[Tensor, "n c h w"], vertical: Float[Tensor, "n p h"], horizontal: Float[Tensor, "n q w"]
) -> Float[Tensor, "n c p q"]:
    """vertical @ image @ horizontalᵀ for each sample and channel."""
    n, c, h, w = images.shape
    across = torch.bmm(images.reshape(n, c * h, w), horizontal.mT).view(n, c, h, -1)
    planes = images.new_empty(c, n, vertical.shape[1], horizontal.shape[1])  # bmm writes fast into whole blocks only
    for channel, plane in enumerate(planes):  # a broadcast matmul would first copy `vertical` for each channel
        torch.bmm(vertical, across[:, channel], out=plane)
    return planes.transpose(0, 1)
