"""NT-Xent against the paper's sum, closed forms, invariances and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lab.losses import contrastive, nt_xent


def draw_views(count: int, n: int, d: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, d, generator=generator, dtype=dtype).requires_grad_() for _ in range(count)]


def paper_loop(views: list[Tensor], temperature: float) -> Tensor:
    """arXiv 2002.05709, eq. 1: the mean of l(i, p) over every anchor i and every other view p of the same image."""
    n = len(views[0])
    z = torch.cat(views)
    losses = []
    for i in range(len(z)):
        similarity = [F.cosine_similarity(z[i], z[j], dim=0) / temperature for j in range(len(z))]
        denominator = sum(similarity[j].exp() for j in range(len(z)) if j != i)
        for p in range(i % n, len(z), n):
            if p != i:
                losses.append(-torch.log(similarity[p].exp() / denominator))
    return torch.stack(losses).mean()


def naive(views: list[Tensor], temperature: float) -> Tensor:
    """The same with the whole matrix."""
    n, k = len(views[0]), len(views)
    z = F.normalize(torch.cat(views), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    same_image = torch.eye(n, dtype=torch.bool).repeat(k, k).fill_diagonal_(False)
    return -logits.log_softmax(dim=1)[same_image].mean()


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got.double() - expected).norm() / expected.norm()).item()


def assert_equals_naive(views: list[Tensor], temperature: float, tolerance: float) -> None:
    exact = [view.detach().double().requires_grad_() for view in views]
    got, expected = nt_xent(*views, temperature=temperature), naive(exact, temperature)
    assert relative_error(got, expected) < tolerance
    gradients = zip(torch.autograd.grad(got, views), torch.autograd.grad(expected, exact), strict=True)
    assert all(relative_error(*pair) < tolerance for pair in gradients)


@pytest.fixture(params=[1, 3, 1024])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows of a block: the smallest, one that leaves a remainder, and one that holds the whole batch."""
    monkeypatch.setattr(contrastive, "_CPU_BLOCK", request.param)
    return int(request.param)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [2, 3])
def test_equals_the_loop_of_the_paper(count: int, temperature: float) -> None:
    views = draw_views(count, 5, 4)
    torch.testing.assert_close(nt_xent(*views, temperature=temperature), paper_loop(views, temperature))
    torch.testing.assert_close(naive(views, temperature), paper_loop(views, temperature))


@pytest.mark.parametrize("temperature", [0.5, 0.02, 0.002, 1e-4])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.usefixtures("block")
def test_blocks_leave_value_and_gradient_as_they_are(count: int, temperature: float) -> None:
    assert_equals_naive(draw_views(count, 7, 4), temperature, tolerance=1e-10)


@pytest.mark.parametrize("block", [200, 1024], indirect=True)
@pytest.mark.parametrize("temperature", [0.5, 0.1, 0.05])
@pytest.mark.usefixtures("block")
def test_float32_is_within_1e_5_of_the_naive_form(temperature: float) -> None:
    assert_equals_naive(draw_views(2, 300, 128, torch.float32), temperature, tolerance=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.001])
def test_tiny_temperatures_stay_finite_and_right_in_float32(temperature: float) -> None:
    # the cosine itself is known to 6e-8, which the division by T enlarges
    assert_equals_naive(draw_views(2, 50, 8, torch.float32), temperature, tolerance=1e-6 / temperature)


def test_tiny_temperature_with_an_anchor_opposite_to_all_others() -> None:
    # exp(-1 / T) is 0 in float32 and exp(1 / T) infinite: the lone anchor's sum must survive beside the others'
    z1, z2 = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    expected = (math.log(3) + 3 * math.log(2) + 2 / 0.005) / 4
    torch.testing.assert_close(nt_xent(z1, z2, temperature=0.005), torch.tensor(expected))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("temperature", [0.5, 0.002])
