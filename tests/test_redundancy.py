"""Barlow Twins and VICReg against loops from their papers, closed forms and invariances."""

import pytest
import torch
from torch import Tensor

from ssl_lab.losses import barlow_twins, covariance_penalty, cross_correlation, variance_hinge, vicreg

FAR = 100.0  # a scale at which the epsilon of 1e-5 in Barlow Twins' variance is out of sight


def draw(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive_barlow_twins(z1: Tensor, z2: Tensor, redundancy: float) -> Tensor:
    """Equations 1 and 2, an entry at a time."""
    a, b = z1 - z1.mean(0), z2 - z2.mean(0)
    loss = torch.zeros((), dtype=z1.dtype)
    for i in range(z1.shape[1]):
        for j in range(z1.shape[1]):
            c = (a[:, i] * b[:, j]).sum() / (a[:, i].square().sum().sqrt() * b[:, j].square().sum().sqrt())
            loss = loss + ((1 - c) ** 2 if i == j else redundancy * c**2)
    return loss


def naive_vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    n, d = z1.shape
    loss = 25 * sum((a - b) ** 2 for a, b in zip(z1.flatten(), z2.flatten(), strict=True)) / (n * d)
    for z in (z1, z2):
        for i in range(d):
            loss = loss + 25 / d * torch.clamp(1 - (z[:, i].var() + 1e-4).sqrt(), min=0)
            for j in range(d):
                if i != j:
                    covariance = ((z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())).sum() / (n - 1)
                    loss = loss + covariance**2 / d
    return torch.as_tensor(loss)


def test_barlow_twins_is_the_papers_loop() -> None:
    z1, z2 = draw(7, 4, 0), draw(7, 4, 1)
    assert torch.allclose(barlow_twins(z1, z2, 0.02), naive_barlow_twins(z1, z2, 0.02))
    assert torch.allclose(barlow_twins(z1, z2, 0.02, scale=0.1), 0.1 * naive_barlow_twins(z1, z2, 0.02))


def test_vicreg_is_the_papers_loop() -> None:
    z1, z2 = 0.5 * draw(7, 4, 0), draw(7, 4, 1)
    assert torch.allclose(vicreg(z1, z2), naive_vicreg(z1, z2))


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_gradcheck(loss: object) -> None:
    z = (0.5 * draw(5, 3, 0)).requires_grad_(), (0.5 * draw(5, 3, 1)).requires_grad_()
    assert torch.autograd.gradcheck(loss, z)


def test_a_view_that_is_its_own_twin_leaves_only_redundancy() -> None:
    z = FAR * draw(9, 3, 0)
    correlation = torch.corrcoef(z.T)
    expected = 0.005 * (correlation.square().sum() - 3)
    assert torch.allclose(barlow_twins(z, z), expected)
    white, _ = torch.linalg.qr(z - z.mean(0))
    assert barlow_twins(FAR * white, FAR * white).item() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_the_order_of_rows_and_dimensions_changes_nothing(loss: object) -> None:
    z1, z2 = draw(8, 5, 0), draw(8, 5, 1)
    rows, columns = torch.randperm(8), torch.randperm(5)
    assert torch.allclose(loss(z1, z2), loss(z1[rows][:, columns], z2[rows][:, columns]))
    assert torch.allclose(loss(z1, z2), loss(z2, z1))


def test_barlow_twins_ignores_scale_and_shift_of_a_dimension() -> None:
    z1, z2 = FAR * draw(8, 3, 0), FAR * draw(8, 3, 1)
    assert torch.allclose(barlow_twins(z1, z2), barlow_twins(3 * z1 + 5, z2 * torch.tensor([1.0, 2.0, 0.1]) - 1))


def test_the_matrix_that_is_logged_is_the_correlation() -> None:
    z1, z2 = FAR * draw(8, 3, 0), FAR * draw(8, 3, 1)
    matrix = cross_correlation(z1, z2)
    barlow_twins(z1, z2)
    assert torch.allclose(matrix, torch.corrcoef(torch.cat([z1, z2], 1).T)[:3, 3:])


def test_vicregs_terms_by_hand() -> None:
    z = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert variance_hinge(z).item() == 0  # the variance is 2
    assert covariance_penalty(z).item() == pytest.approx((2 * 2**2) / 2)
    assert variance_hinge(torch.zeros(3, 2)).item() == pytest.approx(1 - 0.01)
    assert vicreg(z, z, variance=0, covariance=0).item() == 0


def test_vicregs_covariance_is_barlow_twins_redundancy_on_standardised_views() -> None:
    z = draw(10, 4, 0)
    z = (z - z.mean(0)) / z.std(0)
    assert torch.allclose(covariance_penalty(z) * 4, barlow_twins(FAR * z, FAR * z, redundancy=1.0))


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_one_row_is_refused(loss: object) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size"):
        loss(draw(1, 3, 0), draw(1, 3, 1))
