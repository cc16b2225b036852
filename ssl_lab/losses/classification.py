"""The loss of pretext tasks that ask which."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def cross_entropy(
    outputs: Float[Tensor, "m o"], targets: Int[Tensor, " m"], smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Mean of -log softmax(outputs)[target]; `smoothing` moves that share of the target to all classes alike."""
    return F.cross_entropy(outputs, targets, label_smoothing=smoothing)
