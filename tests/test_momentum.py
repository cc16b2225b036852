"""What MoCo stands on: the queue, the teacher, batch norm in parts, and their order within a step."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Command
from torch import Tensor, nn

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.methods import MoCo
from ssl_lab.nn import ConvNet, Queue, SplitBatchNorm, Teacher, split_batch_norms
from ssl_lab.pretrain import pretrain

PREPROCESSING = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize": None, "crop": None}


def images(n: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def moco(name: str = "moco_v2", *overrides: str) -> MoCo:
    torch.manual_seed(0)
    config, _ = recipes.compose(
        "train", [f"method={name}", "backbone=resnet18", "method.backbone.width=0.125", *overrides]
    )
    method: MoCo = build(config["method"], preprocessing=PREPROCESSING, seed=0)
    return method


def rows(first: int, n: int, width: int = 3) -> Tensor:
    """Rows that tell their number by their direction."""
    angle = torch.arange(first, first + n) / 10
    return F.pad(torch.stack([angle.cos(), angle.sin()], 1), (0, width - 2))


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 12])
def test_a_queue_holds_the_last_keys_whatever_the_batch(batch: int) -> None:
    queue = Queue(5, 3)
    for step in range(9):
        queue.push(rows(step * batch, batch))
    newest = rows(9 * batch - 5, 5)
    order = [(9 * batch - 5 + i) % 5 for i in range(5)]
    assert torch.allclose(queue.keys[order], newest)


def test_keys_in_the_queue_have_length_one_from_the_start() -> None:
    queue = Queue(6, 3)
    queue.push(7 * rows(0, 4))
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(6))


def test_the_queue_is_read_before_it_is_written() -> None:
    method = moco()
    before, seen = method.queue.keys.clone(), []
    loss = method.loss
    method.loss = lambda q, k, queue: seen.append(queue.clone()) or loss(q, k, queue)
    method.step(images(), Draws(0, 0, 16))
    assert torch.equal(seen[0], before)
    assert not torch.equal(method.queue.keys, before)
    assert (method.queue.keys[16:] == before[16:]).all()


def test_a_symmetric_step_scores_no_key_among_its_own_negatives() -> None:
    method = moco("moco_v2_symmetric")
    seen: list[Tensor] = []
    loss = method.loss
    method.loss = lambda q, k, queue: seen.append(queue.clone()) or loss(q, k, queue)
    method.step(images(), Draws(0, 0, 16))
    assert torch.equal(*seen)
    assert int(method.queue.position) == 32


@pytest.mark.parametrize(("name", "pairs"), [("moco_v2", 1), ("moco_v2_symmetric", 2), ("moco_v3", 2)])
def test_a_query_meets_the_teachers_key_of_the_other_view(name: str, pairs: int) -> None:
    """Keys carry no gradient; the mean of a symmetric MoCo's two losses, the sum of MoCo v3's."""
    method: Any = moco(name, *(["method.splits=1"] if name != "moco_v3" else []))
    asked, queries, losses = [], [], []
    loss, network = method.loss, getattr(method, "predictor", method.projector)

    def recorded(query: Tensor, key: Tensor, *queue: Tensor) -> Tensor:
        asked.append((query, key))
        losses.append(loss(query, key, *queue))
        return losses[-1]

    network.register_forward_hook(lambda _module, _given, made: queries.append(made))
    method.loss = recorded
    views = [method.encoder.normalize(view) for view in method.views(images(), Draws(0, 0, 16))]
    keys = [method.teacher(view) for view in views]
    assert not torch.allclose(*keys)
    step = method.step(images(), Draws(0, 0, 16))
    assert len(asked) == pairs
    for (query, key), own, other in zip(asked, queries, reversed(keys), strict=False):
        assert query.requires_grad
        assert torch.equal(query, own)
        assert not key.requires_grad
        assert torch.allclose(key, other, atol=1e-6)
    both = torch.stack(losses).detach()
    assert step.loss.item() == pytest.approx(float(both.sum() if name == "moco_v3" else both.mean()), rel=1e-6)
    step.loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_queries_are_made_of_the_first_view_first() -> None:
    for name in ("moco_v2", "moco_v2_symmetric", "moco_v3"):
        method: Any = moco(name, *(["method.splits=1"] if name != "moco_v3" else []))
        seen: list[Tensor] = []
        method.encoder.backbone.register_forward_pre_hook(lambda _module, given, seen=seen: seen.append(given[0]))
        views = [method.encoder.normalize(view) for view in method.views(images(), Draws(0, 0, 16))]
        method.step(images(), Draws(0, 0, 16))
        assert all(torch.equal(own, view) for own, view in zip(seen, views, strict=False))
        assert len(seen) == (1 if name == "moco_v2" else 2)


def test_the_teacher_moves_its_parameters_and_keeps_its_own_buffers() -> None:
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    teacher = Teacher(student)
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
        student[1].running_mean.add_(5)
    teacher.move([student], momentum=0.9)
    for now, then in zip(teacher.parameters(), before, strict=True):
        assert torch.allclose(now, then + 0.1)
    assert teacher.networks[0][1].running_mean.abs().sum() == 0


def test_the_teacher_starts_as_the_student_stands_after_it_saw_the_data() -> None:
    torch.manual_seed(0)
    config, _ = recipes.compose("train", ["method=moco_v2", "backbone=convnet"])
    method: MoCo = build(config["method"], preprocessing=PREPROCESSING, seed=0)
    method.prepare(images())
    (backbone, _) = method.teacher.networks
    assert isinstance(backbone, ConvNet)
    assert isinstance(method.encoder.backbone, ConvNet)
    assert torch.equal(backbone.stem.weight, method.encoder.backbone.stem.weight)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_teacher_moves_once_an_update(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    moves: list[float] = []
    monkeypatch.setattr(Teacher, "move", lambda self, students, momentum: moves.append(momentum))
    arguments = [*TINY, "method=moco_v3", "trainer.max_epochs=1", "probe=none", f"paths.out={tmp_path}"]
    cached = f"paths.cache={cache}"
    pretrain(*recipes.compose("train", [*arguments, cached, f"trainer.accumulate_grad_batches={accumulate}"]))
    assert len(moves) == 20 // accumulate
    updates = len(moves)
    expected = [1 - 0.01 * (1 + math.cos(math.pi * i / updates)) / 2 for i in range(updates)]
    assert moves == pytest.approx(expected, abs=1e-9)


def test_what_a_run_has_to_be_told_is_printed(command: Command) -> None:
    """Batch norm's parts, a queue longer than the data, and what accumulating does not do."""
    words = [*TINY, "trainer.max_steps=1", "probe=none", "health=none", "trainer.accumulate_grad_batches=2"]
    for method, told in (
        ("moco_v2", ["batch norm in 8 parts", "set method.queue_size to 647 or less", "method.microbatch"]),
        ("simclr", ["method.microbatch"]),
    ):
        done = command("train", *words, f"method={method}")
        assert done.returncode == 0, done.stderr
        notes = [line for line in done.stdout.splitlines() if line.startswith("note")]
        assert all(any(part in note for note in notes) for part in told), done.stdout


