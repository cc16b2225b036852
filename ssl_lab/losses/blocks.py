"""What losses over large similarity matrices share: powers of 2 and products of long rows."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LOG2_E = math.log2(math.e)


def fits_unshifted(temperature: float, dtype: torch.dtype) -> bool:
    """Whether exp(±1 / T) takes at most half of the dtype's exponents, the rest being for sums and their inverses.

    Then nothing has to be subtracted before the exponential. In float32 that is so from T = 0.0226 on.
    """
    return LOG2_E / temperature <= math.log2(torch.finfo(dtype).max) / 2


def product(a: Float[Tensor, "r k"], b: Float[Tensor, "k c"]) -> Float[Tensor, "r c"]:
    """a b for a long k; on a CPU as a convolution of width 1, with b's rows as channels and a's as filters.

    Torch gives float32 convolutions to oneDNN but matrix products to MKL, which takes up to twice the time on AMD.
    """
    if a.device.type == "cpu" and a.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return F.conv1d(b[None], a[:, :, None])[0]
    return a @ b


def refuse_second_derivative(name: str) -> None:
    """In a backward pass that autograd is to differentiate again: it would find nothing to differentiate, silently.

    torch's once_differentiable would let this pass: it looks at the incoming gradient, not at what was saved.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(f"{name}: got create_graph=True, has only a first derivative: leave create_graph out")
