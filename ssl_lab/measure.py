"""From a finished run to figures: the run and baselines, under the same protocols, with the same code."""

import sys
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
from ssl_lab.evaluation import ColorStatistics, KMeansFeatures, NotApplicable, RawPixels, Sets, Subject, recalibrated
from ssl_lab.hardware import Hardware
from ssl_lab.nn import Encoder
from ssl_lab.records import (
    RunFolder,
    append_result,
    commit,
    digest_of,
    find_run,
    identity_hash,
    load_encoder,
    load_weights,
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
    trained_by: dict[str, Any]  # seed, commit and cost of its training; backbone and source of other weights


def measure(config: dict[str, Any]) -> None:
    """Measure what the configuration names; what `results.jsonl` holds already is shown, not repeated."""
    folder = run_of(config)
    data = open_data(folder, config)
    sets = evaluation_sets(data, config["split"])
    picked = hardware.pick(config["accelerator"], precision=config["precision"])
    backbone = (folder.config if folder else config)["method"]["backbone"]
    beside = baselines(backbone, folder.config["seed"] if folder else 0, config, data)
    main = trained(folder, sets, config["recalibrate"]) if folder else foreign(backbone, config, data)
    lines = []
    for candidate in [*beside, *main]:
        subject = make_subject(candidate.encoder, sets, picked, config["batch_size"])
        lines += results(candidate, subject, config, data)
        home = candidate.home
    title = f"{data.description}; {len(sets.test):,} images of the {config['split']} split"
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    console.print(results_table(lines, title))
    console.print(
        f"run   {home.path}\nnext: python -m ssl_lab.train data=folder data.root=<your pictures>", markup=False
    )


def run_of(config: dict[str, Any]) -> RunFolder | None:
    """The run to measure; None for weights from elsewhere. Raises ValueError when neither or both are given."""
    backbone = (config.get("method") or {}).get("backbone")
    if config["run"] is None and (backbone is None or config.get("data") is None):
        raise ValueError(
            "run: missing; set run=<folder of a run>, or weights=<file> backbone=<what was trained> data=<what to "
            "measure it on>, such as weights=resnet50.pth backbone=resnet50_imagenet data=stl10"
        )
    if config["run"] is None:
        return None
    if config["weights"] is not None or backbone is not None:
        raise ValueError(f"run={config['run']} brings its own backbone and weights; leave out weights= and backbone=")
    folder = find_run(Path(config["run"]))
    if not folder.finished and config["split"] == "test":
        raise ValueError(
            f"{folder.path} has not finished, and the test split is for finished runs; "
            "give its training command again, or set split=val"
        )
    return folder


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
            try:
                found = build(node, subject=subject)
            except NotApplicable:
                if candidate.home.record:  # the run itself: its user is to know
                    raise
                continue
            line = asked | {"settings": found.settings, "figures": found.figures, "shown": list(found.shown)}
            line |= {"evaluated_by": commit()}
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            append_result(file, line | {"seconds": round(time.monotonic() - began, 2), "time": when})
            known = read_results(file)
        lines.append(known[-1])
    return lines


def open_data(folder: RunFolder | None, config: dict[str, Any]) -> ImageData:
    """The data to measure on: what the configuration names, else that of the run.

    With the paths of this evaluation; refused when the content is not what the run was trained on.
    """
    if folder is None or config.get("data") is not None:
        given: ImageData = build(config["data"], seed=0)
        given.open()
        return given
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


def foreign(backbone: dict[str, Any], config: dict[str, Any], data: ImageData) -> Iterator[Candidate]:
    """A backbone with weights from a file, or with those that its library brings; images in the units of the data."""
    network = build(backbone)
    name = str(backbone.get("name", backbone["_target_"].rpartition(".")[2]))
    made_by: dict[str, Any] = {"backbone": backbone}
    if config["weights"] is not None:
        file = Path(config["weights"]).expanduser()
        match = load_weights(network, file, config["allow_partial"])
        say(f"weights  {file}: {match.report}")
        name, made_by = file.name, made_by | {"matched": match.report, "random": match.missing + match.misshapen}
    encoder = Encoder(network, **data.preprocessing).eval()
    digest = digest_of(network)
    home = RunFolder(Path(config["paths"]["out"]) / "weights" / f"{Path(name).stem}-{data.source.name}-{digest[:8]}")
    yield Candidate(name, encoder, digest, home, made_by)


def baselines(backbone: dict[str, Any], seed: int, config: dict[str, Any], data: ImageData) -> Iterator[Candidate]:
    """The encoders without training that a configuration names; each has a folder of its own."""
    for name in config["baselines"]:
        made_by: dict[str, Any] = {}
        if name == "random_weights":
            made_by = {"backbone": backbone, "seed": seed}
            encoder = random_encoder(backbone, data, seed)
        elif name == "kmeans_features":
            encoder = kmeans_features(data)
        else:
            encoder = {"raw_pixels": RawPixels, "color_statistics": ColorStatistics}[name]()
        digest = identity_hash({"baseline": name, "data": data.identity} | made_by)
        home = RunFolder(Path(config["paths"]["out"]) / "baselines" / f"{name}-{data.source.name}-{digest}")
        yield Candidate(name.replace("_", " "), encoder, digest, home, made_by)


def kmeans_features(data: ImageData) -> nn.Module:
    """The layer of Coates, Lee and Ng, of the images to learn from."""
    encoder = KMeansFeatures()
    encoder.fit(data.sample(10_000))
    return encoder


def random_encoder(backbone: dict[str, Any], data: ImageData, seed: int) -> nn.Module:
    """An encoder as it stands before training."""
    torch.manual_seed(seed)
    encoder = Encoder(build(backbone), **data.preprocessing)
    encoder.fit(data.sample(5000))
    return encoder


def say(text: str) -> None:
    """A line for the user."""
    print(text, flush=True)  # noqa: T201  # the command's own output
