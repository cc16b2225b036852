"""What can be shown of training on a GPU where there is none; tests/pretended_gpu.py says how."""

import pytest
import torch
from hydra.utils import instantiate
from pictures import Images
from pretended_gpu import GPU, Pretended, pretended_gpu, send

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.evaluation import Sets, Subject
from ssl_lab.hardware import Hardware
from ssl_lab.nn import ConvNet, Encoder
from ssl_lab.views import views as module

UNITS = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize": None, "crop": None}


def images(n):
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def method(name):
    config, _ = recipes.compose("train", [f"method={name}", "backbone=resnet18_quarter", "data.store_size=32"])
    torch.manual_seed(0)
    made = build(config["method"], preprocessing=UNITS, seed=0)
    made.prepare(images(64))
    return made


@pytest.mark.parametrize("name", recipes.options()["method"])
def test_a_step_stays_on_the_gpu_and_never_waits_for_it(name):
    here, moved = method(name), method(name)
    n = max(16, here.fewest_rows)
    expected = here.step(images(n), Draws(0, 0, n)).loss
    expected.backward()
    with pretended_gpu() as waits:
        send(moved)
        loss = moved.step(images(n).to(GPU), Draws(0, 0, n)).loss
        loss.backward()
        assert not waits
    torch.testing.assert_close(loss.inner, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(here.parameters(), moved.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            # Parts of a batch laid side by side round otherwise, and a unit near zero then turns on or off.
            allowed = 3e-2 if getattr(here, "splits", 1) > 1 else 1e-3
            assert (other.grad.inner - one.grad).norm() <= allowed * one.grad.norm()


SMALL = {
    "epochs": 1,
    "k": 5,
    "draws": 1,
    "rates": [0.03],
    "amounts": [5],
    "amount": 5,
    "max_iterations": 5,
    "min_steps": 0,
}


@pytest.mark.parametrize("name", [name for name in recipes.options()["protocol"] if "segment" not in name])
def test_a_protocol_brings_all_it_needs_to_the_gpu(name):
    node = recipes.compose("evaluate", ["run=run", f"protocol={name}"])[0]["protocols"][name]
    protocol = instantiate(node | {key: value for key, value in SMALL.items() if key in node}, _partial_=True)
    train = Images(120, 0, size=16)
    sets = Sets(train, train, Images(30, 1, size=16), Images(60, 2, size=16), ["a", "b", "c"])
    torch.manual_seed(0)
    encoder = Encoder(ConvNet())
    with pretended_gpu():
        send(encoder)
        subject = Subject(encoder, sets, GPU, batch_size=32)
        assert protocol(subject).figures
        assert isinstance(subject.features(sets.test), Pretended)


def test_the_pretended_gpu_refuses_the_processors_tensors_and_notes_what_waits():
    with pretended_gpu() as waits:
        one = torch.ones(3, device=GPU)
        assert isinstance(one, Pretended)
        with pytest.raises(RuntimeError, match="of the GPU and of the processor"):
            one + torch.ones(3)
        assert not waits
        one.cpu(), one.sum().item(), one[one > 0]
        assert len(waits) == 3


def test_views_of_one_policy_made_at_once_are_those_made_one_by_one(monkeypatch):
    views = method("simclr").views
    apart = views(images(6), Draws(0, 0, 6), count=3)
    monkeypatch.setattr(module, "APART", set())
    together = views(images(6), Draws(0, 0, 6), count=3)
    assert len(together) == 3
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6)


def test_the_device_of_a_gpu_has_the_number_that_lightning_wants():
    assert Hardware("gpu", 1, "32-true", "contiguous").device == torch.device("cuda", 0)
    assert Hardware("cpu", 1, "32-true", "contiguous").device == torch.device("cpu")
