"""Several processes compute what one process computes, batch norm included."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import TINY, Command
from torch import Tensor, nn

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.distributed import averages, gather, largest, place, total
from ssl_lab.draws import Draws
from ssl_lab.methods import Method
from ssl_lab.nn import SharedBatchNorm, share_batch_norms, split_batch_norms
from ssl_lab.records import HashedCheckpointIO, find_run, read_metrics

METHODS = recipes.options()["method"]
ROWS, UPDATES = 16, 5


def train(name: str, rank: int, world_size: int, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Losses of five updates, the first gradient, and all tensors after them; gradients are averaged as DDP does."""
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    words = ["data=digits", "backbone=convnet", "method.backbone.widths=[8,8]", f"method={name}"]
    words += ["method.splits=4", "method.queue_size=24"] if name.startswith(("moco_v1", "moco_v2")) else []
    config, _ = recipes.compose("train", words)
    method: Method = build(config["method"], preprocessing={"mean": [0.5] * 3, "std": [0.25] * 3}, seed=0).to(dtype)
    images = torch.randint(0, 256, (ROWS, 3, 32, 32), dtype=torch.uint8)
    method.prepare(images)
    if world_size > 1:
        share_batch_norms(method)
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=1e-3)
    mine = slice(rank * ROWS // world_size, (rank + 1) * ROWS // world_size)
    losses, first = [], torch.tensor([])
    for counter in range(UPDATES):
        loss = method.step(images[mine], Draws(0, counter, ROWS, mine.start, mine.stop)).loss
        optimizer.zero_grad()
        loss.backward()
        for parameter in learned:
            assert parameter.grad is not None
            if world_size > 1:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size
        if counter == 0:
            first = torch.cat([p.grad.flatten() for p in learned if p.grad is not None])
        optimizer.step()
        method.after_update()
        losses.append(averages({"loss": loss.item()})["loss"])
    tensors = [tensor.flatten().double() for tensor in method.state_dict().values()]
    torch.set_default_dtype(torch.float32)
    return {"losses": torch.tensor(losses, dtype=torch.float64), "gradient": first, "tensors": torch.cat(tensors)}


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    Method.progress = property(lambda _: 0.5)  # type: ignore[assignment]  # without a trainer to tell
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    assert largest(rank, 5 - rank) == [world_size - 1, 5]
    rows = torch.full((1, 2), float(rank))
    assert gather(rows)[:, 0].tolist() == list(range(world_size))
    assert total(rows)[0, 0] == sum(range(world_size))
    exact = {name: train(name, rank, world_size) for name in METHODS}
    single = {name: train(name, rank, world_size, torch.float32) for name in METHODS}
    torch.save((exact, single), os.path.join(folder, f"{rank}.pt"))  # noqa: PTH118
    dist.destroy_process_group()


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_method_learns_the_same_in_several_processes(
    world_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mp.spawn(work, args=(world_size, str(tmp_path)), nprocs=world_size)
    monkeypatch.setattr(Method, "progress", property(lambda _: 0.5))
    for name in METHODS:
        alone, single = train(name, 0, 1), train(name, 0, 1, torch.float32)
        for rank in range(world_size):
            theirs, their_single = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
            for what, value in alone.items():
                assert relative(theirs[name][what], value) <= 1e-10, (name, rank, what)
            assert relative(their_single[name]["losses"][:1], single["losses"][:1]) <= 1e-5, (name, rank)
            assert relative(their_single[name]["gradient"], single["gradient"]) <= 1e-3, (name, rank)


def test_a_shared_batch_norm_is_batch_norm_in_one_process() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(5 * 9, affine=False)).double()
    shared = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(5 * 9, affine=False)).double()
    share_batch_norms(shared)
    assert [type(module) for module in shared][::3] == [SharedBatchNorm] * 2
    for _ in range(2):
        images = torch.randn(8, 5, 3, 3, dtype=torch.float64)
        assert torch.allclose(plain(images), shared(images))
    assert plain.state_dict().keys() == shared.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor.double(), shared.state_dict()[name].double()), name
    assert torch.allclose(plain.eval()(images), shared.eval()(images))


@pytest.mark.parametrize("exchange", [share_batch_norms, lambda network: split_batch_norms(network, 1)])
def test_an_exchanged_batch_norm_keeps_the_activation_that_timm_puts_into_it(exchange: Any) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("efficientnet_b0", num_classes=0).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for mode in (False, True):
        network.train(mode)
        torch.manual_seed(0)
        before = network(images)
        exchanged = exchange(timm.create_model("efficientnet_b0", num_classes=0).double().train(mode))
        exchanged.load_state_dict(network.state_dict())
        torch.manual_seed(0)
        assert torch.allclose(exchanged(images), before)


def test_a_run_of_two_processes_ends_with_the_weights_of_one(command: Command, tmp_path: Path) -> None:
    """The whole way, with Lightning's DDP: in float64, to rounding; and the same folder finds the run again."""
    words = ["data=digits", "backbone=convnet", "method.backbone.widths=[8,8]", "logger=none", "data.batch_size=64"]
    words += ["trainer.max_epochs=1", "trainer.precision=64-true", "method=moco_v2", "method.queue_size=128"]
    assert command("train", *words, "paths.out=one").returncode == 0
    both = [*words, "paths.out=two", "trainer=ddp", "trainer.devices=2"]
    assert command("train", *both).returncode == 0
    one, two = find_run(tmp_path / "one"), find_run(tmp_path / "two")
    assert one.path.name == two.path.name
    assert (one.record["images_seen"], two.record["status"]) == (two.record["images_seen"], "finished")
    a, b = (
        HashedCheckpointIO().load_checkpoint(max(run.checkpoints.glob("*.ckpt")))["state_dict"] for run in (one, two)
    )
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.allclose(tensor, b[name], rtol=1e-8, atol=1e-10), name
    assert "is finished" in command("train", *both).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer=torchrun"], "torchrun --nproc-per-node"),
        (["trainer=slurm"], "python -m ssl_lab.train trainer=slurm"),
        (["trainer=ddp", "trainer.accelerator=cpu"], "set trainer.devices=2"),
        (["trainer.devices=3", "data.batch_size=64"], "set it to 66"),
    ],
)
def test_what_cannot_start_several_processes_is_refused(words: list[str], said: str, command: Command) -> None:
    refused = command("train", "data=digits", *words)
    assert refused.returncode == 2
    assert said in refused.stderr


def test_ranks_left_over_in_the_environment_change_nothing(
    process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    done = process("train", *TINY, "trainer.max_steps=10", "probe=none", "paths.out=runs")
    assert done.returncode == 0, done.stderr
    assert "finished in" in done.stdout
    assert next(line["step"] for line in read_metrics(find_run(tmp_path / "runs").metrics_file)) == 10


def test_a_place_is_read_from_the_launcher_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert place("torchrun") == (3, 8, 4)
    assert place("local") == (0, 1, 1)  # left over from elsewhere, and forgotten
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT"} & set(os.environ)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(ValueError, match="add trainer=torchrun"):
        place("local")
    for name, value in {
        "SLURM_PROCID": "5",
        "SLURM_NTASKS": "8",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
    }.items():
        monkeypatch.setenv(name, value)
    assert place("slurm") == (5, 8, 4)
    monkeypatch.setenv("SLURM_NTASKS", "7")
    with pytest.raises(ValueError, match="equally many"):
        place("slurm")
