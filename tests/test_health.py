"""Health figures against cases made by hand."""

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_protocols import subject
from torch import Tensor

from ssl_lab import recipes
from ssl_lab.evaluation import HealthProbe, health
from ssl_lab.evaluation.health import alignment, alpha_req, deviation, lidar, rankme, uniformity
from ssl_lab.nn import ConvNet, Encoder
from ssl_lab.pretrain import pretrain
from ssl_lab.records import find_run, read_metrics


def orthogonal(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, d, generator=generator, dtype=torch.float64))[0]


def test_rankme_counts_equal_directions_and_sees_one() -> None:
    assert rankme(orthogonal(200, 16)) == pytest.approx(16, rel=1e-4)
    one = torch.randn(200, 1) @ torch.randn(1, 16)
    assert rankme(one) == pytest.approx(1, abs=1e-3)
    spectrum = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    shares = spectrum / 8
    expected = math.exp(-sum(p * math.log(p) for p in shares.tolist()))
    assert rankme(orthogonal(50, 4) * spectrum) == pytest.approx(expected, rel=1e-4)
    assert rankme(7 * orthogonal(50, 4) * spectrum) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_is_the_exponent_of_the_spectrum(alpha: float) -> None:
    ranks = torch.arange(1, 65, dtype=torch.float64)
    base = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = torch.linalg.qr(base - base.mean(0))[0]  # centred and orthonormal
    assert alpha_req(exact * ranks.pow(-alpha / 2)) == pytest.approx(alpha, rel=1e-3)
    assert alpha_req(exact) == pytest.approx(0, abs=1e-3)  # identity covariance
    assert math.isnan(alpha_req(torch.zeros(10, 4)))


def test_lidar_sees_the_directions_that_tell_images_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    means = orthogonal(300, 10) * 300**0.5
    noise = 0.1 * torch.randn(300, 8, 10, generator=generator, dtype=torch.float64)
    assert lidar(means[:, None] + noise) == pytest.approx(10, rel=0.05)
    flat = means.clone()
    flat[:, 3:] = 0  # images differ in three directions only
    assert lidar(flat[:, None] + noise) == pytest.approx(3, rel=0.1)
    flat[:, 1:] = 0  # in one
    assert lidar(flat[:, None] + noise) == pytest.approx(1, rel=0.1)


def test_alignment_and_uniformity_of_known_points() -> None:
    same = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [0.0, 1.0]]])
    assert alignment(same) == pytest.approx(0)
    opposite = torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]])
    assert alignment(opposite) == pytest.approx(4)
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    expected = math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6)  # four sides, two diagonals
    assert uniformity(square) == pytest.approx(expected)


def test_deviation_is_one_when_spread_and_zero_when_collapsed() -> None:
    assert deviation(torch.randn(5000, 64)) == pytest.approx(1, abs=0.02)
    assert deviation(torch.ones(50, 64)) == pytest.approx(0, abs=1e-9)


def test_the_protocol_looks_at_an_encoder_as_it_is_used() -> None:
    torch.manual_seed(0)
    encoder = Encoder(ConvNet([8, 8]))
    before = deepcopy(encoder.state_dict())
    training, evaluating = (health(subject(encoder.train(mode)), images=60).figures for mode in (True, False))
    assert training == evaluating
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_run_logs_its_health_without_labels_and_unchanged(tmp_path: Path) -> None:
    images = tmp_path / "pictures"
    images.mkdir()
    for i in range(60):
        picture = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        Image.fromarray(picture.numpy()).save(images / f"{i}.png")
    words = ["data=folder", f"data.root={images}", "backbone=convnet", "method.backbone.widths=[8,8,8]", "logger=none"]
    quick = ["data.batch_size=16", "trainer.max_epochs=2", f"paths.cache={tmp_path / 'cache'}"]
    encoders = []
    for chosen in ("default", "none"):
        out = tmp_path / chosen
        pretrain(*recipes.compose("train", [*words, *quick, f"health={chosen}", f"paths.out={out}"]))
        run = find_run(out)
        encoders.append(run.record["encoder_sha256"])
        logged = [line for line in read_metrics(run.metrics_file) if "health/rankme" in line]
        assert [line["epoch"] for line in logged] == ([0, 1] if chosen == "default" else [])
        assert all(math.isfinite(value) for line in logged for value in line.values())
    assert encoders[0] == encoders[1]


def test_a_collapse_stops_the_run_after_some_checks() -> None:
    probe = HealthProbe(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), floor=0.1, patience=2)
    probe._at_start = 0.5
    probe._watch(0.04, epoch=0)
    probe._watch(0.06, epoch=1)  # above: begins anew
    probe._watch(0.04, epoch=2)
    again = HealthProbe(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), floor=0.1, patience=2)
    again.load_state_dict(probe.state_dict())
    with pytest.raises(ValueError, match=r"collapsed: after epoch 4 .* 0\.04, 2 checks"):
        again._watch(0.04, epoch=3)
    off = HealthProbe(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), floor=None)
    off._at_start = 0.5
    for epoch in range(9):
        off._watch(0.0, epoch)


def test_features_that_are_no_numbers_give_no_figures_and_no_traceback() -> None:
    from ssl_lab.build import build

    config = recipes.compose("train", ["data=photos", "backbone=convnet", "method.backbone.widths=[8,8]"])[0]
    method = build(config["method"], preprocessing={}, seed=0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    probe = HealthProbe(images)
    assert all(math.isfinite(value) for value in probe.measure(method).values())
    with torch.no_grad():
        next(p for p in method.parameters() if p.requires_grad).fill_(float("nan"))
    assert all(math.isnan(value) for value in probe.measure(method).values())
