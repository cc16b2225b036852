"""Cross-entropy of the answers to a pretext task: a loop, closed forms, smoothing."""

import math

import pytest
import torch

from ssl_lab.losses import cross_entropy

OUTPUTS = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 3, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_it_is_the_loop(smoothing: float) -> None:
    losses = []
    for outputs, target in zip(OUTPUTS, TARGETS.tolist(), strict=True):
        shares = [smoothing / 4 + (1 - smoothing) * (j == target) for j in range(4)]
        top = math.log(sum(math.exp(x) for x in outputs.tolist()))
        losses.append(-sum(share * (x - top) for share, x in zip(shares, outputs.tolist(), strict=True)))
    assert cross_entropy(OUTPUTS, TARGETS, smoothing).item() == pytest.approx(sum(losses) / 5, rel=1e-12)


def test_alike_answers_cost_the_logarithm_of_their_number_and_a_shift_nothing() -> None:
    assert cross_entropy(torch.zeros(5, 4), TARGETS).item() == pytest.approx(math.log(4))
    shift = torch.arange(5.0, dtype=torch.float64)[:, None]
    assert torch.allclose(cross_entropy(OUTPUTS + shift, TARGETS), cross_entropy(OUTPUTS, TARGETS))


def test_gradcheck() -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, TARGETS, 0.1), (outputs,))