def test_mocos_momentum_stays_or_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[float] = []
    monkeypatch.setattr(Teacher, "move", lambda self, students, momentum: moves.append(momentum))
    moco("moco_v2").after_update()
    rising = moco("moco_v2", "+method.momentum_end=0.999")
    for progress in (0.0, 0.25, 0.5, 1.0):
        monkeypatch.setattr(type(rising), "progress", progress)
        rising.after_update()
    quarter = 0.999 - 0.009 * (1 + math.sqrt(0.5)) / 2
    assert moves == pytest.approx([0.99, 0.99, quarter, 0.9945, 0.999])


def test_a_split_batch_norm_is_plain_batch_norm_of_each_part() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(8, 3, 4, 4, dtype=torch.float64) + torch.arange(8).view(8, 1, 1, 1)
    split = SplitBatchNorm(3, splits=2).double()
    plain = nn.BatchNorm2d(3).double()
    assert torch.allclose(split(inputs), torch.cat([plain(inputs[:4]), plain(inputs[4:])]))
    assert int(split.num_batches_tracked) == 1
    one = SplitBatchNorm(3, splits=2).double()
    one(torch.cat([inputs[:4], inputs[:4]]))
    whole = nn.BatchNorm2d(3).double()
    whole(inputs[:4])
    assert torch.allclose(one.running_mean, whole.running_mean)  # two alike move it as one
    split.eval()
    assert torch.equal(
        split(inputs), F.batch_norm(inputs, split.running_mean, split.running_var, split.weight, split.bias)
    )


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_parts_of_a_split_batch_norm_laid_side_by_side_are_those_taken_in_turn(
    shape: tuple[int, ...], affine: bool
) -> None:
    """On a GPU they are laid side by side; the channels stay last where they were."""
    norm = SplitBatchNorm(3, splits=2, affine=affine).double()
    if affine:
        nn.init.normal_(norm.weight)
    given = torch.randn(shape, dtype=torch.float64) + torch.arange(8).view(8, *[1] * (len(shape) - 1))
    if len(shape) == 4:
        given = given.to(memory_format=torch.channels_last)
    toward, found = torch.randn(shape, dtype=torch.float64), []
    for way in (norm.in_turn, norm.side_by_side):
        inputs = given.clone().requires_grad_()
        normalised, means, variances = way(inputs, 2)
        assert len(shape) == 2 or normalised.is_contiguous(memory_format=torch.channels_last)
        gradients = torch.autograd.grad((normalised * toward).sum(), [inputs, *norm.parameters()])
        found.append([normalised, means, variances, *gradients])
    torch.testing.assert_close(*found)
    assert not torch.equal(found[0][1][0], found[0][1][1])


