"""Colours as classes."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_lab import pixels


class Palette(nn.Module):
    """The colours a screen can show, as bins of the ab plane (Zhang, Isola, Efros 2016, arXiv 1603.08511, section 2).

    grid: distance of the bins' centres, in units of ab. neighbours, sigma: a colour is spread over so many nearest
    bins, by a Gaussian of their distance. uniform: lambda of the rebalancing, the share of the uniform distribution in
    the one that weights are inverse to. temperature: of the annealed mean that makes colours of answers.
    """

    bins: Tensor
    rarity: Tensor

    def __init__(
        self,
        grid: int = 10,
        neighbours: int = 5,
        sigma: float = 5.0,
        uniform: float = 0.5,
        temperature: float = 0.38,
    ):
        super().__init__()
        if not (grid >= 1 and neighbours >= 1 and sigma > 0 and 0 < uniform <= 1 and temperature > 0):
            raise ValueError(
                f"palette: grid={grid}, neighbours={neighbours}, sigma={sigma}, uniform={uniform}, temperature="
                f"{temperature}; allowed: grid and neighbours >= 1, sigma and temperature > 0, 0 < uniform <= 1"
            )
        centres = gamut_bins(grid)
        self.neighbours, self.sigma = min(neighbours, len(centres)), sigma
        self.uniform, self.temperature = uniform, temperature
        self.register_buffer("bins", torch.tensor(centres, dtype=torch.float32))
        self.register_buffer("rarity", torch.ones(len(centres)))

    def __len__(self) -> int:
        return len(self.bins)

    @torch.no_grad()
    def fit(self, ab: Float[Tensor, "n 2 h w"]) -> None:
        """Weigh the bins by how rare their colours are: w ~ 1 / ((1 - uniform) p + uniform / q), with E_p[w] = 1.

        p is the distribution of `ab` over the bins, smoothed by a Gaussian of `sigma`.
        """
        colours = ab.movedim(1, -1).reshape(-1, 2).to(self.bins)
        nearest = torch.cat([torch.cdist(part, self.bins).argmin(1) for part in colours.split(1 << 16)])
        found = torch.bincount(nearest, minlength=len(self)).double() / len(nearest)
        spread = self._kernel(torch.cdist(self.bins, self.bins)).double()
        smoothed = (spread / spread.sum(0)) @ found
        weights = 1 / ((1 - self.uniform) * smoothed + self.uniform / len(self))
        self.rarity.copy_(weights / (smoothed * weights).sum())

    def encode(self, ab: Float[Tensor, "n 2 h w"]) -> tuple[Float[Tensor, "n q h w"], Float[Tensor, "n 1 h w"]]:
        """Colours as distributions over the bins, and the weight of each pixel: that of its nearest bin."""
        colours = ab.movedim(1, -1)
        distance, nearest = torch.cdist(colours.flatten(0, 2), self.bins).topk(self.neighbours, largest=False)
        shares = self._kernel(distance)
        shares = shares / shares.sum(1, keepdim=True)
        spread = shares.new_zeros(len(shares), len(self)).scatter_(1, nearest, shares)
        n, h, w = colours.shape[:3]
        return spread.view(n, h, w, -1).movedim(-1, 1), self.rarity[nearest[:, 0]].view(n, 1, h, w)

    def decode(self, logits: Float[Tensor, "n q h w"]) -> Float[Tensor, "n 2 h w"]:
        """The annealed mean: of the bins under softmax(logits / T); T = 1 is the mean, T to 0 the mode."""
        shares = (logits.to(self.bins) / self.temperature).softmax(1)
        return torch.einsum("nqhw,qc->nchw", shares, self.bins)

    def _kernel(self, distance: Tensor) -> Tensor:
        return torch.exp(-(distance**2) / (2 * self.sigma**2))


@cache
def gamut_bins(grid: int) -> tuple[tuple[float, float], ...]:
    """Points of a square lattice on the ab plane that are the nearest to some sRGB colour; 261 of them at grid 10.

    The paper counts 313, by a rule that it does not give and that nothing we know reproduces. The six faces of the
    RGB cube suffice: through every colour inside, the line of its a and b leaves the cube at a face.
    """
    levels = torch.linspace(0, 1, 256, device="cpu")
    first, second = torch.meshgrid(levels, levels, indexing="ij")
    found = set()
    for channel in range(3):
        for value in (0.0, 1.0):
            face = [first, second]
            face.insert(channel, torch.full_like(first, value))
            ab = pixels.chroma(torch.stack(face)[None])[0].flatten(1).T
            found |= {tuple(point) for point in np.unique((ab / grid).round().numpy(), axis=0).tolist()}
    return tuple(sorted((grid * a + 0.0, grid * b + 0.0) for a, b in found))