@pytest.mark.usefixtures("block")
def test_gradcheck(count: int, temperature: float) -> None:
    views = draw_views(count, 4, 3)
    assert torch.autograd.gradcheck(lambda *z: nt_xent(*z, temperature=temperature), views, eps=1e-7, rtol=1e-3)


def test_only_some_views_need_gradient() -> None:
    z1, z2 = draw_views(2, 5, 4)
    (expected, _) = torch.autograd.grad(nt_xent(z1, z2), [z1, z2])
    (got,) = torch.autograd.grad(nt_xent(z1, z2.detach()), [z1])
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_second_derivative_is_refused() -> None:
    views = draw_views(2, 5, 4)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(nt_xent(*views), views, create_graph=True)


@pytest.mark.parametrize(("count", "n"), [(2, 1), (2, 9), (3, 1), (4, 5)])
def test_equal_embeddings_give_the_log_of_the_number_of_others(count: int, n: int) -> None:
    same = [torch.ones(n, 6, dtype=torch.float64)] * count
    torch.testing.assert_close(nt_xent(*same), torch.tensor(math.log(count * n - 1), dtype=torch.float64))


def test_orthogonal_images_give_the_closed_form() -> None:
    z = torch.eye(4, dtype=torch.float64)  # one positive at cosine 1, six others at cosine 0
    expected = math.log(math.exp(1 / 0.5) + 6) - 1 / 0.5
    torch.testing.assert_close(nt_xent(z, z, temperature=0.5), torch.tensor(expected, dtype=torch.float64))


def test_one_image_has_nothing_to_tell_apart() -> None:
    views = draw_views(2, 1, 4)
    loss = nt_xent(*views)
    torch.testing.assert_close(loss, torch.zeros_like(loss))
    assert all(gradient.abs().max() < 1e-12 for gradient in torch.autograd.grad(loss, views))


def test_order_rotation_and_scale_do_not_matter() -> None:
    views = draw_views(3, 8, 5)
    loss = nt_xent(*views)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    rotation = torch.linalg.qr(draw_views(1, 5, 5)[0]).Q
    scale = torch.linspace(0.1, 10, 8, dtype=torch.float64)[:, None]
    torch.testing.assert_close(nt_xent(*[z[order] for z in views]), loss)
    torch.testing.assert_close(nt_xent(*reversed(views)), loss)
    torch.testing.assert_close(nt_xent(*[z @ rotation for z in views]), loss)
    torch.testing.assert_close(nt_xent(*[z * scale for z in views]), loss)


def test_the_wrong_partner_costs() -> None:
    z1, z2 = draw_views(2, 8, 5)
    assert nt_xent(z1, z1.roll(1, dims=0)) > nt_xent(z1, z2) > nt_xent(z1, z1)


@pytest.mark.parametrize("temperature", [0.5, 0.01])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_input_is_not_hidden(value: float, temperature: float) -> None:
    z1, z2 = (z.detach() for z in draw_views(2, 5, 4, torch.float32))
    z1[2, 1] = value
    assert nt_xent(z1, z2, temperature=temperature).isnan()


@pytest.mark.parametrize(
    "shapes", [[], [(4, 3)], [(4, 3), (5, 3)], [(4, 3), (4, 2)], [(4, 3), (4, 3), (1, 3)], [(0, 3)] * 2]
)
def test_views_that_do_not_fit_are_refused(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"nt_xent: got .*projections.*needs"):
        nt_xent(*[torch.ones(shape) for shape in shapes])


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan, math.inf])
def test_a_temperature_that_is_no_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="needs 0 < temperature"):
        nt_xent(*draw_views(2, 4, 3), temperature=temperature)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive, "_ACCELERATOR_BLOCK", 300)
    views = draw_views(2, 700, 128, torch.float32)
    here = torch.autograd.grad(nt_xent(*views), views)
    there = torch.autograd.grad(nt_xent(*[view.cuda() for view in views]), views)
    assert all(relative_error(*pair) < 1e-4 for pair in zip(there, here, strict=True))