def test_splitting_keeps_parameters_and_their_names() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3)))
    names = list(network.state_dict())
    split_batch_norms(network, 2)
    assert list(network.state_dict()) == names
    assert sum(isinstance(module, SplitBatchNorm) for module in network.modules()) == 2
    with pytest.raises(ValueError, match="multiple of 2"):
        network(torch.randn(5, 2))


def test_shuffled_keys_come_back_in_the_order_of_their_queries() -> None:
    method = moco()
    method.teacher.eval()  # then batch norm cannot tell the order
    views = method.encoder.normalize(images().float() / 255)
    keys = method.keys(views, torch.randperm(16))
    assert torch.allclose(keys, method.teacher(views), atol=1e-5)
    method.teacher.train()
    assert not torch.allclose(method.keys(views, torch.randperm(16)), method.keys(views, torch.arange(16)), atol=1e-4)


@pytest.mark.parametrize(
    ("batch", "processes", "said"),
    [(100, 1, "data.batch_size to 104"), (64, 3, "method.splits=8: .* set it to 9"), (40, 12, "data.batch_size to 48")],
)
def test_a_batch_that_the_parts_do_not_divide_is_refused(batch: int, processes: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        moco().check(batch, processes)
    for fits in ((64, 1), (64, 2), (64, 8), (64, 16)):
        moco().check(*fits)
    moco("moco_v2", "method.splits=1").check(batch, processes)


def test_a_refused_batch_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size to 72"):
        pretrain(*recipes.compose("train", [*TINY, "method=moco_v2", "data.batch_size=66", f"paths.out={tmp_path}"]))
    assert not list(tmp_path.iterdir())


def test_moco_v2_adds_the_cosine() -> None:
    rates = [[moco(name).optim.factor(step, 100, 0) for step in (0, 59, 60, 80)] for name in ("moco_v1", "moco_v2")]
    assert rates[0] == pytest.approx([1, 1, 0.1, 0.01])
    assert rates[1] == pytest.approx([(1 + math.cos(math.pi * step / 100)) / 2 for step in (0, 59, 60, 80)])


def test_a_queue_as_long_as_the_set_is_warned_of() -> None:
    assert any("method.queue_size" in remark for remark in moco().remarks(4096, 1))
    assert not any("method.queue_size" in remark for remark in moco().remarks(50_000, 1))
    assert any("8 parts" in remark for remark in moco().remarks(50_000, 1))


@pytest.mark.parametrize("name", ["moco_v2", "moco_v3"])
def test_more_views_than_a_query_and_a_key_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"method\.views\.count"):
        moco(name, "views=simclr_cifar_4x20")
