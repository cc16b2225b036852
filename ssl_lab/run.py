"""A run before its first step: parts, data, folder, and Lightning's trainer with our checkpoints, logs and probes."""

import logging
import warnings
from inspect import signature as signature_of
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only

from ssl_lab import hardware
from ssl_lab.build import build, check_keywords
from ssl_lab.data import ImageData
from ssl_lab.distributed import Place, buffers_stay
from ssl_lab.hardware import Hardware
from ssl_lab.methods import Method
from ssl_lab.records import (
    DURATION,
    Answers,
    Checkpoints,
    FiniteLoss,
    HashedCheckpointIO,
    MetricsLog,
    Neighbours,
    Progress,
    RunFolder,
    StepMetrics,
    ViewsShown,
    check_trusted,
    identity_hash,
)
from ssl_lab.records.wandb_run import wandb_identity
from ssl_lab.signatures import signature


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
        method = check_parts(config)
        self.data: ImageData = build(config["data"], seed=config["seed"])
        if self.data.batch_size % processes:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} does not divide among {processes} processes: set it to "
                f"{-(-self.data.batch_size // processes) * processes}"
            )
        method.check(self.data.batch_size, processes)
        self.data.open_for_training()
        self.choices = {group: choices[group] for group in ("method", "backbone", "data")}
        self.folder = run_folder(config, choices, self.data, self.hardware.precision)


def check_parts(config: dict[str, Any]) -> Method:
    """The method without memory or data, so that parts that do not fit are refused before any work is done."""
    check_trusted(config["method"]["backbone"], "method.backbone")
    check_keywords(config)
    with torch.device("meta"):
        method: Method = build(config["method"], preprocessing={}, seed=0)
    return method


def run_folder(config: dict[str, Any], choices: dict[str, Any], data: ImageData, precision: str) -> RunFolder:
    """The folder that follows from a configuration; its hash covers what changes the result, and nothing else."""
    duration = {key: config["trainer"][key] for key in DURATION}
    identity = {"method": config["method"], "data": data.identity, "seed": config["seed"], "precision": precision}
    parts = [str(choices[group]) for group in ("method", "backbone", "data")]
    name = "-".join([*parts, f"s{config['seed']}", identity_hash(identity | duration)])
    return RunFolder(Path(config["paths"]["out"]) / str(choices.get("experiment") or "train") / name)


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


def make_trainer(run: Run, max_steps: int | None = None) -> Trainer:
    """Lightning's trainer with our checkpoints, logs and probes; `max_steps` end it before the epochs do."""
    settings, folder, data, picked = run.settings, run.folder, run.data, run.hardware
    metrics = MetricsLog(folder.metrics_file)
    checkpoints = Checkpoints(folder.checkpoints, metrics, settings["checkpoint_minutes"], settings["keep_checkpoints"])
    every = settings["log_every_n_steps"]
    callbacks: list[Callback] = [FiniteLoss(every), StepMetrics(every)]
    if run.place.first:  # the others wait while these look at the network, which is the same in all
        callbacks += [*probes(run.config, data), *pictures(data, folder.previews), Progress(data.batch_size)]
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


def pictures(data: ImageData, folder: Path) -> list[Callback]:
    """What is drawn while training: views, answers, neighbours."""
    few = data.to_watch(8)
    return [ViewsShown(few, folder), Answers(few, folder), Neighbours(data.to_watch(512), folder)]


def loggers(run: Run) -> list[Logger]:
    """The loggers beside the local one, each told where it may write and what the run is called."""
    path, built = run.folder.path, list[Logger]()
    for node in filter(None, (run.config["loggers"] or {}).values()):
        kind = get_class(node["_target_"])
        offered = {"save_dir": str(path), "name": path.name}
        given: dict[str, Any] = {key: value for key, value in offered.items() if key in signature_of(kind).parameters}
        if issubclass(kind, WandbLogger):
            given |= wandb_identity(path, list(run.choices.values()))
        built.append(build(node, **given))
        built[-1].log_hyperparams(run.config)
    return built


def hush() -> None:
    """Keep Lightning's advice off the screen; what matters we say ourselves."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    messages = ("smaller than the logging interval", "recommended to use `self.log", "isinstance.treespec, LeafSpec")
    for message in messages:
        warnings.filterwarnings("ignore", message=f".*{message}")
