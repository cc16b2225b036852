"""Colours: the spaces agree with scikit-image, the classes with the paper's definitions, and gray has none."""

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab
from torch import Tensor

from ssl_lab import pixels
from ssl_lab.draws import Draws
from ssl_lab.nn import ConvNet, Encoder
from ssl_lab.tasks import Coloring, Palette, gamut_bins


def colours(n: int = 2, size: int = 16) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_lab_is_that_of_scikit_image_and_comes_back() -> None:
    images = colours()
    ours = pixels.lab(images)
    for image, converted in zip(images, ours, strict=True):
        assert np.abs(rgb2lab(image.permute(1, 2, 0).numpy()) - converted.permute(1, 2, 0).numpy()).max() < 0.5
    assert (pixels.rgb(ours) - images).abs().max() < 1e-4
    assert torch.equal(pixels.lightness(images), ours[:, :1])
    assert torch.equal(pixels.chroma(images), ours[:, 1:])


def test_colours_beyond_the_screen_are_cut_as_scikit_image_cuts_them() -> None:
    beyond = torch.tensor([[50.0, 100.0, -100.0], [90.0, -80.0, 80.0], [5.0, 0.0, -60.0]])
    ours = pixels.rgb(beyond.T[None, :, :, None])[0, :, :, 0].T
    theirs = lab2rgb(beyond[:, None].numpy())[:, 0]
    assert np.abs(ours.numpy() - theirs).max() < 1e-3


def test_the_gamut_has_261_bins_of_which_none_is_far_from_a_colour() -> None:
    bins = torch.tensor(gamut_bins(10))
    assert len(bins) == 261
    assert len(set(gamut_bins(10))) == 261
    ab = pixels.chroma(torch.rand(4, 3, 200, 200)).movedim(1, -1).reshape(-1, 2)
    nearest = torch.cdist(ab, bins).min(1).values
    assert nearest.max() <= 50**0.5 + 1e-3  # half the diagonal of a cell: no colour is left without its bin
    assert gamut_bins(20) != gamut_bins(10)


def test_a_colour_is_spread_over_its_five_nearest_bins() -> None:
    palette = Palette()
    ab = torch.tensor([[12.0, -3.0], [0.0, 0.0], [60.0, 40.0]])
    spread, weights = palette.encode(ab.T[None, :, :, None])
    for colour, shares in zip(ab, spread[0, :, :, 0].T, strict=True):
        distance = (palette.bins - colour).norm(dim=1)
        near = sorted(range(len(palette)), key=lambda i, d=distance: d[i].item())[:5]
        expected = {i: float(torch.exp(-(distance[i] ** 2) / 50)) for i in near}
        total = sum(expected.values())
        found = {i: shares[i].item() for i in range(len(palette)) if shares[i] > 0}
        if colour.abs().sum() == 0:  # its four neighbours are at one distance
            assert found == pytest.approx({i: v / total for i, v in expected.items()}, abs=1e-5)
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        assert sorted(found.values()) == pytest.approx(sorted(v / total for v in expected.values()), abs=1e-5)
    assert torch.equal(weights, torch.ones(1, 1, 3, 1))  # before it has seen how rare they are


def test_the_weights_of_colours_expect_one_and_favour_the_rare() -> None:
    palette = Palette()
    grayish = 8 * torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    grayish[0, :, :2, :2] = torch.tensor([60.0, 40.0]).view(2, 1, 1)
    palette.fit(grayish)
    # The paper's expectation: under the smoothed distribution, made here bin by bin.
    nearest = torch.cdist(grayish.movedim(1, -1).reshape(-1, 2), palette.bins).argmin(1)
    smoothed = torch.zeros(len(palette))
    for i, count in enumerate(torch.bincount(nearest, minlength=len(palette)).tolist()):
        if count:
            kernel = torch.exp(-((palette.bins - palette.bins[i]).norm(dim=1) ** 2) / 50)
            smoothed += count / len(nearest) * kernel / kernel.sum()
    assert smoothed.sum().item() == pytest.approx(1, abs=1e-5)
    assert (smoothed * palette.rarity).sum().item() == pytest.approx(1, abs=1e-4)
    rare, common = (int((palette.bins - torch.tensor(c)).norm(dim=1).argmin()) for c in ([60.0, 40.0], [0.0, 0.0]))
    assert palette.rarity[rare] > 3 * palette.rarity[common]
    inverse = 1 / (0.5 * smoothed + 0.5 / len(palette))
    assert torch.allclose(palette.rarity / palette.rarity.sum(), inverse / inverse.sum(), atol=1e-6)


def test_a_pixel_weighs_what_its_nearest_bin_does() -> None:
    palette = Palette()
    ab = pixels.chroma(colours())
    palette.fit(ab)
    spread, weights = palette.encode(ab)
    assert torch.equal(weights[:, 0], palette.rarity[spread.argmax(1)])
    assert weights.std() > 0.1


def test_the_annealed_mean_goes_from_the_mode_to_the_mean() -> None:
    logits = torch.randn(2, 261, 3, 3, generator=torch.Generator().manual_seed(0))
    mode, mean = Palette(temperature=1e-4), Palette(temperature=1.0)
    chosen = mode.bins[logits.argmax(1)].movedim(-1, 1)
    assert torch.allclose(mode.decode(logits), chosen, atol=1e-3)
    expected = (logits.softmax(1).movedim(1, -1)[..., None] * mean.bins).sum(-2).movedim(-1, 1)
    assert torch.allclose(mean.decode(logits), expected, atol=1e-3)
    between = Palette().decode(logits)
    assert (between - chosen).norm() < (mean.decode(logits) - chosen).norm()


@pytest.mark.parametrize("bins", [torch.float32, torch.float64])
@pytest.mark.parametrize("logits", [torch.bfloat16, torch.float32, torch.float64])
def test_answers_of_any_precision_are_decoded(bins: torch.dtype, logits: torch.dtype) -> None:
    assert Palette().to(bins).decode(torch.randn(1, 261, 2, 2, dtype=logits)).dtype == bins


def test_what_is_encoded_is_decoded() -> None:
    palette = Palette(temperature=1.0)
    ab = pixels.chroma(colours())
    spread, _ = palette.encode(ab)
    assert (palette.decode(spread.clamp_min(1e-30).log()) - ab).abs().mean() < 4  # bins lie 10 apart


def test_the_encoder_of_lightness_takes_colour_and_does_not_see_it() -> None:
    torch.manual_seed(0)
    encoder = Encoder(ConvNet(widths=[8, 8, 8]), color="lightness").eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    gray = pixels.rgb(torch.cat([pixels.lightness(images / 255), torch.zeros(2, 2, 32, 32)], 1))
    seen = encoder.normalize(images / 255)
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert torch.equal(seen[:, 0], seen[:, 2])
    assert torch.allclose(seen, encoder.normalize(gray), atol=1e-3)
    assert encoder(images).shape == (2, 8)
    assert Encoder(ConvNet(), **encoder.preprocessing).color == "lightness"


def test_the_colours_asked_for_are_those_of_the_squares() -> None:
    images = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.2, 0.9]]).view(2, 3, 1, 1).repeat_interleave(8, 2)
    images = images.repeat_interleave(8, 3)
    batch = Coloring(stride=4)(images, Draws(0, 0, total=2))
    assert batch.targets.shape == (2, 2, 2, 2)
    assert torch.allclose(batch.targets[:, :, 0, 0], pixels.chroma(images)[:, :, 0, 0], atol=1e-4)
