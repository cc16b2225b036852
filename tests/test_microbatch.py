"""A large batch in parts: the same gradient, and batch-norm averages that move once."""

import pytest
import torch
from torch import nn

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.methods import TwoView, flops_per_image
from ssl_lab.methods.microbatch import in_parts, moving

PREPROCESSING = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize": None, "crop": None}
IMAGES = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make(*overrides: str) -> TwoView:
    torch.manual_seed(0)
    small = ["backbone=resnet18", "method.backbone.width=0.125"]
    config, _ = recipes.compose("train", [*small, *overrides])
    method: TwoView = build(config["method"], preprocessing=PREPROCESSING, seed=0)
    return method


TWO_VIEW = [
    ["loss=nt_xent"],
    ["loss=barlow_twins"],
    ["loss=vicreg"],
    ["loss=moco_v3"],
    ["views=simclr_cifar_4x20"],
    ["method=vicreg"],  # one view after the other
    ["method=emp_ssl", "method.views.count=4"],
]


@pytest.mark.parametrize("words", TWO_VIEW, ids=" ".join)
@pytest.mark.parametrize("size", [1, 5, 6])
def test_the_gradient_is_that_of_the_whole_batch_without_batch_norm(words: list[str], size: int) -> None:
    gradients, losses, features = [], [], []
    for part in ("null", str(size)):
        method = make(*words, "projector=mlp2_plain", f"method.microbatch={part}").double()
        method.encoder.eval()  # its batch norm frozen
        step = method.step(IMAGES, Draws(0, 3, 12))
        step.loss.backward()
        losses.append(step.loss.item())
        features.append(step.features)
        gradients.append(torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert torch.allclose(*features, rtol=1e-12)
    assert (gradients[0] - gradients[1]).norm() <= 1e-10 * gradients[0].norm()


def test_no_part_is_left_with_one_row() -> None:
    parts: list[tuple[int, int]] = []
    rows = torch.zeros(64, 1, requires_grad=True)

    def embed(start: int, stop: int) -> tuple[torch.Tensor]:
        parts.append((start, stop))
        return (rows[start:stop],)

    (joined,) = in_parts(embed, nn.Identity(), 64, 7)
    assert joined.shape == (64, 1)
    assert [stop - start for start, stop in parts] == [6, 6, 7, 6, 7, 6, 6, 7, 6, 7]
    step = make("method=vicreg", "method.microbatch=11").step(IMAGES, Draws(0, 3, 12))  # 11 and 1 would not do
    assert torch.isfinite(step.loss)


@pytest.mark.parametrize(
    ("size", "batch", "fits"),
    [(1, 12, False), (2, 12, True), (2, 3, False), (2, 5, False), (3, 4, True), (3, 7, True), (1, 1, True)],
)
def test_a_part_of_one_row_is_refused_where_batch_norm_stands(size: int, batch: int, fits: bool) -> None:
    method = make("method=vicreg", f"method.microbatch={size}")
    if fits:
        method.check(2 * batch, 2)
    else:
        with pytest.raises(ValueError, match=rf"method\.microbatch={size}: .*3 or more"):
            method.check(2 * batch, 2)
    make("method=vicreg", "projector=mlp2_plain", f"method.microbatch={size}").check(batch, 1)  # maps have more rows
    make(f"method.microbatch={size}").check(batch, 1)  # both views share a pass


def test_the_cost_of_a_step_counts_the_pass_made_again() -> None:
    counted = [
        flops_per_image(make(f"method.microbatch={size}"), IMAGES[:4], batch)
        for size, batch in (("null", 256), ("256", 256), ("255", 256))
    ]
    assert counted[1] == counted[0]  # a batch that fits is not made again
    assert counted[2] / counted[0] == pytest.approx(4 / 3, rel=0.02)


def test_running_averages_move_once_and_not_again_in_the_backward_pass() -> None:
    method = make("method.microbatch=6")
    norm = next(m for m in method.modules() if isinstance(m, nn.BatchNorm2d))
    step = method.step(IMAGES, Draws(0, 3, 12))
    after_forward = [norm.running_mean.clone(), norm.running_var.clone(), int(norm.num_batches_tracked)]
    step.loss.backward()
    assert torch.equal(norm.running_mean, after_forward[0])
    assert torch.equal(norm.running_var, after_forward[1])
    assert int(norm.num_batches_tracked) == after_forward[2]
    assert norm.momentum == 0.1


def test_parts_that_are_alike_move_the_averages_as_one_pass() -> None:
    norm, whole = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    rows = torch.randn(4, 3, requires_grad=True)
    in_parts(lambda start, stop: (norm(rows),), norm, 8, 4)
    whole(rows)
    assert torch.allclose(norm.running_mean, whole.running_mean)
    with moving(norm, 0.0):
        before = norm.running_mean.clone()
        norm(rows + 5)
        assert torch.equal(norm.running_mean, before)


def test_only_a_part_is_held_at_a_time() -> None:
    """What autograd keeps between the passes does not hold the activations of the parts."""
    held = {}
    for part in ("null", "3"):
        method = make("projector=mlp2_plain", f"method.microbatch={part}")
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            method.step(IMAGES, Draws(0, 3, 12))
        held[part] = sum(sizes)
    assert held["3"] < held["null"] / 50


def test_accumulation_is_warned_of_and_parts_are_explained() -> None:
    assert any("method.microbatch" in remark for remark in make().remarks(100, accumulate=4))
    for name in ("moco_v2", "moco_v3"):
        config, _ = recipes.compose("train", [f"method={name}", "backbone=resnet18", "method.backbone.width=0.0625"])
        method = build(config["method"], preprocessing=PREPROCESSING, seed=0)
        warned = [remark for remark in method.remarks(10**6, accumulate=4) if "accumulate_grad_batches=4" in remark]
        assert len(warned) == 1
        assert "method.microbatch" in warned[0]
        assert not any("accumulate" in remark for remark in method.remarks(10**6, accumulate=1))
    assert make().remarks(100, accumulate=1) == []
    assert any("batch norm" in remark for remark in make("method.microbatch=6").remarks(100, accumulate=1))
    with pytest.raises(ValueError, match=r"method\.microbatch=0"):
        make("method.microbatch=0")
