"""Pixels: equal to torchvision where torchvision has the same operation."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from ssl_lab import pixels


@pytest.fixture
def images():
    return torch.rand(3, 3, 40, 53, generator=torch.Generator().manual_seed(0))


def test_to_float_spans_zero_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert pixels.to_float(images).flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_normalize_equals_torchvision(images):
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    torch.testing.assert_close(pixels.normalize(images, mean, std), F.normalize(images, mean, std))


def test_one_figure_serves_all_channels(images):
    torch.testing.assert_close(pixels.normalize(images, [0.5], [0.2]), (images - 0.5) / 0.2)


def test_normalize_refuses_foreign_channels(images):
    with pytest.raises(ValueError, match="2 means and 2 deviations for images of 3 channels"):
        pixels.normalize(images, [0.5, 0.5], [0.2, 0.2])


@pytest.mark.parametrize("size", [17, 32, 61])
def test_resize_short_equals_torchvision(images, size):
    ours, theirs = pixels.resize_short(images, size), F.resize(images, [size], antialias=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_resize_to_its_own_size_changes_nothing(images):
    assert pixels.resize(images, 40, 53) is images


@pytest.mark.parametrize("size", [7, 8, 39, 40])
def test_centre_crop_equals_torchvision(images, size):
    assert torch.equal(pixels.centre_crop(images, size), F.center_crop(images, [size, size]))


def test_centre_crop_refuses_what_is_too_small(images):
    with pytest.raises(ValueError, match="40 x 53; allowed: sides >= 41"):
        pixels.centre_crop(images, 41)


def test_grayscale_equals_torchvision(images):
    torch.testing.assert_close(pixels.grayscale(images), F.rgb_to_grayscale(images, num_output_channels=3))
    torch.testing.assert_close(pixels.luma(images), F.rgb_to_grayscale(images))
