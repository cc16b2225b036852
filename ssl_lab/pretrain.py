"""From a checked configuration to a finished run folder."""

import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from ssl_lab import distributed
from ssl_lab.evaluation.knn import NEIGHBOURS
from ssl_lab.hardware import threads
from ssl_lab.methods import Method, flops_per_image
from ssl_lab.nn import share_batch_norms
from ssl_lab.records import (
    Checkpoints,
    Interrupted,
    RunFolder,
    duration,
    newest_intact,
    provenance,
    save_encoder,
)
from ssl_lab.records.wandb_run import complete
from ssl_lab.run import Run, make_method, make_trainer
from ssl_lab.say import say

say_once = rank_zero_only(say)  # of the processes that train together the first speaks


def pretrain(config: dict[str, Any], choices: dict[str, Any]) -> None:
    """Train what the configuration says; resume its run when it was interrupted, skip it when it is finished."""
    begin(Run(config, choices, distributed.place(config["trainer"]["launcher"])), choices)


def begin(run: Run, choices: dict[str, Any]) -> None:
    """Train a run that stands, here or in processes of its own, unless it is finished."""
    if run.folder.finished:
        say_once(f"{run.folder.path} is finished: nothing to train\nnext: {evaluation(run)}")
    elif run.place.size == 1 and run.hardware.devices > 1:
        try:
            distributed.in_processes(run.hardware.devices, train_rank, run.config, choices)
        except distributed.Ended as ended:
            sys.stderr.write(f"{ended}\n")
            raise SystemExit(ended.code) from None
    else:
        train(run)


def resume(config: dict[str, Any], path: Path) -> None:
    """Go on with the run in a folder. Raises ValueError when its data or its version make another run of it."""
    record = RunFolder(path).record
    if "choices" not in record:
        raise ValueError(f"{path} is of an older version: give its command again: {shlex.join(record['command'])}")
    choices = {**record["choices"], "experiment": path.parent.name}
    run = Run(config, choices, distributed.place(config["trainer"]["launcher"]))
    if run.folder.path.resolve() != path.resolve():
        raise ValueError(f"{path} would go on as {run.folder.path}: its images are no longer those that it began with")
    begin(run, choices)


def train_rank(config: dict[str, Any], choices: dict[str, Any]) -> None:
    """What each of several processes does; `distributed.in_processes` sets them up as torchrun does."""
    train(Run(config, choices, distributed.place("torchrun")))


def train(run: Run) -> None:
    """From the newest checkpoint, or the first step, to the end."""
    config, data, folder = run.config, run.data, run.folder
    method = make_method(config, data, run.hardware)
    flops = flops_per_image(method, data.sample(method.fewest_rows), data.batch_size)
    max_steps = affordable_steps(run.settings, flops * data.batch_size)
    if run.place.size > 1:
        share_batch_norms(method)
    with folder.lock() if run.place.first else nullcontext():
        checkpoint = newest_intact(folder.checkpoints, say_once)
        if run.place.first:
            if checkpoint is None:
                folder.metrics_file.unlink(missing_ok=True)  # of a run that was killed before it had saved
            announce(run, method, checkpoint)
            facts = {"seed": config["seed"], "data": data.facts, "precision": run.hardware.precision}
            folder.start(config, choices=run.choices, **facts, **provenance())
        trainer = make_trainer(run, max_steps)
        try:
            with few_threads(run.hardware.accelerator):
                trainer.fit(method, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except Interrupted as interrupted:
            wandb.finish()
            say_once(f"{interrupted}: saved by step {trainer.global_step}; the same command goes on from there")
            raise SystemExit(interrupted.code) from None
        except Exception as error:
            if run.place.first:
                folder.update(last_error=f"{type(error).__name__}: {error}")  # for who looks at the folder later
            raise
        if run.place.first:
            finish(run, method, trainer, flops)


def few_threads(accelerator: str) -> AbstractContextManager[None]:
    """Beside a GPU the CPU only draws: little at a time, for which its threads would wait longer than it takes one."""
    return nullcontext() if accelerator == "cpu" else threads(1)


def affordable_steps(settings: dict[str, Any], flops_per_batch: float) -> int | None:
    """Updates that end the run: what `max_flops` pays for, or `max_steps` where that is less; else None."""
    steps: int | None = settings["max_steps"]
    if settings["max_flops"] is None:
        return steps
    affordable = int(settings["max_flops"] / flops_per_batch / settings["accumulate_grad_batches"])
    if affordable < 1:
        raise ValueError(
            f"trainer.max_flops={settings['max_flops']:g} does not pay for one batch, which takes "
            f"{flops_per_batch:.3g}: set it to more"
        )
    return affordable if steps is None else min(affordable, steps)


def announce(run: Run, method: Method, checkpoint: Path | None) -> None:
    """Say what is about to happen, before it takes its time."""
    data, processes = run.data, run.place.size
    accumulate = run.settings["accumulate_grad_batches"]
    rate = method.optim.effective_lr(data.batch_size * accumulate)
    shared = f" ({data.batch_size // processes} a process)" if processes > 1 else ""
    say_once(f"run      {run.folder.path}")
    say_once(f"data     {data.description}")
    say_once(
        f"trainer  {run.hardware}; batch {data.batch_size}{shared}, learning rate {rate:g} "
        f"({method.optim.lr_scaling} scaling)"
    )
    for remark in method.remarks(len(data.pretrain), accumulate):
        say_once(f"note     {remark}")
    if data.train.labels is None:
        say_once("labels   none: the probes that need them are off")
    if checkpoint is not None:
        say_once(f"resumes  {checkpoint}")


def finish(run: Run, method: Method, trainer: Trainer, flops: float) -> None:
    """Write the encoder and what the run took, and say what to do next."""
    folder = run.folder
    images = trainer.fit_loop.epoch_loop.batch_progress.total.completed * run.data.batch_size
    seconds = next(c.seconds for c in trainer.callbacks if isinstance(c, Checkpoints))  # type: ignore[attr-defined]
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    cost = {"images_seen": images, "views_seen": images * method.views_per_image, "flops": images * flops}
    folder.update(
        whole_images=method.whole_images,
        encoder_sha256=save_encoder(method.encoder, run.config["method"]["backbone"], folder.path),
        **cost,
        seconds=round(seconds, 1),
        last=figures,
        status="finished",
    )
    complete(
        trainer.loggers,
        folder,
        {name.partition("/")[2]: value for name, value in figures.items()} | cost | {"seconds": seconds},
    )
    knn = f", kNN {100 * figures['val/knn_top1']:.1f} % on validation" if "val/knn_top1" in figures else ""
    say_once(f"finished in {duration(seconds)}{knn}: {folder.path}")
    say_once(f"next: {evaluation(run)}")


def evaluation(run: Run) -> str:
    """The command that measures a finished run, under protocols that its images allow."""
    words = ["python -m ssl_lab.evaluate", f"run={run.folder.path}"]
    data = run.data
    if data.test is None:
        words.append("split=val")
    if data.train.masks is not None:
        words.append("protocol=segment")
    elif data.train.labels is None:
        words.append("protocol=[health,gallery,duplicates]")
    elif 0 < (smallest := int(torch.bincount(data.train.labels).min())) < NEIGHBOURS:
        words.append(f"protocols.knn.k={smallest}")
    return " ".join(words)
