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
from ssl_lab.run import Run, hush, make_method, make_trainer

WARM = 2
BATCH = {"resnet18": 64, "resnet18_quarter": 256}  # a step of the large one takes seconds


class Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        """Seconds of each step, the first ones left out."""
        return [b - a for a, b in zip(self.ends[WARM:-1], self.ends[WARM + 1 :], strict=True)]


def measure(rounds: int = 3) -> list[Row]:
    """Images a second of `train` over those of the bare loop, of every method at two widths."""
    names = [name for name in recipes.options()["method"] if name != "emp_ssl"]  # SimCLR's loop, with 20 views
    return [
        *(ratio(name, "resnet18", 8, rounds, ">= 0.95") for name in names),
        *(ratio(name, "resnet18_quarter", 12, rounds, ">= 0.90") for name in names),
    ]


def ratio(name: str, backbone: str, steps: int, rounds: int, target: str) -> Row:
    """Median step of the bare loop by the median step of ours, in turn; validation excluded."""
    ours, bare, batch = list[float](), list[float](), BATCH[backbone]
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"method={name}",
            f"backbone={backbone}",
            "probe=none",
            "logger=none",
            f"data.batch_size={BATCH[backbone]}",
        ]
        hush()
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        for turn in range(rounds):
            words = [*overrides, f"trainer.max_steps={steps + WARM}", f"paths.out={folder}/{turn}"]
            run = Run(*recipes.compose("train", words), Place())
            ours += ours_steps(run)
            bare += list(bare_steps(run, steps + WARM))[WARM:]
    measured = median(bare) / median(ours)
    return Row(f"training loop / bare loop: {name}, {backbone}, batch {batch}", measured, "x", target)


def ours_steps(run: Run) -> list[float]:
    """Seconds of each step of a run as `train` makes it."""
    clock = Clock()
    run.folder.start(run.config)
    trainer = make_trainer(run, run.settings["max_steps"])
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(make_method(run.config, run.data, run.hardware), datamodule=run.data)
    return clock.steps


def bare_steps(run: Run, steps: int) -> Iterator[float]:
    """Seconds of each step of the same networks, loss, precision and optimiser on inputs that lie in memory."""
    method: Any = make_method(run.config, run.data, run.hardware)
    batch = run.data.batch_size
    images, draws = run.data.sample(batch), Draws(0, 0, batch)
    asks = isinstance(method, Pretext | Dense)
    views = method.views(images, draws, 1 if asks else None)
    if asks:
        questions = method.task(views[0], draws)
        method.task.forward = lambda *_: questions
    method.views = lambda *_, **__: views
    optimizer, schedule = method.optim.build(method, batch, steps, steps)
    method.train()
    for counter in range(steps):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=run.hardware.precision == "bf16-mixed"):
            loss = method.step(images, Draws(0, counter, batch)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if hasattr(method, "teacher"):
            method.teacher.move(method.students, method.momentum)
        schedule.step()
        yield time.perf_counter() - began
