"""The only file that imports torch.distributed: who am I, what do the others hold, and how they are started."""

import inspect
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """Which of the processes this one is, as its launcher says before they know each other."""

    rank: int = 0
    size: int = 1  # processes of all machines
    here: int = 1  # processes of this machine

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0


def place(launcher: str) -> Place:
    """What the environment says of this process: by `torchrun`, by `slurm`, or nothing when it is `local`.

    Variables that a local run finds left over are forgotten, since libraries would believe them. Raises ValueError
    when the launcher is another than was told.
    """
    found = os.environ
    if launcher == "torchrun":
        if not {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= set(found):
            raise ValueError(
                "trainer=torchrun: torchrun has not started this process; give "
                "`torchrun --nproc-per-node=N -m ssl_lab.train trainer=torchrun …`, or trainer=ddp trainer.devices=N"
            )
        return _even(Place(int(found["RANK"]), int(found["WORLD_SIZE"]), int(found["LOCAL_WORLD_SIZE"])))
    if launcher == "slurm":
        if not {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_NTASKS_PER_NODE"} <= set(found):
            raise ValueError(
                "trainer=slurm: srun has not started this process with --ntasks-per-node; give `srun "
                "--ntasks-per-node=8 python -m ssl_lab.train trainer=slurm …` within the allocation, one task a device"
            )
        size = int(found["SLURM_NTASKS"])
        return _even(Place(int(found["SLURM_PROCID"]), size, -(-size // int(found["SLURM_NNODES"]))))
    if "TORCHELASTIC_RUN_ID" in found:
        raise ValueError("torchrun has started this process: add trainer=torchrun to the command")
    for name in _BY_TORCHRUN:
        found.pop(name, None)
    return Place()


def _even(place: Place) -> Place:
    if place.size % place.here:
        raise ValueError(
            f"{place.size} processes do not divide into {place.here} on each machine: start equally many on all"
        )
    return place


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(rows: Float[Tensor, "n *rest"]) -> Float[Tensor, "m *rest"]:
    """The rows of every process, in rank order: the whole batch that a loss wants.

    Differentiable, where all processes make the same of it: each has its copy of the loss of the whole batch, and the
    sum of their gradients, which DDP's mean expects, is that of one times their number. Nothing is sent back.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)


def total(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The sum over processes, the same in each; differentiable in the sense of `gather`."""
    return value if world_size() == 1 else _Total.apply(value)


def largest(*values: int) -> list[int]:
    """The largest of each value over all processes, so that all decide alike. A GPU is not waited for."""
    if world_size() == 1:
        return list(values)
    agreed = torch.tensor(values)
    dist.all_reduce(agreed, dist.ReduceOp.MAX, group=_talk())
    return [int(value) for value in agreed]


def averages(values: dict[str, float]) -> dict[str, float]:
    """Of each value the mean over processes."""
    if world_size() == 1:
        return values
    added = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(added, group=_talk())
    return dict(zip(values, (added / world_size()).tolist(), strict=True))


def _talk() -> Any:
    """A group on the CPU, for what processes tell each other beside the gradients."""
    if dist.get_backend() == "gloo":
        return dist.group.WORLD
    if _talking.get(id(dist.group.WORLD)) is None:
        _talking[id(dist.group.WORLD)] = dist.new_group(backend="gloo")
    return _talking[id(dist.group.WORLD)]


_talking: dict[int, Any] = {}


def buffers_stay() -> dict[str, Any]:
    """DDP's keyword for not sending rank 0's buffers to all before each pass: they are equal, and a queue is large."""
    known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        start = rank() * ctx.num_rows
        return gradient[start : start + ctx.num_rows] * world_size()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        added = value.contiguous().clone()
        dist.all_reduce(added)
        return added

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        added = gradients[0].contiguous().clone()
        dist.all_reduce(added)
        return added


class Ended(Exception):  # noqa: N818  # an error or a signal; `code` tells
    """Processes that were started together have ended before their work was done; `code` is for the shell."""

    def __init__(self, code: int, text: str):
        self.code = code
        super().__init__(text)


def in_processes(count: int, function: Callable[..., None], *arguments: Any) -> None:
    """Run `function(*arguments)` in `count` fresh processes of this machine that know each other, and wait for them.

    When one ends early the others are ended too; signals are passed on, and time is left to save. Raises Ended.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # we say what happened
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="ssl_lab",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
        start_method="spawn",
        shutdown_timeout=600,  # seconds to finish a step and save
    )
    try:
        elastic_launch(settings, function)(*arguments)
    except SignalException as ended:
        raise Ended(128 + ended.sigval, f"ended by {ended.sigval.name}") from None
    except ChildFailedError as failed:
        number, first = failed.get_first_failure()
        told = str(first.message["message"] if isinstance(first.message, dict) else first.message)
        kind, _, text = told.partition(": ")
        ours = kind.endswith(("ValueError", "DataError", "OSError", "FileExistsError")) and text
        raise Ended(2 if ours else first.exitcode, f"error: process {number} of {count}: {text or told}") from None
