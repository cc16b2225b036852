"""What any encoder has to beat: features without learning, under the same protocols."""

import torch
from jaxtyping import Float, UInt8
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from ssl_lab import pixels


class RawPixels(nn.Module):
    """The image itself, flattened."""

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return pixels.to_float(images).flatten(1)


class ColorStatistics(nn.Module):
    """Mean and standard deviation of each colour channel: six numbers."""

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 6"]:
        flat = pixels.to_float(images).flatten(2)
        return torch.cat([flat.mean(2), flat.std(2)], 1)


class KMeansFeatures(nn.Module):
    """One layer of centroids of whitened patches (Coates, Lee, Ng 2011, AISTATS), fitted without labels.

    Patches of `patch` pixels are normalised and ZCA-whitened; f_k = max(0, mean distance - distance to centroid k),
    averaged over each quarter of the image: 4 x `centroids` features. The paper has 4,000 centroids, and 79.6 % on
    CIFAR-10.
    """

    mean: Tensor
    whitening: Tensor
    centres: Tensor

    def __init__(self, centroids: int = 400, patch: int = 6, epsilon: float = 0.1, seed: int = 0):
        super().__init__()
        self.centroids, self.patch, self.epsilon, self.seed = centroids, patch, epsilon, seed
        d = 3 * patch**2
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("whitening", torch.eye(d))
        self.register_buffer("centres", torch.zeros(centroids, d))

    def fit(self, images: UInt8[Tensor, "n 3 h w"], patches: int = 200_000) -> None:
        """Set whitening and centroids from some thousand images."""
        draw = torch.Generator().manual_seed(self.seed)
        n, _, h, w = images.shape
        places = (n, h - self.patch + 1, w - self.patch + 1)
        row, top, left = (torch.randint(0, count, (patches,), generator=draw) for count in places)
        steps = torch.arange(self.patch)
        rows, columns = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]
        found = images[row[:, None, None], :, rows, columns].movedim(-1, 1)
        x = self._normalised(found.flatten(1).float())
        self.mean.copy_(x.mean(0))
        values, vectors = torch.linalg.eigh(torch.cov(x.double().T))
        self.whitening.copy_(vectors @ torch.diag((values.clamp_min(0) + self.epsilon).rsqrt()) @ vectors.T)
        white = ((x - self.mean) @ self.whitening).numpy()
        found_centres = MiniBatchKMeans(self.centroids, batch_size=4096, n_init=1, random_state=self.seed).fit(white)
        self.centres.copy_(torch.from_numpy(found_centres.cluster_centers_))

    def _normalised(self, patches: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Zero mean, and unit variance but for flat patches: bytes, with the paper's constant of 10."""
        return (patches - patches.mean(1, keepdim=True)) / (patches.var(1, keepdim=True) + 10).sqrt()

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self._features(part) for part in images.split(8)])  # what stays in the cache

    def _features(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        n, _, h, w = images.shape
        columns = nn.functional.unfold(images.float(), self.patch).transpose(1, 2)
        white = (self._normalised(columns.flatten(0, 1)) - self.mean) @ self.whitening
        distance = torch.cdist(white, self.centres)
        active = torch.sub(distance.mean(1, keepdim=True), distance, out=distance).clamp_min_(0)
        grid = active.view(n, h - self.patch + 1, w - self.patch + 1, -1).permute(0, 3, 1, 2)
        quarters = nn.functional.adaptive_avg_pool2d(grid, 2)  # the mean: sums in units that do not grow with the size
        return quarters.flatten(1)
