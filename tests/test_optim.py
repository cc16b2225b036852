"""Optimisation: what decays, what adapts, and how the rate moves."""

import functools
import math

import pytest
import torch
from timm.optim import Lars
from torch import nn

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.optim import OptimRecipe, parameter_groups


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))


def test_biases_and_norms_do_not_decay() -> None:
    weights, exempt = parameter_groups(network().named_parameters(), 0.1)
    assert [p.ndim for p in weights["params"]] == [2, 2]
    assert weights["weight_decay"] == 0.1
    assert [p.ndim for p in exempt["params"]] == [1, 1, 1]
    assert exempt["weight_decay"] == 0.0


def test_what_is_not_exempt_decays_and_adapts_like_weights() -> None:
    torch.manual_seed(0)
    net = network()
    lars = functools.partial(Lars, momentum=0.9, trust_coeff=0.001, always_adapt=True)
    optimizer, _ = OptimRecipe(lars, lr=1.0, weight_decay=0.1, exempt=False).build(net, 256, 10, 10)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1]
    assert all(group["always_adapt"] for group in optimizer.param_groups)
    with pytest.raises(ValueError, match=r"method\.optim\.exempt_lr=0\.1"):
        OptimRecipe(torch.optim.SGD, lr=1.0, exempt=False, exempt_lr=0.1)


def test_barlow_twins_biases_and_norms_have_a_rate_of_their_own() -> None:
    config = recipes.compose("train", ["method=barlow_twins", "backbone=convnet"])[0]["method"]["optim"]
    optimizer, schedule = build(config).build(network(), batch_size=512, total_steps=40, steps_per_epoch=1)
    groups = optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [1.5e-6, 0.0]
    assert [group["lr"] for group in groups] == pytest.approx([0.04, 0.00096])  # a tenth, ten epochs of warm-up
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in groups] == pytest.approx([0.4, 0.0096])


def test_frozen_parameters_are_left_out() -> None:
    net = network()
    net[0].requires_grad_(False)
    weights, exempt = parameter_groups(net.named_parameters(), 0.1)
    assert len(weights["params"]) == 1
    assert len(exempt["params"]) == 2


@pytest.mark.parametrize(("scaling", "rate"), [("none", 0.3), ("linear", 0.3 * 4), ("sqrt", 0.3 * 2)])
def test_the_rate_scales_with_the_batch(scaling: str, rate: float) -> None:
    recipe = OptimRecipe(torch.optim.SGD, lr=0.3, lr_scaling=scaling)  # type: ignore[arg-type]
    assert recipe.effective_lr(1024) == pytest.approx(rate)


def test_the_rate_warms_up_linearly_then_falls_as_a_cosine() -> None:
    recipe = OptimRecipe(torch.optim.SGD, lr=1.0, warmup_epochs=2, final_lr=0.1)
    optimizer, schedule = recipe.build(network(), batch_size=256, total_steps=30, steps_per_epoch=5)
    rates = []
    for _ in range(31):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10:] == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * i / 20)) / 2 for i in range(21)])


def test_the_rate_drops_after_shares_of_the_training() -> None:
    recipe = OptimRecipe(torch.optim.SGD, lr=1.0, drops=[0.3, 0.6, 0.8], drop=0.2)
    factors = [recipe.factor(step, total_steps=200, warmup_steps=0) for step in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert factors == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])  # RotNet's, epoch by epoch
    with pytest.raises(ValueError, match=r"method\.optim\.drops=\[60\]"):
        OptimRecipe(torch.optim.SGD, lr=1.0, drops=[60])


def test_lars_adapts_weights_and_not_biases() -> None:
    torch.manual_seed(0)
    net = network()
    recipe = OptimRecipe(functools.partial(Lars, momentum=0.9, trust_coeff=0.001, always_adapt=True), lr=1.0)
    optimizer, _ = recipe.build(net, batch_size=256, total_steps=10, steps_per_epoch=10)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    net(torch.randn(8, 3)).square().sum().backward()
    optimizer.step()
    for name, parameter in net.named_parameters():
        moved, gradient = before[name] - parameter.detach(), parameter.grad
        assert gradient is not None
        ratio = 0.001 * before[name].norm() / gradient.norm() if parameter.ndim > 1 else 1.0
        assert torch.allclose(moved, ratio * gradient, rtol=1e-4, atol=1e-7), name
