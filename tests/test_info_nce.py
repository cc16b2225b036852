"""InfoNCE against a loop, closed forms, and NT-Xent where they must agree."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lab.losses import info_nce, moco_v3, nt_xent


def unit(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed)), dim=1)


def naive(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the paper, a query at a time."""
    losses = []
    for q, k in zip(query, key, strict=True):
        q, k = q / q.norm(), k / k.norm()
        logits = torch.stack([q @ k, *(q @ old for old in queue)]) / temperature
        losses.append(torch.logsumexp(logits, 0) - logits[0])  # the exponentials alone leave the range of numbers
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0, 0.003])
@pytest.mark.parametrize("m", [1, 5, 4097])
def test_it_is_the_papers_loop_with_its_gradient(temperature: float, m: int) -> None:
    query, key, queue = unit(6, 4, 0) * 3, unit(6, 4, 1) * 2, unit(m, 4, 2)
    ours, theirs = [[t.clone().requires_grad_() for t in (query, key)] for _ in range(2)]
    one, other = info_nce(*ours, queue, temperature), naive(*theirs, queue, temperature)
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    one.backward()
    other.backward()
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None
        assert (a.grad - b.grad).norm() <= 1e-9 * b.grad.norm()


@pytest.mark.parametrize("temperature", [0.003, 0.01, 0.07])
def test_float32_keeps_its_range(temperature: float) -> None:
    query, key, queue = unit(6, 8, 0), unit(6, 8, 1), unit(100, 8, 2)
    exact = naive(query, key, queue, temperature)
    assert torch.allclose(info_nce(query.float(), key.float(), queue.float(), temperature), exact.float(), rtol=1e-4)


def test_gradcheck() -> None:
    query, key, queue = unit(3, 4, 0).requires_grad_(), unit(3, 4, 1).requires_grad_(), unit(5, 4, 2)
    assert torch.autograd.gradcheck(lambda q, k: info_nce(q, k, queue, 0.5), (query, key))


def test_a_second_derivative_is_refused_instead_of_wrong() -> None:
    query, key, queue = unit(3, 4, 0).requires_grad_(), unit(3, 4, 1), unit(5, 4, 2)
    with pytest.raises(RuntimeError, match="info_nce: got create_graph=True"):
        torch.autograd.grad(info_nce(query, key, queue, 0.5), query, create_graph=True)


def test_equal_rows_give_the_logarithm_of_their_number() -> None:
    row = unit(1, 4, 0)
    assert info_nce(row.expand(3, 4), row.expand(3, 4), row.expand(7, 4), 0.2).item() == pytest.approx(math.log(8))


def test_the_order_of_the_queue_and_a_rotation_change_nothing() -> None:
    query, key, queue = unit(4, 6, 0), unit(4, 6, 1), unit(9, 6, 2)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    loss = info_nce(query, key, queue, 0.2)
    assert torch.allclose(loss, info_nce(query, key, queue.flip(0), 0.2))
    assert torch.allclose(loss, info_nce(query @ turn, key @ turn, queue @ turn, 0.2))


def test_the_queue_may_be_overwritten_before_the_backward_pass() -> None:
    query, key, queue = unit(4, 6, 0), unit(4, 6, 1), unit(9, 6, 2)
    gradients = []
    for overwrite in (False, True):
        q, old = query.clone().requires_grad_(), queue.clone()
        loss = info_nce(q, key, old, 0.2)
        if overwrite:
            old.zero_()
        loss.backward()
        gradients.append(q.grad)
    assert torch.equal(*gradients)


def test_nt_xent_is_info_nce_whose_queue_is_the_rest_of_the_batch() -> None:
    z1, z2 = unit(4, 5, 0), unit(4, 5, 1)
    total = torch.zeros((), dtype=torch.float64)
    for anchors, others in ((z1, z2), (z2, z1)):
        for i in range(4):
            rest = torch.cat([torch.cat([anchors[:i], anchors[i + 1 :]]), torch.cat([others[:i], others[i + 1 :]])])
            total += info_nce(anchors[i : i + 1], others[i : i + 1], rest, 0.3) / 8
    assert torch.allclose(total, nt_xent(z1, z2, temperature=0.3))


def test_moco_v3_is_info_nce_whose_queue_is_the_other_keys() -> None:
    query, key = unit(5, 6, 0), unit(5, 6, 1)
    rows = [info_nce(query[i : i + 1], key[i : i + 1], torch.cat([key[:i], key[i + 1 :]]), 0.4) for i in range(5)]
    assert torch.allclose(moco_v3(query, key, 0.4), 2 * 0.4 * torch.stack(rows).mean())
    z = query.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q: moco_v3(q, key, 0.4), (z,))


def test_moco_v3_of_equal_rows_is_a_logarithm_and_knows_no_order_or_rotation() -> None:
    same = unit(1, 6, 0).expand(5, 6)
    assert moco_v3(same, same, 0.4).item() == pytest.approx(2 * 0.4 * math.log(5))
    query, key = unit(5, 6, 0), unit(5, 6, 1)
    order = torch.tensor([3, 1, 4, 0, 2])
    turn = torch.linalg.qr(unit(6, 6, 2))[0]
    for again in (moco_v3(query[order], key[order], 0.4), moco_v3(query @ turn, key @ turn, 0.4)):
        assert again.item() == pytest.approx(moco_v3(query, key, 0.4).item(), rel=1e-12)
    assert moco_v3(7 * query, key, 0.4).item() == pytest.approx(moco_v3(query, key, 0.4).item(), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        info_nce(unit(2, 3, 0), unit(2, 3, 1), unit(2, 3, 2), temperature)
