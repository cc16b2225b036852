"""Answers at every pixel: losses, heads, holes, and what is shown of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Command
from PIL import Image
from torch import Tensor

from ssl_lab import pixels, recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.losses import cross_entropy, soft_cross_entropy, squared_error
from ssl_lab.methods import Colorization, ContextEncoder
from ssl_lab.methods.dense import score
from ssl_lab.nn import ConvNet, Hypercolumn, Upsampler
from ssl_lab.tasks import Holes


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_soft_cross_entropy_equals_its_definition_pixel_by_pixel() -> None:
    outputs, distribution, weights = rand(2, 5, 3, 4), rand(2, 5, 3, 4, seed=1), rand(2, 1, 3, 4, seed=2)
    distribution = distribution / distribution.sum(1, keepdim=True)
    total = 0.0
    for i in range(2):
        for y in range(3):
            for x in range(4):
                logits = outputs[i, :, y, x]
                log_share = [float(logits[q] - logits.exp().sum().log()) for q in range(5)]
                inner = sum(float(distribution[i, q, y, x]) * log_share[q] for q in range(5))
                total -= float(weights[i, 0, y, x]) * inner
    assert soft_cross_entropy(outputs, distribution, weights).item() == pytest.approx(total / 24, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda o: soft_cross_entropy(o, distribution, weights), outputs.clone().requires_grad_()
    )


def test_soft_cross_entropy_of_certain_classes_is_cross_entropy() -> None:
    outputs, targets = rand(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    certain = torch.nn.functional.one_hot(targets, 5).double()[:, :, None, None]
    dense = soft_cross_entropy(outputs[:, :, None, None], certain, torch.ones(6, 1, 1, 1, dtype=torch.float64))
    assert dense.item() == pytest.approx(cross_entropy(outputs, targets).item(), rel=1e-12)
    same = torch.full((6, 5, 1, 1), 0.3, dtype=torch.float64)
    assert soft_cross_entropy(same, certain, torch.ones(6, 1, 1, 1).double()).item() == pytest.approx(
        torch.tensor(5.0).log().item()
    )


def test_squared_error_counts_pixels_by_their_weights() -> None:
    outputs, values = rand(2, 3, 4, 4), rand(2, 3, 4, 4, seed=1)
    weights = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    weights[:, :, 1:3, 1:3] = 4.0  # a quarter of the pixels: mean 1
    expected = (outputs - values)[:, :, 1:3, 1:3].square().mean()
    assert squared_error(outputs, values, weights).item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda o: squared_error(o, values, weights), outputs.clone().requires_grad_())


def test_losses_of_pixels_do_not_depend_on_their_order() -> None:
    outputs, values, weights = rand(2, 3, 4, 4), rand(2, 3, 4, 4, seed=1).softmax(1), rand(2, 1, 4, 4, seed=2)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = [x.flatten(2)[:, :, order].view_as(x) for x in (outputs, values, weights)]
    for loss in (soft_cross_entropy, squared_error):
        assert loss(*moved).item() == pytest.approx(loss(outputs, values, weights).item(), rel=1e-12)
    shifted = soft_cross_entropy(outputs + 3, values, weights)
    assert shifted.item() == pytest.approx(soft_cross_entropy(outputs, values, weights).item(), rel=1e-10)
    assert squared_error(outputs, outputs, weights) == 0
    total = sum(
        float(weights[n, 0, h, w] * (outputs[n, c, h, w] - values[n, c, h, w]) ** 2) / 96
        for n in range(2) for c in range(3) for h in range(4) for w in range(4)
    )  # fmt: skip
    assert squared_error(outputs, values, weights).item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("regions", [1, 4])
def test_a_hole_takes_its_share_and_nothing_else_changes(regions: int) -> None:
    images = torch.rand(2000, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Holes(regions=regions, fraction=0.25, fill=0.5)(images, Draws(0, 0, total=2000))
    assert batch.weights is not None
    hole = batch.weights > 0
    share = hole.float().mean((1, 2, 3))
    assert torch.all(share == 0.25) if regions == 1 else torch.all((share <= 0.25) & (share >= 1 / 16))
    assert torch.allclose(batch.weights.mean((1, 2, 3)), torch.ones(2000))
    assert torch.equal(batch.targets, images)
    shown = batch.inputs[:, 0]
    assert torch.equal(torch.where(hole, images, shown), images)  # undone, it gives the image back
    assert torch.all(torch.where(hole, shown, 0.5) == 0.5)
    assert (hole.float().mean(0) > 0).all()  # anywhere, to the very corners


def test_a_hole_in_the_centre_stays_there() -> None:
    batch = Holes(place="centre")(torch.rand(3, 3, 16, 16), Draws(0, 0, total=3))
    assert batch.weights is not None
    assert (batch.weights[:, :, 4:12, 4:12] > 0).all()
    assert batch.weights[:, 0].gt(0).sum((1, 2)).tolist() == [64, 64, 64]


@pytest.mark.parametrize("regions", [1, 3])
def test_holes_refuse_what_they_cannot_be(regions: int) -> None:
    with pytest.raises(ValueError, match="fraction"):
        Holes(regions=regions, fraction=1.5)
    with pytest.raises(ValueError, match="centre"):
        Holes(regions=2, place="centre")


@pytest.mark.parametrize("head", [Upsampler, Hypercolumn])
@pytest.mark.parametrize(("size", "stride"), [(32, 1), (32, 4), (48, 8), (30, 2)])
def test_dense_heads_answer_at_every_pixel(head: type, size: int, stride: int) -> None:
    backbone = ConvNet(widths=[4, 6, 8])
    made = head(backbone.stage_channels, backbone.stage_strides, 5, stride, width=16)
    maps = backbone.stages(torch.rand(2, 3, size, size))
    assert made(maps, size // stride, size // stride).shape == (2, 5, size // stride, size // stride)


def test_the_upsampler_reads_the_last_map_alone() -> None:
    made = Upsampler([4, 6, 8], [2, 4, 8], 5, 1, width=16).eval()
    maps = [torch.rand(2, c, s, s) for c, s in ((4, 16), (6, 8), (8, 4))]
    other = [torch.zeros_like(maps[0]), torch.zeros_like(maps[1]), maps[2]]
    assert torch.equal(made(maps, 32, 32), made(other, 32, 32))


def method(name: str) -> Colorization | ContextEncoder:
    torch.manual_seed(0)
    config, _ = recipes.compose("train", [f"method={name}", "backbone=convnet", "data=photos"])
    made: Colorization | ContextEncoder = build(
        config["method"], preprocessing={"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}, seed=0
    )
    return made


def test_inpainting_shows_the_picture_around_what_it_answers() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    holed, filled, original = method("inpainting").preview(images).unbind(1)
    outside = holed == original
    assert torch.allclose(original, pixels.to_float(images))
    assert torch.equal(filled[outside], original[outside])
    assert outside.float().mean() == pytest.approx(0.75, abs=0.01)


def test_colorization_keeps_the_lightness_of_what_it_paints() -> None:
    images = torch.full((2, 3, 32, 32), 120, dtype=torch.uint8)
    gray, painted, original = method("colorization").preview(images).unbind(1)
    assert torch.allclose(pixels.lightness(painted), pixels.lightness(original), atol=1.0)
    assert torch.allclose(gray[:, 0], pixels.lightness(original)[:, 0] / 100)


def test_colorizations_loss_counts_pixels_by_the_rarity_of_their_colours() -> None:
    made = method("colorization")
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made.prepare(images)
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    loss = made.loss
    made.loss = lambda answers, targets, weights: given.append((targets, weights)) or loss(answers, targets, weights)
    made.step(images, Draws(0, 0, total=8))
    ((targets, weights),) = given
    assert torch.equal(weights[:, 0], made.palette.rarity[targets.argmax(1)])
    assert weights.std() > 0.1


def test_gray_images_are_refused_before_there_is_a_run(command: Command, tmp_path: Path) -> None:
    refused = command("train", *TINY, "method=colorization", "data.store_size=8")
    assert (refused.returncode, "gray" in refused.stderr) == (2, True), refused.stderr
    assert not list((tmp_path / "outputs").rglob("run.json"))


def test_gray_images_are_refused_with_the_way_on() -> None:
    gray = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8).expand(8, 3, 32, 32)
    with pytest.raises(ValueError, match=r"gray.*method=rotation"):
        method("colorization").prepare(gray)


def test_the_figure_beside_chance_is_that_of_a_constant_answer() -> None:
    made = method("inpainting")
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    logs = made.step(images, Draws(0, 0, total=8)).logs
    assert set(logs) == {"pretext_error", "pretext_chance"}
    assert logs["pretext_error"] == pytest.approx(made.step(images, Draws(0, 0, total=8)).loss.item(), rel=1e-5)


def test_a_rare_colour_counts_in_the_score_as_it_does_in_the_loss() -> None:
    classes = torch.tensor([[[0, 0, 0, 1]]])  # three pixels of a common colour, one of a rare one
    weights = torch.tensor([[[[0.5, 0.5, 0.5, 2.5]]]])
    targets = F.one_hot(classes, 3).movedim(-1, 1).float()

    def answering(colour: int) -> dict[str, Tensor]:
        return score("distribution", F.one_hot(torch.full_like(classes, colour), 3).movedim(-1, 1), targets, weights)

    assert answering(0)["pretext_top1"] == pytest.approx(1.5 / 4)
    assert answering(1)["pretext_top1"] == answering(1)["pretext_chance"] == pytest.approx(2.5 / 4)
    assert answering(2)["pretext_top1"] == 0


@pytest.mark.parametrize("method", ["colorization", "inpainting"])
def test_every_parameter_of_a_dense_method_is_trained_or_frozen(method: str) -> None:
    def made(*words: str, **options: Any) -> Any:
        config, _ = recipes.compose("train", [f"method={method}", "data=photos", *words])
        config["method"]["backbone"] |= options
        return build(config["method"], preprocessing={"mean": (0.5,) * 3, "std": (0.25,) * 3}, seed=0)

    patches = {"img_size": 32, "patch_size": 8}
    vit = made("backbone=timm", "method.backbone.name=vit_tiny_patch16_224", options=patches)
    step = vit.step(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), Draws(0, 0, total=4))
    step.loss.backward()
    assert not [name for name, p in vit.named_parameters() if p.requires_grad and p.grad is None]
    assert not vit.encoder.backbone.model.norm.weight.requires_grad
    with pytest.raises(ValueError, match=r"layer\.0\.weight lies behind its last stage"):
        made("backbone=resnet18_emp")
    with pytest.raises(ValueError, match=r"conv_head\.weight lies behind"):
        made("backbone=timm", "method.backbone.name=mobilenetv3_small_100")


def test_a_run_keeps_its_previews(command: Command, tmp_path: Path) -> None:
    overrides = ("method=inpainting", "backbone=convnet", "method.backbone.widths=[8,8,8]", "data.batch_size=64")
    done = command("train", *overrides, "trainer.max_steps=2", "logger=none", "probe=none")
    assert done.returncode == 0, done.stderr
    (picture,) = tmp_path.glob("outputs/*/*/previews/epoch_0001.png")
    with Image.open(picture) as opened:
        assert opened.size == (3 * 33 + 1, 8 * 33 + 1)
