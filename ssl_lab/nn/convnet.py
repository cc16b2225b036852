"""The small-image network for few cores."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConvNet(nn.Module):
    """A frozen whitening stem and blocks of two 3x3 convolutions, after airbench94 (Jordan 2024, arXiv 2404.00498).

    The 2x2 stem projects each patch of pixels onto the eigenvectors of the patches' covariance, scaled to unit
    variance, with both signs (so 24 channels); `fit` computes it once from unlabelled images. Then, for each width:
    convolution, max-pool by 2, batch norm, GELU, convolution, batch norm, GELU. The features are the average of the
    last map over space.

    widths: channels of the blocks.
    epsilon: added to the eigenvalues of the whitening, for images in units of standard deviations.
    """

    def __init__(self, widths: Sequence[int] = (64, 256, 256), epsilon: float = 5e-4):
        super().__init__()
        self.epsilon = epsilon
        self.stem = nn.Conv2d(3, 24, kernel_size=2, bias=False).requires_grad_(False)
        incoming = [self.stem.out_channels, *widths]
        self.blocks = nn.ModuleList(_block(i, o) for i, o in zip(incoming, widths, strict=False))
        self.activation = nn.GELU()
        self.stage_channels = list(widths)
        self.stage_strides = [2 ** (i + 1) for i in range(len(widths))]
        self.num_features = widths[-1]

    @torch.no_grad()
    def fit(self, images: Float[Tensor, "n 3 h w"]) -> None:
        """Set the stem from the 2x2 patches of some thousand normalised images; needs no labels."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + self.epsilon).sqrt()).T.reshape(12, 3, 2, 2).flip(0)  # largest variance first
        self.stem.weight.copy_(torch.cat([filters, -filters]))

    def stages(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The feature map after each block; `stage_channels` and `stage_strides` describe them."""
        x = self.activation(self.stem(images))
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Average of the last map over space."""
        return self.stages(images)[-1].mean((2, 3))

    def parts(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output, a list a part: each block; the stem learns nothing."""
        return [list(block.parameters()) for block in self.blocks]


def _block(incoming: int, outgoing: int) -> nn.Module:
    first = nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False)
    second = nn.Conv2d(outgoing, outgoing, 3, padding=1, bias=False)
    return nn.Sequential(
        first, nn.MaxPool2d(2), nn.BatchNorm2d(outgoing), nn.GELU(), second, nn.BatchNorm2d(outgoing), nn.GELU()
    )
