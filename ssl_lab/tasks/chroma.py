"""Ways to hide the colour fringes of a lens, which tell where in a picture a patch was taken.

Each is a function of patches `(n, k, 3, h, w)` in [0, 1]; drawn for each image, `jitter` and `drop` for
each of its k patches.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_lab.draws import Draws
from ssl_lab.pixels import luma
from ssl_lab.tasks.patches import standardise

Patches = Float[Tensor, "n k 3 h w"]


def keep(patches: Patches, _: Draws) -> Patches:
    """As they are."""
    return patches


def gray(patches: Patches, draws: Draws) -> Patches:
    """Three images in ten lose their colour (Noroozi and Favaro 2016, arXiv 1603.09246, section 4.2)."""
    chosen = (draws.uniform() < 0.3).to(patches.device)
    plain = luma(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
    return torch.where(chosen.view(-1, 1, 1, 1, 1), plain, patches)


def jitter(patches: Patches, draws: Draws) -> Patches:
    """Each channel of each patch is shifted by up to 2 pixels on its own, the borders repeated (the same section)."""
    n, k, _, height, width = patches.shape
    shift = (draws.uniform(k, 3, 2) * 5).long().sub_(2).to(patches.device)
    row = (torch.arange(height, device=patches.device) + shift[..., :1]).clamp_(0, height - 1)
    column = (torch.arange(width, device=patches.device) + shift[..., 1:]).clamp_(0, width - 1)
    moved = patches.gather(3, row[..., None].expand(n, k, 3, height, width))
    return moved.gather(4, column[..., None, :].expand(n, k, 3, height, width))


def drop(patches: Patches, draws: Draws) -> Patches:
    """One channel of each patch stays, the others become noise (Doersch et al. 2015, arXiv 1505.05192).

    As in the released code each patch draws its own channel, which is given mean 1/2 and a deviation, here 1/4; the
    noise, of a hundredth of that deviation, lies around 1/2.
    """
    n, k, _, height, width = patches.shape
    kept = torch.nn.functional.one_hot((draws.uniform(k) * 3).long(), 3).bool().to(patches.device)
    noise = 0.5 + 0.0025 * draws.normal(k, 3, height, width).to(patches.device)
    return torch.where(kept.view(n, k, 3, 1, 1), standardise(patches), noise)


def project(patches: Patches, _: Draws) -> Patches:
    """The axis from green to magenta is taken out: x (I - a a^T / a^T a) with a = (-1, 2, -1) (the same section)."""
    axis = patches.new_tensor([-1.0, 2.0, -1.0]).view(3, 1, 1)
    return patches - axis * (patches * axis).sum(2, keepdim=True) / 6


CHROMA: dict[str, Callable[[Patches, Draws], Patches]] = {
    "keep": keep,
    "gray": gray,
    "jitter": jitter,
    "drop": drop,
    "project": project,
}
