"""From a checked configuration to a finished run folder."""

import logging
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import wandb
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only

from ssl_lab import distributed, hardware
from ssl_lab.build import build, check_keywords
from ssl_lab.data import ImageData
from ssl_lab.distributed import Place, buffers_stay
from ssl_lab.hardware import Hardware
from ssl_lab.methods import Method, flops_per_image
from ssl_lab.nn import share_batch_norms
from ssl_lab.records import (
    Checkpoints,
    FiniteLoss,
    HashedCheckpointIO,
    Interrupted,
    MetricsLog,
    Previews,
    Progress,
    RunFolder,
    StepMetrics,
    duration,
    identity_hash,
    newest_intact,
    provenance,
    save_encoder,
)
from ssl_lab.signatures import signature


def pretrain(config: dict[str, Any], choices: dict[str, Any]) -> None:
    """Train what the configuration says; resume its run when it was interrupted, skip it when it is finished."""
    begin(Run(config, choices, distributed.place(config["trainer"]["launcher"])), choices)


def begin(run: "Run", choices: dict[str, Any]) -> None:
    """Train a run that stands, here or in processes of its own, unless it is finished."""
    if run.folder.finished:
        say(f"{run.folder.path} is finished: nothing to train\nnext: python -m ssl_lab.evaluate run={run.folder.path}")
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
        raise ValueError(f"{path} is of an older version: give its command again: {record.get('command')}")
    choices = {**record["choices"], "experiment": path.parent.name}
    run = Run(config, choices, distributed.place(config["trainer"]["launcher"]))
    if run.folder.path.resolve() != path.resolve():
        raise ValueError(f"{path} would go on as {run.folder.path}: its images are no longer those that it began with")
    begin(run, choices)


def train_rank(config: dict[str, Any], choices: dict[str, Any]) -> None:
    """What each of several processes does; `distributed.in_processes` sets them up as torchrun does."""
    train(Run(config, choices, distributed.place("torchrun")))


class Run:
    """A run before its first step: checked parts, opened data, a folder, and this process' place among several."""

    def __init__(self, config: dict[str, Any], choices: dict[str, Any], place: Place):
        hush()
        # Lightning believed the environment when it was imported, which may hold what another command has left.
        rank_zero_only.rank = place.rank  # type: ignore[attr-defined]  # an attribute of its function
        self.config, self.settings, self.place = config, config["trainer"], place
        wanted = {key: self.settings[key] for key in ("accelerator", "devices", "precision", "memory_format")}
        self.hardware = hardware.pick(**(wanted if place.size == 1 else wanted | {"devices": place.here}))
        processes = max(place.size, self.hardware.devices)
        check_parts(config)
        self.data: ImageData = build(config["data"], seed=config["seed"])
        if self.data.batch_size % processes:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} does not divide among {processes} processes: set it to "
                f"{-(-self.data.batch_size // processes) * processes}"
            )
        self.data.open_for_training()
        self.choices = {group: choices[group] for group in ("method", "backbone", "data")}
        self.folder = run_folder(config, choices, self.data, self.hardware.precision)


