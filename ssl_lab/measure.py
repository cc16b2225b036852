"""From a finished run to figures: the run and baselines, under the same protocols, with the same code."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import nn

from ssl_lab import hardware
from ssl_lab.build import build
from ssl_lab.data import ImageData, set_aside
from ssl_lab.evaluation import ColorStatistics, RawPixels, Sets, Subject, recalibrated
from ssl_lab.hardware import Hardware
from ssl_lab.nn import Encoder
from ssl_lab.records import (
    RunFolder,
    append_result,
    commit,
    find_run,
    identity_hash,
    load_encoder,
    read_results,
    results_table,
    same_evaluation,
)


class Candidate(NamedTuple):
    """An encoder to measure, and the folder that keeps its results."""

    name: str
    encoder: nn.Module
    digest: str  # tells its weights
    home: RunFolder
    trained_by: dict[str, Any]  # seed, commit and cost of its training; seed and backbone of weights left random


def measure(config: dict[str, Any]) -> None:
    """Measure what the configuration names; what `results.jsonl` holds already is shown, not repeated."""
    folder = find_run(Path(config["run"]))
    if not folder.finished and config["split"] == "test":
        raise ValueError(
            f"{folder.path} has not finished, and the test split is for finished runs; "
            "give its training command again, or set split=val"
        )
    data = open_data(folder, config)
    sets = evaluation_sets(data, config["split"])
    picked = hardware.pick(config["accelerator"], precision=config["precision"])
    lines = []
    for candidate in [*baselines(folder, config, data), *trained(folder, sets, config["recalibrate"])]:
        subject = make_subject(candidate.encoder, sets, picked, config["batch_size"])
        lines += results(candidate, subject, config, data)
    title = f"{data.description}; {len(sets.test):,} images of the {config['split']} split"
    console = Console(soft_wrap=True)
    console.print(results_table(lines, title))
    console.print(
        f"run   {folder.path}\nnext: python -m ssl_lab.train data=folder data.root=<your pictures>", markup=False
    )


def results(candidate: Candidate, subject: Subject, config: dict[str, Any], data: ImageData) -> list[dict[str, Any]]:
    """One line a protocol: from the candidate's folder where it stands already, else measured and added there."""
    facts = {
        "name": candidate.name,
        "split": config["split"],
        "epoch_rule": "last",
        "data": data.facts,
        "encoder": candidate.digest,
        "precision": subject.precision,
        "trained_by": candidate.trained_by,
    }
    file, lines = candidate.home.results_file, []
    for protocol, node in config["protocols"].items():
        asked = facts | {"protocol": protocol, "asked": {k: v for k, v in node.items() if not k.startswith("_")}}
        known = [line for line in read_results(file) if same_evaluation(line, asked)]
        if not known or config["force"]:
            began = time.monotonic()
            found = build(node, subject=subject)
            line = asked | {"settings": found.settings, "figures": found.figures, "shown": list(found.shown)}
            line |= {"evaluated_by": commit()}
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            append_result(file, line | {"seconds": round(time.monotonic() - began, 2), "time": when})
            known = read_results(file)
        lines.append(known[-1])
    return lines


def open_data(folder: RunFolder, config: dict[str, Any]) -> ImageData:
    """The data of a run, with the paths of this evaluation; refused when its content is not what was trained on."""
    paths = {"cache": config["paths"]["cache"], "search": config["paths"]["data"]}
    data: ImageData = build({**folder.config["data"], **paths}, seed=folder.config["seed"])
    data.open()
    then, now = folder.record["data"]["fingerprint"], data.stored.fingerprint
    if then != now:
        raise ValueError(
            f"the data has changed since {folder.path} was trained (fingerprint {then[:12]} then, {now[:12]} now): "
            "restore it, or train again"
        )
    return data


def evaluation_sets(data: ImageData, split: str) -> Sets:
    """Roles of the images. Settings are chosen on validation; when that is what is reported, on a part of train.

    The neighbours' bank chooses nothing, so it stays the whole of train, as in the probe of a running training.
    """
    if not data.classes or data.train.labels is None:
        raise ValueError("the protocols need labels, and this data has none: give class folders")
    if data.val is None or (split == "test" and data.test is None):
        raise ValueError(f"split={split}, but nothing was set aside: set data.val_fraction and data.test_fraction")
    if split == "test" and data.test is not None:
        return Sets(data.train, data.train, data.val, data.test, data.classes)
    kept, taken = set_aside(data.train.labels, len(data.train), 0.1, seed=data.split_seed)
    return Sets(data.train, data.train.subset(kept), data.train.subset(taken), data.val, data.classes)


def make_subject(encoder: nn.Module, sets: Sets, picked: Hardware, batch_size: int) -> Subject:
    """An encoder on the device it is evaluated on."""
    if picked.memory_format == "channels_last":
        encoder.to(memory_format=torch.channels_last)
    return Subject(encoder.to(picked.device), sets, picked.device, picked.precision, batch_size)


def trained(folder: RunFolder, sets: Sets, recalibrate: bool | None) -> Iterator[Candidate]:
    """The encoder that a run left behind, and again with batch norm's statistics taken anew from clean images.

    recalibrate: whether to; None where the backbone saw tiles, patches or holes in training.
    """
    encoder, digest = load_encoder(folder.path)
    record = folder.record
    keys = ("seed", "commit", "dirty", "flops", "views_seen", "images_seen", "seconds")
    name = str(folder.config["method"]["_target_"]).rpartition(".")[2]
    trained_by = {key: record.get(key) for key in keys}
    yield Candidate(name, encoder, digest, folder, trained_by)
    if recalibrate or (recalibrate is None and not record.get("whole_images", True)):
        again = recalibrated(encoder, sets.fit)
        yield Candidate(f"{name}, recalibrated", again, f"{digest}, recalibrated", folder, trained_by)


def baselines(folder: RunFolder, config: dict[str, Any], data: ImageData) -> Iterator[Candidate]:
    """The encoders without training that a configuration names, on a run's data; each has a folder of its own."""
    backbone, seed = folder.config["method"]["backbone"], folder.config["seed"]
    for name in config["baselines"]:
        made_by: dict[str, Any] = {}
        if name == "random_weights":
            made_by = {"backbone": backbone, "seed": seed}
            encoder = random_encoder(backbone, data, seed)
        else:
            encoder = {"raw_pixels": RawPixels, "color_statistics": ColorStatistics}[name]()
        digest = identity_hash({"baseline": name, "data": data.identity} | made_by)
        home = RunFolder(Path(config["paths"]["out"]) / "baselines" / f"{name}-{data.source.name}-{digest}")
        yield Candidate(name.replace("_", " "), encoder, digest, home, made_by)


def random_encoder(backbone: dict[str, Any], data: ImageData, seed: int) -> nn.Module:
    """An encoder as it stands before training."""
    torch.manual_seed(seed)
    encoder = Encoder(build(backbone), **data.preprocessing)
    encoder.fit(data.sample(5000))
    return encoder
