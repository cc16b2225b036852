"""What a representation looks like without labels: pure functions of features, spectra in float64.

None of them is accuracy. RankMe compares runs of one method, not methods (arXiv 2210.02885); alignment and uniformity
describe the features that a contrastive loss works on; a deviation that is not near zero says that features have not
collapsed, and no more.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ssl_lab.draws import Draws
from ssl_lab.evaluation.subject import Subject
from ssl_lab.evaluation.training import autocast, features, side
from ssl_lab.types import Result
from ssl_lab.views import Policy, Views


def health(subject: Subject, images: int = 2048, views: int = 4, scale: Sequence[float] = (0.3, 1.0)) -> Result:
    """RankMe, alpha-ReQ, uniformity and deviation of clean test images, alignment and LiDAR of crops and flips of them.

    images: of the test set, evenly spaced; a quarter of them for what reads `views` views each. scale: share of the
    image a crop takes. Needs no labels, and says nothing of accuracy.
    """
    test = subject.sets.test
    rows = torch.linspace(0, len(test) - 1, min(images, len(test)), dtype=torch.float64).long()
    clean = subject.features(test)[rows.to(subject.device)]
    few = rows[::4] if len(rows) >= 64 else rows
    size = side(subject.encoder, test)
    policy = Views([Policy(size=size, scale=(scale[0], scale[1]), flip=0.5)], count=views)
    made = policy(test.gather(few).to(subject.device), Draws(0, 0, total=len(few)))
    subject.encoder.eval()  # views go through it as clean images do, and leave batch norm's statistics as they are
    with torch.inference_mode(), autocast(subject.device, subject.precision):
        several = torch.stack(
            [torch.cat([features(subject.encoder, part).float() for part in view.split(256)]) for view in made], 1
        )
    settings = {"images": len(rows), "views": views, "images_with_views": len(few), "scale": list(scale)}
    return Result(measures(clean, several), settings | {"layer": "features"}, ())


def measures(clean: Float[Tensor, "n d"], several: Float[Tensor, "m q d"]) -> dict[str, float]:
    """Every figure of this module, of features of clean images and of several views each."""
    if not (torch.isfinite(clean).all() and torch.isfinite(several).all()):  # which spectra refuse
        return dict.fromkeys(("rankme", "alpha_req", "uniformity", "deviation", "alignment", "lidar"), float("nan"))
    return {
        "rankme": rankme(clean),
        "alpha_req": alpha_req(clean),
        "uniformity": uniformity(clean),
        "deviation": deviation(clean),
        "alignment": alignment(several),
        "lidar": lidar(several),
    }


def rankme(features: Float[Tensor, "n d"], epsilon: float = 1e-7) -> float:
    """The effective rank, from 1 to min(n, d): exp of the entropy of the singular values (Garrido et al. 2023).

    p_k = s_k / sum s + epsilon, of the raw features, not centred (arXiv 2210.02885, eq. 2, with 25,600 rows).
    """
    return _effective_rank(torch.linalg.svdvals(features.double()), epsilon)


def alpha_req(features: Float[Tensor, "n d"], first: int = 3, last: int = 100) -> float:
    """How fast the covariance's eigenvalues fall: alpha of lambda_j ~ j^-alpha (Agrawal et al. 2022, NeurIPS).

    The least-squares slope of log eigenvalue over log rank, between ranks `first` and `last` as in the authors' code.
    NaN where fewer than two positive eigenvalues lie there.
    """
    centred = features.double() - features.double().mean(0)
    values = torch.linalg.svdvals(centred).square() / max(1, len(features) - 1)
    values = values[first - 1 : min(last, len(features) - 1)]
    values = values[values > values.max() * 1e-12] if len(values) else values
    if len(values) < 2:
        return float("nan")
    x = torch.arange(first, first + len(values), dtype=torch.float64, device=values.device).log()
    y = values.log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def lidar(features: Float[Tensor, "n q d"], delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    """The effective rank of what tells images apart, seen against their views (Thilak et al. 2024, arXiv 2312.04000).

    features: q >= 2 views of each of n images. exp of the entropy of the eigenvalues of Sw^-1/2 Sb Sw^-1/2, where Sb is
    the covariance of the images' means and Sw that of the views around them, plus delta times the identity.
    """
    x = features.double()
    n, q, d = x.shape
    means = x.mean(1)
    around = (x - means[:, None]).flatten(0, 1)
    between = means - means.mean(0)
    within = around.T @ around / (n * (q - 1)) + delta * torch.eye(d, dtype=x.dtype, device=x.device)
    values, vectors = torch.linalg.eigh(within)
    whitened = between @ (vectors / values.sqrt())
    return _effective_rank(torch.linalg.svdvals(whitened).square() / (n - 1), epsilon)


def alignment(features: Float[Tensor, "n q d"]) -> float:
    """Mean squared distance of two views of an image, normalised: 0 to 4 (Wang, Isola 2020, arXiv 2005.10242)."""
    first, second = normalize(features[:, 0].double(), dim=1), normalize(features[:, 1].double(), dim=1)
    return float((first - second).square().sum(1).mean())


def uniformity(features: Float[Tensor, "n d"], t: float = 2.0) -> float:
    """log of the mean of exp(-t |x - y|^2) over pairs of normalised rows: 0 when collapsed, -2 t at the least."""
    squared = torch.pdist(normalize(features.double(), dim=1)).square()
    return float(torch.logsumexp(-t * squared, 0) - torch.tensor(len(squared), dtype=torch.float64).log())


def deviation(features: Float[Tensor, "n d"]) -> float:
    """Mean over dimensions of the deviation of normalised features, times sqrt(d): near 1 when spread, 0 collapsed."""
    rows = normalize(features.double(), dim=1)
    return float(rows.std(0, correction=0).mean() * rows.shape[1] ** 0.5)


def _effective_rank(values: Tensor, epsilon: float) -> float:
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))