def train(run: Run) -> None:
    """From the newest checkpoint, or the first step, to the end."""
    config, data, folder = run.config, run.data, run.folder
    method = make_method(config, data, run.hardware)
    flops = flops_per_image(method, data.sample(method.fewest_rows))
    max_steps = affordable_steps(run.settings, flops * data.batch_size)
    if run.place.size > 1:
        share_batch_norms(method)
    with folder.lock() if run.place.first else nullcontext():
        checkpoint = newest_intact(folder.checkpoints, say)
        if run.place.first:
            announce(run, method, checkpoint)
            facts = {"seed": config["seed"], "data": data.facts, "precision": run.hardware.precision}
            folder.start(config, choices=run.choices, **facts, **provenance())
        trainer = make_trainer(run, max_steps)
        try:
            trainer.fit(method, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except Interrupted as interrupted:
            wandb.finish()
            say(f"{interrupted}: saved by step {trainer.global_step}; the same command goes on from there")
            raise SystemExit(interrupted.code) from None
        except Exception as error:
            if run.place.first:
                folder.update(last_error=f"{type(error).__name__}: {error}")  # for who looks at the folder later
            raise
        if run.place.first:
            finish(run, method, trainer, flops)


def check_parts(config: dict[str, Any]) -> None:
    """Build the method without memory or data, so that parts that do not fit are refused before any work is done."""
    check_keywords(config)
    with torch.device("meta"):
        build(config["method"], preprocessing={}, seed=0)


def affordable_steps(settings: dict[str, Any], flops_per_batch: float) -> int | None:
    """Updates that end the run: what `max_flops` pays for, or `max_steps` where that is less; None for no end."""
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


def make_method(config: dict[str, Any], data: ImageData, picked: Hardware) -> Method:
    """The method with its initial weights, which depend on the seed alone."""
    torch.manual_seed(config["seed"])
    method: Method = build(config["method"], preprocessing=data.preprocessing, seed=config["seed"])
    method.prepare(data.sample(5000))
    if picked.memory_format == "channels_last":
        method.to(memory_format=torch.channels_last)
    if picked.precision == "64-true":
        method.double()  # before a checkpoint is loaded: Lightning would convert only then what was cut to 32 bits
    return method


def run_folder(config: dict[str, Any], choices: dict[str, Any], data: ImageData, precision: str) -> RunFolder:
    """The folder that follows from a configuration; its hash covers what changes the result, and nothing else."""
    duration = {
        key: config["trainer"][key] for key in ("max_epochs", "max_steps", "max_flops", "accumulate_grad_batches")
    }
    identity = {"method": config["method"], "data": data.identity, "seed": config["seed"], "precision": precision}
    parts = [str(choices[group]) for group in ("method", "backbone", "data")]
    name = "-".join([*parts, f"s{config['seed']}", identity_hash(identity | duration)])
    return RunFolder(Path(config["paths"]["out"]) / str(choices.get("experiment") or "train") / name)


def make_trainer(run: Run, max_steps: int | None = None) -> Trainer:
    """Lightning's trainer with our checkpoints, logs and probes; `max_steps` end it before the epochs do."""
    settings, folder, data, picked = run.settings, run.folder, run.data, run.hardware
    metrics = MetricsLog(folder.metrics_file)
    checkpoints = Checkpoints(folder.checkpoints, metrics, settings["checkpoint_minutes"], settings["keep_checkpoints"])
    every = settings["log_every_n_steps"]
    callbacks: list[Callback] = [FiniteLoss(every), StepMetrics(every)]
    if run.place.first:  # the others wait while these look at the network, which is the same in all
        previews = Previews(data.to_watch(8), folder.previews)
        callbacks += [*probes(run.config, data), previews, Progress(data.batch_size)]
    return Trainer(
        accelerator=picked.accelerator,
        devices=picked.devices,
        num_nodes=run.place.size // run.place.here,
        strategy=strategy(run.place, settings["launcher"], picked),
        precision=picked.precision,  # type: ignore[arg-type]  # config.py knows Lightning's names
        max_epochs=settings["max_epochs"],
        max_steps=max_steps or -1,
        accumulate_grad_batches=settings["accumulate_grad_batches"],
        callbacks=[*callbacks, checkpoints],  # a checkpoint holds what those before have done
        logger=[metrics, *loggers(run)],
        plugins=[HashedCheckpointIO()],
        enable_checkpointing=False,  # Lightning's; ours is a callback
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def strategy(place: Place, launcher: str, picked: Hardware) -> Strategy:
    """How processes share their gradients. Told here, since Lightning would guess it from the environment."""
    if place.size == 1:
        return SingleDeviceStrategy(picked.device)
    return DDPStrategy(
        cluster_environment=SLURMEnvironment(auto_requeue=False) if launcher == "slurm" else TorchElasticEnvironment(),
        process_group_backend="nccl" if picked.accelerator == "gpu" else "gloo",
        gradient_as_bucket_view=True,
        **buffers_stay(),
    )


def probes(config: dict[str, Any], data: ImageData) -> list[Callback]:
    """The callbacks that watch a run, each with the images that it asks for; those that need labels go without."""
    offered: dict[str, Any] = {"images": data.to_watch(512)}
    labelled = {"bank": data.train, "queries": data.val, "num_classes": len(data.classes)}
    if data.train.labels is not None and data.val is not None:
        offered |= labelled
    built: list[Callback] = []
    for node in (config["callbacks"] or {}).values():
        wanted = signature(str(node["_target_"])) or {} if node else {}
        if node and set(labelled) & set(wanted) <= set(offered):
            built.append(build(node, **{name: value for name, value in offered.items() if name in wanted}))
    return built


def loggers(run: Run) -> list[Logger]:
    """The loggers beside the local one. A resumed run keeps its identity in them."""
    group, name = run.folder.path.parts[-2:]
    given: dict[str, Any] = {
        "save_dir": str(run.folder.path),
        "name": name,
        "id": name,
        "group": group,
        "resume": "allow",
    }
    given |= {"job_type": "train", "tags": list(run.choices.values())}
    built: list[Logger] = [build(node, **given) for node in (run.config["loggers"] or {}).values() if node]
    for logger in built:
        logger.log_hyperparams(run.config)
    return built


def announce(run: Run, method: Method, checkpoint: Path | None) -> None:
    """Say what is about to happen, before it takes its time."""
    data, processes = run.data, run.place.size
    rate = method.optim.effective_lr(data.batch_size)
    shared = f" ({data.batch_size // processes} a process)" if processes > 1 else ""
    say(f"run      {run.folder.path}")
    say(f"data     {data.description}")
    say(
        f"trainer  {run.hardware}; batch {data.batch_size}{shared}, learning rate {rate:g} "
        f"({method.optim.lr_scaling} scaling)"
    )
    for remark in method.remarks(len(data.pretrain), run.settings["accumulate_grad_batches"]):
        say(f"note     {remark}")
    if data.train.labels is None:
        say("labels   none: the probes that need them are off")
    if checkpoint is not None:
        say(f"resumes  {checkpoint}")


def finish(run: Run, method: Method, trainer: Trainer, flops: float) -> None:
    """Write the encoder and what the run took, and say what to do next."""
    folder = run.folder
    images = trainer.fit_loop.epoch_loop.batch_progress.total.completed * run.data.batch_size
    seconds = next(c.seconds for c in trainer.callbacks if isinstance(c, Checkpoints))  # type: ignore[attr-defined]
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    cost = {"images_seen": images, "views_seen": images * method.views_per_image, "flops": images * flops}
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):  # by names that stay, whatever the probes are called
            ended = {name.partition("/")[2]: value for name, value in figures.items()} | cost | {"seconds": seconds}
            logger.experiment.summary.update({f"final/{name}": value for name, value in ended.items()})
    folder.update(
        whole_images=method.whole_images,
        encoder_sha256=save_encoder(method.encoder, run.config["method"]["backbone"], folder.path),
        **cost,
        seconds=round(seconds, 1),
        last=figures,
        status="finished",
    )
    wandb.finish()  # so that the next run of a sweep begins its own
    knn = f", kNN {100 * figures['val/knn_top1']:.1f} % on validation" if "val/knn_top1" in figures else ""
    say(f"finished in {duration(seconds)}{knn}: {folder.path}")
    say(f"next: python -m ssl_lab.evaluate run={folder.path}")


def hush() -> None:
    """Keep Lightning's advice off the screen; what matters we say ourselves."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    messages = ("smaller than the logging interval", "recommended to use `self.log", "isinstance.treespec, LeafSpec")
    for message in messages:
        warnings.filterwarnings("ignore", message=f".*{message}")


@rank_zero_only
def say(text: str) -> None:
    """A line for the user."""
    print(text, flush=True)  # noqa: T201  # the command's own output
