"""Two processes compute what one process computes."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ssl_lab.distributed import gather
from ssl_lab.losses import nt_xent


def loss_and_gradient(world_size: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one weight shared by all, on this process' rows; the gradient averaged over processes, as DDP does."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 8, 5, dtype=torch.float64, generator=generator)
    weight = torch.randn(5, 4, dtype=torch.float64, generator=generator).requires_grad_()
    share = 8 // world_size
    views = inputs[:, rank * share : (rank + 1) * share] @ weight
    loss = nt_xent(*[gather(view) for view in views], temperature=0.2)
    loss.backward()
    assert weight.grad is not None
    if world_size > 1:
        dist.all_reduce(weight.grad)
        weight.grad /= world_size
    return loss.detach(), weight.grad


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    torch.save(loss_and_gradient(world_size, rank), os.path.join(folder, f"{rank}.pt"))  # noqa: PTH118
    dist.destroy_process_group()


def test_the_gathered_loss_and_its_gradient_are_those_of_one_process(tmp_path: Path) -> None:
    mp.spawn(work, args=(2, str(tmp_path)), nprocs=2)
    loss, gradient = loss_and_gradient(1, 0)
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.allclose(loss, theirs[0], rtol=1e-12)
        assert (gradient - theirs[1]).norm() / gradient.norm() <= 1e-10
