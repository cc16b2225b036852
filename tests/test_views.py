"""Views: each operation equals torchvision's on the same parameters, and every row's draws are its own."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from ssl_lab.draws import Draws
from ssl_lab.pixels import to_float
from ssl_lab.views import Geometry, Policy, Views, blur, colour, crop, separable
from ssl_lab.views import views as module

TOLERANCE = 2 / 255
OPTIONS = sorted((Path(__file__).parents[1] / "conf" / "views").glob("*.yaml"))
FULL = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
FULL |= {"grayscale": 0.2, "blur": 0.5, "kernel": 5, "solarise": 0.3}


def photos(n=8, height=32, width=32, seed=0):
    """Smooth random images with some saturated, some grey and some equal-channelled pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse * 1.6 - 0.3, (height, width), mode="bilinear").clamp(0, 1)
    images[:, :, :4] = images[:, :1, :4]
    images[:, 1, 4:8] = images[:, 2, 4:8]
    return (images * 255).round().byte()


def same(ours, theirs, tolerance=TOLERANCE):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def within(values, low, high):
    return low <= values.min().item() <= values.max().item() <= high


def each(function, images, values):
    """torchvision's operation, row by row with the row's own parameter."""
    return torch.stack([function(image, value) for image, value in zip(images, values.tolist(), strict=True)])


COLOURS = {
    "brightness": (colour.adjust_brightness, F.adjust_brightness, (0.0, 2.0)),
    "contrast": (colour.adjust_contrast, F.adjust_contrast, (0.0, 2.0)),
    "saturation": (colour.adjust_saturation, F.adjust_saturation, (0.0, 2.0)),
    "hue": (colour.adjust_hue, F.adjust_hue, (-0.5, 0.5)),
}


