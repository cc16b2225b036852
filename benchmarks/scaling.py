"""What a process sends in a training step, counted in a pretended group of any size: `python -m benchmarks.scaling`."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from ssl_lab import distributed, recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.methods import Method
from ssl_lab.nn import share_batch_norms

ROWS = 32  # images a process
SIZES = (2, 8, 64, 1024)


class Sent(NamedTuple):
    """Bytes that enter the calls of one step, of one process."""

    summed: int  # all_reduce
    gathered: int  # all_gather
    gradients: int  # DDP's own all_reduce, of every trained parameter once

    def by(self, processes: int) -> float:
        """Bytes that a process sends in rings: 2 (N - 1) / N of what is summed, N - 1 times what is gathered."""
        return 2 * (processes - 1) / processes * (self.summed + self.gradients) + (processes - 1) * self.gathered


class Pretended:
    """In place of torch.distributed: a group whose members all hold what this process holds; calls are counted."""

    group, ReduceOp = torch.distributed.group, torch.distributed.ReduceOp

    def __init__(self, processes: int):
        self.processes, self.summed, self.gathered = processes, 0, 0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self) -> int:
        return self.processes

    def get_rank(self) -> int:
        return 0

    def get_backend(self) -> str:
        return "gloo"

    def all_reduce(self, value: Tensor, *_: Any, **__: Any) -> None:
        self.summed += value.nbytes

    def all_gather(self, parts: list[Tensor], value: Tensor) -> None:
        self.gathered += value.nbytes
        for part in parts:
            part.copy_(value)


@contextmanager
def pretending(processes: int) -> Iterator[Pretended]:
    """Within, `ssl_lab.distributed` talks to a pretended group."""
    with patch.object(distributed, "dist", Pretended(processes)) as pretended:  # it has what is called of the module
        yield pretended


def count(name: str, processes: int) -> Sent:
    """What one step of a method sends: forward, backward, and the gradients."""
    torch.manual_seed(0)
    config, _ = recipes.compose("train", [f"method={name}", "backbone=resnet50", "data=digits"])
    method: Method = build(config["method"], preprocessing={"mean": [0.5] * 3, "std": [0.25] * 3}, seed=0)
    share_batch_norms(method)
    images = torch.randint(0, 256, (ROWS, 3, 32, 32), dtype=torch.uint8)
    with pretending(processes) as group:
        method.step(images, Draws(0, 0, ROWS * processes, 0, ROWS)).loss.backward()
    learned = sum(parameter.nbytes for parameter in method.parameters() if parameter.requires_grad)
    return Sent(group.summed, group.gathered, learned)


def main() -> None:
    """The table of `docs/scaling.md`."""
    columns = ["method", "summed", "gathered", "gradients", *(f"N = {n}" for n in SIZES)]
    sys.stdout.write(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n")
    for name in recipes.options()["method"]:
        with redirect_stdout(io.StringIO()):
            two, four = count(name, 2), count(name, 4)
        if two != four:
            raise ValueError(f"{name}: what enters a call changes with the number of processes: {two}, {four}")
        cells = [f"{value / 1e6:.2f}" for value in two] + [f"{two.by(n) / 1e6:,.0f}" for n in SIZES]
        sys.stdout.write(f"| `{name}` | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
