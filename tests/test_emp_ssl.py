"""EMP-SSL: the loss by hand and in float64, the widened backbone, and an image as a bag of patches."""

import pytest
import torch
from pictures import Images
from test_protocols import subject

from ssl_lab.evaluation import RawPixels, bag
from ssl_lab.evaluation.bag import BagOfPatches
from ssl_lab.losses import coding_rate, emp_ssl
from ssl_lab.nn import ConvNet, Encoder, Widened


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 6), (4, 4)])
def test_the_coding_rate_is_that_of_the_eigenvalues(n: int, d: int) -> None:
    z = rows(n, d)
    values = torch.linalg.eigvalsh(z.T @ z)
    expected = (1 + d / (n * 0.2) * values).log().sum() / 2
    assert torch.allclose(coding_rate(z, 0.2), expected)


def test_the_coding_rate_of_orthonormal_rows_in_closed_form() -> None:
    z = torch.eye(4, dtype=torch.float64)
    assert coding_rate(z, 0.5).item() == pytest.approx(4 / 2 * torch.tensor(3.0).log().item())
    collapsed = torch.ones(4, 4, dtype=torch.float64) / 2
    assert coding_rate(collapsed) < coding_rate(z)


def naive(patches: list[torch.Tensor], similarity: float, epsilon: float) -> torch.Tensor:
    patches = [z / z.norm(dim=1, keepdim=True) for z in patches]
    n, d = patches[0].shape
    total = torch.zeros((), dtype=torch.float64)
    for z in patches:
        total -= torch.logdet(torch.eye(d, dtype=z.dtype) + d / (n * epsilon) * z.T @ z) / 2 / len(patches)
        for i in range(n):
            mean = sum(other[i] for other in patches) / len(patches)
            total -= similarity * (z[i] @ mean / mean.norm()) / (n * len(patches))
    return total


@pytest.mark.parametrize("count", [2, 5])
def test_emp_ssl_is_the_papers_loop(count: int) -> None:
    patches = [rows(6, 4, seed) for seed in range(count)]
    assert torch.allclose(emp_ssl(*patches), naive(patches, 200.0, 0.2))
    assert torch.allclose(emp_ssl(*patches, similarity=3.0, epsilon=0.7), naive(patches, 3.0, 0.7))


def test_emp_ssl_sees_no_order_no_scale_and_no_turn() -> None:
    patches = [rows(6, 4, seed) for seed in range(3)]
    turn = torch.linalg.qr(rows(4, 4, 9))[0]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for changed in ([patches[i] for i in (2, 0, 1)], [z[order] for z in patches], [z @ turn for z in patches],
                    [7 * z for z in patches]):  # fmt: skip
        assert torch.allclose(emp_ssl(*changed), emp_ssl(*patches))


def test_emp_ssl_has_the_gradient_of_its_value() -> None:
    patches = [rows(5, 4, seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda *z: emp_ssl(*z), patches)


def test_an_epsilon_that_divides_by_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method\.loss\.epsilon"):
        coding_rate(rows(3, 3), 0.0)


def test_a_widened_backbone_is_a_backbone() -> None:
    backbone = Widened(ConvNet([8, 8]), 32).eval()
    images = torch.rand(2, 3, 16, 16)
    backbone.fit(images.expand(2, 3, 16, 16))
    assert backbone(images).shape == (2, backbone.num_features) == (2, 32)
    assert (backbone(images) >= 0).all()
    assert [m.shape[1] for m in backbone.stages(images)] == backbone.stage_channels == [8, 8]
    assert backbone.backbone.stem.weight.abs().sum() > 0


def test_a_bag_of_whole_images_is_the_image() -> None:
    encoder = Encoder(ConvNet([8, 8])).eval()
    images = Images(6, 0, size=16).images
    whole = BagOfPatches(encoder, 1, 1.0, 16, seed=0).eval()
    flipped = torch.minimum(
        (whole(images) - encoder(images)).abs().amax(1), (whole(images) - encoder(images.flip(3))).abs().amax(1)
    )
    assert flipped.max() < 1e-5
    several = BagOfPatches(encoder, 8, 0.25, 16, seed=0).eval()
    assert torch.equal(several(images), several(images))
    assert not torch.allclose(several(images), encoder(images), atol=1e-4)


def test_the_bag_protocol_says_how_many_patches_it_saw() -> None:
    found = bag(subject(RawPixels()), patches=3)
    assert found.settings["views"] == "3 patches"
    assert found.figures["top1"] > 0.5