@pytest.mark.parametrize("name", COLOURS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_colour_equals_torchvision(name, seed):
    ours, theirs, (low, high) = COLOURS[name]
    images = to_float(photos(6, 12, 12, seed))
    factor = low + (high - low) * torch.rand(6, generator=torch.Generator().manual_seed(seed))
    before = images.clone()
    same(ours(images, factor), each(theirs, images, factor), 1e-5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", COLOURS)
def test_colour_equals_torchvision_on_bytes(name):
    """What a pipeline on uint8 images would have made, up to its rounding."""
    ours, theirs, (low, high) = COLOURS[name]
    images, factor = photos(9), torch.linspace(low, high, 9)
    same(ours(to_float(images), factor), to_float(each(theirs, images, factor)))


@pytest.mark.parametrize("turn", [-0.5, -1 / 3, -1 / 6, 0.0, 1 / 6, 1 / 3, 0.5])
def test_hue_of_pure_colours(turn):
    """The corners of the colour hexagon, where the formula changes branch."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(1, 3, 8, 1)
    same(colour.adjust_hue(corners, torch.tensor([turn])), F.adjust_hue(corners, turn), 1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_jitter_equals_torchvision_in_every_order(seed):
    images, draws = to_float(photos(24, 12, 12, seed)), Draws(seed, 0, 24)
    factors, order = colour.draw_jitter(draws, [0.8, 0.8, 0.8, 0.2])
    apply = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    expected = []
    for image, factor, turns in zip(images, factors.tolist(), order.tolist(), strict=True):
        for operation in turns:
            image = apply[operation](image, factor[operation])
        expected.append(image)
    same(colour.jitter(images, factors, order), torch.stack(expected), 1e-4)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**30),
    height=st.integers(5, 48),
    width=st.integers(5, 48),
    size=st.integers(4, 40),
    mode=st.sampled_from(["bilinear", "bicubic"]),
)
def test_crop_equals_torchvision(seed, height, width, size, mode):
    images = to_float(photos(4, height, width, seed))
    geometry = crop.draw_geometry(Draws(seed, 0, 4), height, width, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    ours = crop.crop_resize(images, geometry, size, mode)
    for view, image, (left, top, right, bottom), flipped in zip(
        ours, images, geometry.boxes.tolist(), geometry.flipped, strict=True
    ):
        expected = F.resized_crop(
            image, top, left, bottom - top, right - left, [size, size], InterpolationMode(mode), antialias=True
        ).clamp(0, 1)
        same(view, F.horizontal_flip(expected) if flipped else expected, 1e-4)


def test_whole_image_at_its_own_size_is_exact():
    images = photos()
    whole = Policy(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    assert torch.equal(Views([whole])(images, Draws(0, 0, 8), 1)[0], to_float(images))


def test_a_border_and_a_crop_of_the_images_size_move_it_by_whole_pixels():
    images = photos(64)
    views, (geometry,) = Views([Policy(32, pad=4, scale=(0.64, 0.64), ratio=(1.0, 1.0))]).with_geometry(
        images, Draws(0, 0, 64), 1
    )
    seen = set()
    bordered = F.pad(to_float(images), [4])
    for view, image, (left, top, right, bottom), flipped in zip(
        views[0], bordered, geometry.boxes.tolist(), geometry.flipped, strict=True
    ):
        moved = image[:, top:bottom, left:right]
        assert torch.equal(view, moved.flip(2) if flipped else moved)
        seen |= {left, top}
    assert seen == set(range(9))


@pytest.mark.parametrize("kernel", [3, 7, 23])
def test_blur_equals_torchvision(kernel):
    images, sigma = to_float(photos(5, 24, 30)), torch.linspace(0.1, 2, 5)
    same(
        blur.gaussian_blur(images, sigma, kernel),
        each(lambda x, s: F.gaussian_blur(x, [kernel] * 2, [s] * 2), images, sigma),
        1e-5,
    )


def test_solarise_equals_torchvision():
    images = to_float(photos())
    assert torch.equal(colour.solarise(images, 0.5), F.solarize(images, 0.5))


def test_separable_equals_einsum():
    images, vertical, horizontal = torch.rand(2, 3, 4, 5), torch.rand(2, 6, 4), torch.rand(2, 7, 5)
    expected = torch.einsum("nchw,nph,nqw->ncpq", images, vertical, horizontal)
    torch.testing.assert_close(separable.separable(images, vertical, horizontal), expected)


def test_same_draws_same_views():
    views, images = Views([Policy(24, **FULL)]), photos()
    for one, other in zip(views(images, Draws(0, 3, 8)), views(images, Draws(0, 3, 8)), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(one, views(images, Draws(0, 4, 8))[1])
    assert not torch.equal(*views(images, Draws(0, 3, 8)))


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize(("start", "stop"), [(2, 5), (0, 1), (7, 64)])
def test_rows_see_what_the_whole_batch_sees(side, start, stop):
    views, images, draws = Views([Policy(33, **FULL), Policy(20)], count=3), photos(64, side, side), Draws(1, 2, 64)
    whole = views(images, draws)
    for part, all_rows in zip(views(images[start:stop], draws.rows(start, stop)), whole, strict=True):
        assert torch.equal(part, all_rows[start:stop])


def test_chunks_change_nothing(monkeypatch):
    views, images = Views([Policy(32, **FULL)]), photos(16)
    whole = views(images, Draws(0, 0, 16))
    monkeypatch.setattr(module, "CHUNK", {"cpu": 3 * 12 * 32 * 32})
    for one, other in zip(whole, views(images, Draws(0, 0, 16)), strict=True):
        assert torch.equal(one, other)


def test_views_alternate_policies():
    views = Views([Policy(32), Policy(20), Policy(9)], count=4)
    assert views.sizes == [32, 20, 9, 32]
    assert [view.shape[-1] for view in views(photos(), Draws(0, 0, 8))] == [32, 20, 9, 32]
    assert [view.shape[-1] for view in views(photos(), Draws(0, 0, 8), 1)] == [32]
    assert Views({"large": Policy(32), "small": Policy(9)}, count=3).sizes == [32, 9, 32]


def test_geometry_says_where_the_view_was_taken():
    images, views = photos(8, 40, 60), Views([Policy(16)])
    made, geometries = views.with_geometry(images, Draws(0, 0, 8))
    for view, geometry in zip(made, geometries, strict=True):
        assert isinstance(geometry, Geometry)
        same(view, crop.crop_resize(to_float(images), geometry, 16), 0)


def test_autocast_and_gradients_stay_out():
    views, images = Views([Policy(24, **FULL)]), photos()
    plain = views(images, Draws(0, 0, 8))
    with torch.autocast("cpu", torch.bfloat16):
        cast = views(images, Draws(0, 0, 8))
    assert all(torch.equal(*pair) and not pair[0].requires_grad for pair in zip(plain, cast, strict=True))


def test_parameters_follow_the_images_to_their_device():
    """A tensor left behind on the processor would not mix with those of another device."""
    policy = Policy(24, **FULL)
    drawn = policy.draw(Draws(0, 0, 8), 32, 32)
    assert policy.apply(photos().to("meta"), drawn).device.type == "meta"


def test_crops_are_distributed_as_torchvisions():
    n, scale, ratio = 4000, (0.2, 1.0), (3 / 4, 4 / 3)
    boxes, flipped = crop.draw_geometry(Draws(0, 0, n), 64, 48, scale, ratio, 0.5)
    left, top, right, bottom = boxes.T
    area, aspect = (right - left) * (bottom - top) / (64 * 48), (right - left) / (bottom - top)
    assert boxes.amin(0)[:2].tolist() == [0, 0]
    assert boxes.amax(0)[2:].tolist() == [48, 64]
    assert within(area, 0.19, 1.0)
    assert within(aspect, 0.72, 1.37)
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(torch.empty(3, 64, 48), scale, ratio)[2:] for _ in range(1000)]
    assert area.mean().item() == pytest.approx(sum(h * w for h, w in theirs) / 1000 / (64 * 48), abs=0.02)
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=0.03)
    room = 64 - (bottom - top)
    assert (top[room > 20] / room[room > 20]).mean().item() == pytest.approx(0.5, abs=0.03)


def test_long_images_fall_back_to_the_largest_allowed_crop():
    boxes, _ = crop.draw_geometry(Draws(0, 0, 50), 10, 100, (0.9, 1.0), (3 / 4, 4 / 3), 0.0)
    assert (boxes[:, 2:] - boxes[:, :2]).unique(dim=0).tolist() == [[13, 10]]


def test_jitter_is_distributed_as_torchvisions():
    factors, order = colour.draw_jitter(Draws(0, 0, 6000), [0.4, 0.8, 1.5, 0.1])
    assert factors.mean(0).tolist() == pytest.approx([1, 1, 1.25, 0], abs=0.03)
    assert factors.amin(0).tolist() == pytest.approx([0.6, 0.2, 0, -0.1], abs=0.01)
    assert factors.amax(0).tolist() == pytest.approx([1.4, 1.8, 2.5, 0.1], abs=0.01)
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 180


def test_probabilities_are_kept():
    drawn = Policy(32, **FULL).draw(Draws(0, 0, 4000), 32, 32)
    shares = [drawn.jittered, drawn.grey, drawn.blurred, drawn.solarised]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.8, 0.2, 0.5, 0.3], abs=0.03)
    assert within(drawn.sigma, 0.1, 2.0)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda path: path.stem)
def test_every_option_makes_the_views_it_promises(option):
    assert option.read_text().startswith("# @package method.views\n")
    config = OmegaConf.merge({"data": {"store_size": 40}}, {"views": OmegaConf.load(option)})
    views = instantiate(config.views, _convert_="all")
    made = views(photos(4, 40, 40), Draws(0, 0, 4))
    assert [view.shape for view in made] == [(4, 3, size, size) for size in views.sizes]
    assert len(made) == views.count
    assert all(within(view, 0, 1) and view.is_contiguous() for view in made)


def test_grey_images_have_views_but_no_colour():
    grey = photos()[:, :1]
    assert Views([Policy(16)])(grey, Draws(0, 0, 8))[0].shape == (8, 1, 16, 16)
    with pytest.raises(ValueError, match=r"1 channel\(s\); jitter and grayscale need 3"):
        Views([Policy(16, grayscale=0.2)])(grey, Draws(0, 0, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size is 0; allowed: >= 1"),
        ({"size": 8, "pad": -1}, "pad is -1; allowed: >= 0"),
        ({"size": 8, "flip": 1.5}, "flip is 1.5; allowed: 0 to 1"),
        ({"size": 8, "scale": (0.5, 2.0)}, "scale is .0.5, 2.0.; allowed"),
        ({"size": 8, "sigma": (2.0, 1.0)}, "sigma is"),
        ({"size": 8, "hue": 0.7}, "hue is 0.7; allowed"),
        ({"size": 8, "blur": 0.5, "kernel": 4}, "kernel is 4 for views of 8 pixels; allowed: odd"),
    ],
)
def test_senseless_policies_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Policy(**change)


def test_senseless_calls_are_refused():
    views, images = Views([Policy(8)]), photos()
    with pytest.raises(ValueError, match="no policies"):
        Views([])
    with pytest.raises(ValueError, match="8 images and draws for 9 rows"):
        views(images, Draws(0, 0, 9))
    with pytest.raises(ValueError, match="at least one pixel"):
        views(images[:, :, :0], Draws(0, 0, 8))
    with pytest.raises(ValueError, match="asked for 0 views"):
        views(images, Draws(0, 0, 8), 0)
