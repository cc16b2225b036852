"""From a finished run to figures: the run and baselines, under the same protocols, with the same code."""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from ssl_lab import hardware
from ssl_lab.build import build
from ssl_lab.candidates import Candidate, baselines, foreign, trained
from ssl_lab.data import ImageData, divide
from ssl_lab.evaluation import NotApplicable, Sets, SettingError, Subject
from ssl_lab.hardware import Hardware
from ssl_lab.records import (
    RunFolder,
    append_result,
    asked_of,
    commit,
    find_run,
    read_results,
    results_markdown,
    results_table,
    same_evaluation,
    write_ledger,
)
from ssl_lab.say import say
from ssl_lab.types import Result


def measure(config: dict[str, Any]) -> None:
    """Measure what the configuration names; what `results.jsonl` holds already is shown, not repeated."""
    folder = run_of(config)
    picked = hardware.pick(config["accelerator"], precision=config["precision"], node="")
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    tables, shown = [], []
    for node in config.get("sets", {}).values() or [config.get("data")]:
        data = open_data(folder, node, config["paths"])
        sets = evaluation_sets(data, config["split"])
        lines, home = measure_on(data, sets, folder, config, picked)
        title = f"{data.description}; {len(sets.test):,} images of the {config['split']} split"
        console.print(results_table(lines, title))
        tables.append(results_markdown(lines, title))
        shown += [{"title": title, **line} for line in lines]
        console.print(f"run   {home.path}", markup=False)
    if config["save"] is not None:
        file = Path(config["save"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(tables))
        write_ledger(file.with_suffix(".jsonl"), shown)
    further = "train data=folder data.root=<your pictures>" if folder is None else f"report run={folder.path}"
    console.print(f"next: python -m ssl_lab.{further}", markup=False)


def measure_on(
    data: ImageData, sets: Sets, folder: RunFolder | None, config: dict[str, Any], picked: Hardware
) -> tuple[list[dict[str, Any]], RunFolder]:
    """The result lines of every encoder on one set of data, and the folder that keeps those of the last."""
    backbone = (folder.config if folder else config)["method"]["backbone"]
    beside = baselines(backbone, folder.config["seed"] if folder else 0, config, data)
    main = trained(folder, sets, config["recalibrate"]) if folder else foreign(backbone, config, data, sets)
    lines = []
    for candidate in [*beside, *main]:
        make = partial(make_subject, candidate, sets, picked, config["batch_size"])
        lines += results(candidate, make, config, data.facts, picked.precision)
        home = candidate.home
    return lines, home


def run_of(config: dict[str, Any]) -> RunFolder | None:
    """The run to measure; None for weights from elsewhere. Raises ValueError when neither or both are given."""
    backbone = (config.get("method") or {}).get("backbone")
    if config.get("data") is not None and config.get("sets"):
        raise ValueError("data= and sets= are given both; name all the data in sets=[…]")
    if config["run"] is None and (backbone is None or (config.get("data") is None and not config.get("sets"))):
        raise ValueError(
            "run: missing; set run=<folder of a run>, or weights=<file> backbone=<what was trained> data=<what to "
            "measure it on>, such as weights=resnet50.pth backbone=resnet50_imagenet data=stl10"
        )
    if config["run"] is None:
        if config["weights"] is None and not (backbone or {}).get("pretrained"):
            raise ValueError(
                "weights: missing; set weights=<file>, or with backbone=timm method.backbone.pretrained=true; "
                "baselines=[random_weights] tells what random weights reach beside them"
            )
        return None
    if config["weights"] is not None or backbone is not None:
        raise ValueError(f"run={config['run']} brings its own backbone and weights; leave out weights= and backbone=")
    folder = find_run(Path(config["run"]))
    if not folder.finished and config["split"] == "test":
        raise ValueError(
            f"{folder.path} has not finished, and the test split is for finished runs; give its training command again"
        )
    return folder


def results(
    candidate: Candidate, make: Callable[[], Subject], config: dict[str, Any], data: dict[str, Any], precision: str
) -> list[dict[str, Any]]:
    """One line a protocol: from the candidate's folder where it stands already, else measured and added there."""
    facts = {
        "name": candidate.name,
        "split": config["split"],
        "epoch_rule": candidate.epoch_rule,
        "data": data,
        "encoder": candidate.digest,
        "precision": precision,
        "trained_by": candidate.trained_by,
    }
    file, lines = candidate.home.results_file, []
    subject: Subject | None = None
    for protocol, node in config["protocols"].items():
        asked = facts | {"protocol": protocol, "asked": asked_of(node)}
        known = [line for line in read_results(file) if same_evaluation(line, asked)]
        if not known or config["force"]:
            subject = subject or make()
            known = [asked | measured(protocol, node, subject, candidate.home)]
            append_result(file, known[-1])
        else:
            when = known[-1]["time"][:10]
            say(f"stands   {candidate.name}, {protocol}: measured on {when}; force=true measures it again")
        lines.append(known[-1])
    return lines


def measured(protocol: str, node: dict[str, Any], subject: Subject, home: RunFolder) -> dict[str, Any]:
    """What a protocol finds, when, and by which code; its pictures are kept in the folder.

    A baseline to which it does not apply gets no figures. Raises ValueError for a setting that cannot be.
    """
    began = time.monotonic()
    try:
        found: Result = build(node, subject=subject)
    except SettingError as error:
        raise ValueError(error.said(f"protocols.{protocol}.")) from None
    except NotApplicable as reason:
        if home.record:  # no baseline: the user has asked for this encoder, and is to know
            raise ValueError(f"protocol={protocol}: {reason}") from None
        found = Result({}, {"not_applicable": str(reason)}, ())
    for name, picture in found.pictures.items():
        file = home.pictures / f"{protocol}_{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, quality=85)
    return {
        "settings": found.settings,
        "figures": found.figures,
        "shown": list(found.shown),
        **({"class_names": subject.sets.classes} if "per_class" in found.figures else {}),
        "evaluated_by": commit(),
        "seconds": round(time.monotonic() - began, 2),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def open_data(folder: RunFolder | None, node: dict[str, Any] | None, paths: dict[str, Any]) -> ImageData:
    """The data to measure on: what `node` describes, else that of the run.

    With the paths of this evaluation; refused when the content is not what the run was trained on.
    """
    if node is not None:
        given: ImageData = build(node, seed=0)
        given.open()
        if folder is not None:
            refuse_another_split(folder, given.facts)
        return given
    if folder is None:
        raise ValueError("data: missing; name what to measure on, such as data=cifar10")
    paths = {"cache": paths["cache"], "search": paths["data"]}
    data: ImageData = build({**folder.config["data"], **paths}, seed=folder.config["seed"])
    data.open()
    then, now = folder.record["data"]["fingerprint"], data.stored.fingerprint
    if then != now:
        raise ValueError(
            f"the data has changed since {folder.path} was trained (fingerprint {then[:12]} then, {now[:12]} now): "
            "restore it, or train again"
        )
    return data


def refuse_another_split(folder: RunFolder, given: Mapping[str, Any]) -> None:
    """Raises ValueError where these are the images of the run, divided otherwise: it may have learned from its test."""
    own = folder.record["data"]
    keys = ("split_seed", "group_by", "set_aside", "train", "val", "test")
    if own["fingerprint"] != given["fingerprint"] or all(own.get(key) == given.get(key) for key in keys):
        return
    differ = ", ".join(f"{key} {given.get(key)}, then {own.get(key)}" for key in keys if own.get(key) != given.get(key))
    raise ValueError(
        f"data: the images that {folder.path} learned from, divided otherwise ({differ}), so that test images may be "
        "among them; leave data= out to measure on the run's own split"
    )


def evaluation_sets(data: ImageData, split: str) -> Sets:
    """Roles of the images. Settings are chosen on validation; when that is what is reported, on a part of train.

    The neighbours' bank chooses nothing, so it stays the whole of train, as in the probe of a running training.
    """
    if data.val is None or (split == "test" and data.test is None):
        raise ValueError(
            f"split={split}: of these images nothing was set aside for it. A run keeps the split that it was trained "
            "with: give data=<other images>; with data= set data.val_fraction and data.test_fraction above 0"
        )
    if split == "test" and data.test is not None:
        return Sets(data.train, data.train, data.val, data.test, data.classes)
    kept, taken = divide(data.train, 0.1, data.split_seed, data.group_by)
    fit, select = (data.train.subset(rows) for rows in (kept, taken))
    return Sets(data.train, fit, select, data.val, data.classes, (kept, taken))


def make_subject(candidate: Candidate, sets: Sets, picked: Hardware, batch_size: int) -> Subject:
    """An encoder on the device it is evaluated on."""
    encoder = candidate.encoder()
    if picked.memory_format == "channels_last":
        encoder.to(memory_format=torch.channels_last)
    return Subject(encoder.to(picked.device), sets, picked.device, picked.precision, batch_size)
