"""Many patches of an image agree, and the images spread over all directions."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def emp_ssl(
    z1: Float[Tensor, "n d"], *others: Float[Tensor, "n d"], similarity: float = 200.0, epsilon: float = 0.2
) -> Float[Tensor, ""]:
    """Extreme-Multi-Patch learning (Tong, Chen, Ma, LeCun 2023, arXiv 2304.03977, eq. 5).

        loss = - mean_k R(Z_k) - similarity x mean_k cos(Z_k, mean_j Z_j)

    over any number of patches k, each with normalised projections Z_k of the whole batch, and R = `coding_rate`.
    Weights and epsilon are the released code's, which divides by epsilon where the paper has its square.
    """
    patches = torch.stack([F.normalize(z, dim=1) for z in (z1, *others)])  # k, n, d
    agreement = F.cosine_similarity(patches, patches.mean(0, keepdim=True), dim=2).mean()
    rate = torch.stack([coding_rate(z, epsilon) for z in patches]).mean()
    return -rate - similarity * agreement


def coding_rate(z: Float[Tensor, "n d"], epsilon: float = 0.2) -> Float[Tensor, ""]:
    """How much room the rows take: 1/2 logdet(I + d / (n epsilon) Z^T Z) (Yu et al. 2020, arXiv 2006.08558).

    Of Z Z^T where that is smaller: both have the same determinant. Raises ValueError for an epsilon of 0 or below.
    """
    if epsilon <= 0:
        raise ValueError(f"method.loss.epsilon={epsilon} divides the rate: set it above 0, such as 0.2")
    n, d = z.shape
    gram = z @ z.T if n < d else z.T @ z
    identity = torch.eye(len(gram), dtype=z.dtype, device=z.device)
    rate: Tensor = torch.linalg.slogdet(identity + d / (n * epsilon) * gram)[1] / 2
    return rate
