"""What the training loop costs over forward, backward and update alone."""

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.rows import Row
from ssl_lab import recipes
from ssl_lab.distributed import Place
from ssl_lab.draws import Draws
from ssl_lab.methods import Dense, Pretext
from ssl_lab.pretrain import few_threads
from ssl_lab.run import Run, hush, make_method, make_trainer

WARM = 2  # blocks that are not counted
GPU = torch.cuda.is_available()
BLOCK = 10 if GPU else 1  # steps timed together: to wait for a GPU after each would end what it overlaps
BATCH = {"resnet18": 256 if GPU else 64, "resnet18_quarter": 256}  # a CPU's step of the large one takes seconds


class Clock(Callback):
    """When each block of steps ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.passed = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.tick()

    def tick(self) -> None:
        """After each step."""
        self.passed += 1
        if self.passed % BLOCK == 0:
            if GPU:
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        """Seconds of a step in each block, the first ones left out."""
        return [(b - a) / BLOCK for a, b in zip(self.ends[WARM - 1 : -1], self.ends[WARM:], strict=True)]


def measure(rounds: int = 3) -> Iterator[Row]:
    """Images a second of `train` over those of the bare loop, of every method at two widths, as they come in."""
    names = [name for name in recipes.options()["method"] if name != "emp_ssl"]  # SimCLR's loop, with 20 views
    for name in names:
        yield from compare(name, "resnet18", 8, rounds, ">= 0.95")
    for name in names:
        yield from compare(name, "resnet18_quarter", 12, rounds, ">= 0.90")


def compare(name: str, backbone: str, blocks: int, rounds: int, target: str) -> list[Row]:
    """Median step of the bare loop by the median step of ours, in turn; validation excluded."""
    ours, bare, batch = list[float](), list[float](), BATCH[backbone]
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"method={name}",
            f"backbone={backbone}",
            "probe=none",
            "logger=none",
            f"data.batch_size={BATCH[backbone]}",
            *(["data=cifar10"] if GPU else []),  # where an epoch of the photos is short
        ]
        hush()
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        for turn in range(rounds):
            steps = BLOCK * (blocks + WARM)
            run = Run(
                *recipes.compose("train", [*overrides, f"trainer.max_steps={steps}", f"paths.out={folder}/{turn}"]),
                Place(),
            )
            ours += ours_steps(run)
            bare += bare_steps(run, steps)
    what = f"{name}, {backbone}, batch {batch}"
    return [
        Row(f"training loop / bare loop: {what}", median(bare) / median(ours), "x", target),
        Row(f"training loop: {what}", batch / median(ours), "images/s"),
    ]


def ours_steps(run: Run) -> list[float]:
    """Seconds of each step of a run as `train` makes it."""
    clock = Clock()
    run.folder.start(run.config)
    trainer = make_trainer(run, run.settings["max_steps"])
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()), few_threads(run.hardware.accelerator):
        trainer.fit(make_method(run.config, run.data, run.hardware), datamodule=run.data)
    return clock.steps


def bare_steps(run: Run, steps: int) -> list[float]:
    """Seconds of each step of the same networks, loss, precision and optimiser on inputs that lie in memory."""
    device, clock = run.hardware.device, Clock()
    method: Any = make_method(run.config, run.data, run.hardware).to(device)
    batch = run.data.batch_size
    images, draws = run.data.sample(batch).to(device), Draws(0, 0, batch)
    asks = isinstance(method, Pretext | Dense)
    views = method.views(images, draws, 1 if asks else None)
    if asks:
        questions = method.task(views[0], draws)
        method.task.forward = lambda *_: questions
    method.views = lambda *_, **__: views
    optimizer, schedule = method.optim.build(method, batch, steps, steps)
    method.train()
    for counter in range(steps):
        with torch.autocast(device.type, torch.bfloat16, enabled=run.hardware.precision == "bf16-mixed"):
            loss = method.step(images, Draws(0, counter, batch)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if hasattr(method, "teacher"):
            method.teacher.move(method.students, method.momentum)
        schedule.step()
        clock.tick()
    return clock.steps
