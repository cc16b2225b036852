"""The encoders that an evaluation is about: what a run left behind, what others trained, and what nobody trained."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision.models import get_weight

from ssl_lab.build import build
from ssl_lab.data import ImageData
from ssl_lab.evaluation import ColorStatistics, KMeansFeatures, RawPixels, Sets, recalibrated
from ssl_lab.nn import Encoder
from ssl_lab.records import RunFolder, digest_of, identity_hash, load_encoder, load_weights
from ssl_lab.say import say

TORCHVISION = re.compile(r"\w+_Weights\.\w+")  # its names of weights
RECALIBRATION = {"num_images": 5000, "batch_size": 250}  # what batch norm's statistics are taken anew from
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Candidate(NamedTuple):
    """An encoder to measure, and the folder that keeps its results."""

    name: str
    encoder: Callable[[], nn.Module]  # made only when something is left to measure
    digest: str  # tells its weights
    home: RunFolder
    trained_by: dict[str, Any]  # seed, commit and cost of its training; backbone and source of other weights
    epoch_rule: str  # which epoch's weights it has: the last one's, those that were given, or none


def trained(folder: RunFolder, sets: Sets, recalibrate: bool | None) -> Iterator[Candidate]:
    """The encoder that a run left behind, and again with batch norm's statistics taken anew from clean images.

    recalibrate: whether to; None where the backbone saw tiles, patches or holes in training.
    """
    encoder, digest = load_encoder(folder.path)
    record = folder.record
    keys = ("seed", "commit", "dirty", "flops", "views_seen", "images_seen", "seconds")
    name = str(folder.config["method"]["_target_"]).rpartition(".")[2]
    trained_by = {key: record.get(key) for key in keys}
    own = Candidate(name, lambda: encoder, digest, folder, trained_by, "last")
    yield own
    if recalibrate or (recalibrate is None and not record.get("whole_images", True)):
        yield again(own, sets)


def again(candidate: Candidate, sets: Sets) -> Candidate:
    """The same encoder with batch norm's statistics taken anew."""
    return candidate._replace(
        name=f"{candidate.name}, recalibrated",
        encoder=lambda: recalibrated(candidate.encoder(), sets.fit, **RECALIBRATION),
        digest=f"{candidate.digest}, recalibrated",
        trained_by=candidate.trained_by | {"recalibrated": RECALIBRATION},
    )


def foreign(backbone: dict[str, Any], config: dict[str, Any], data: ImageData, sets: Sets) -> Iterator[Candidate]:
    """A backbone with weights from a file, or with those that its library brings, and if asked again recalibrated."""
    torch.manual_seed(0)  # what a partial file leaves random is the same each time
    network = build(backbone)
    name = str(backbone.get("name", backbone["_target_"].rpartition(".")[2]))
    made_by: dict[str, Any] = {"backbone": backbone}
    if config["weights"] is not None:
        file = weights_file(config["weights"])
        match = load_weights(network, file, config["allow_partial"])
        say(f"weights  {file}: {match.report}")
        for left in match.missing + match.misshapen:
            say(f"random   {left}")
        name, made_by = (
            Path(config["weights"]).name,
            made_by | {"matched": match.report, "random": match.missing + match.misshapen},
        )
    preprocessing = data.preprocessing | units(backbone, config, network)
    say(f"units    mean {preprocessing['mean']}, std {preprocessing['std']}")
    encoder = Encoder(network, **preprocessing).eval()
    digest = identity_hash({"weights": digest_of(network), **preprocessing})
    home = RunFolder(Path(config["paths"]["out"]) / "weights" / f"{Path(name).stem}-{data.source.name}-{digest}")
    own = Candidate(name, lambda: encoder, digest, home, made_by | {"preprocessing": preprocessing}, "as given")
    yield own
    if config["recalibrate"]:
        yield again(own, sets)


def units(backbone: dict[str, Any], config: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """Mean and deviation that other weights expect, as asked or as their library says; nothing for those of the data.

    All weights of torchvision's were trained in ImageNet's.
    """
    if config["units"] == "imagenet" or (config["units"] is None and TORCHVISION.fullmatch(str(config["weights"]))):
        return IMAGENET
    if config["units"] is None and backbone.get("pretrained"):
        told: Any = getattr(network, "model", None)
        return {key: list(told.pretrained_cfg[key]) for key in ("mean", "std")}
    return {}


def weights_file(name: str) -> Path:
    """The file that `weights` names: a path, or torchvision's name of weights, downloaded once by torch's hub.

    Raises ValueError for a name that torchvision does not have, or cannot fetch.
    """
    if not TORCHVISION.fullmatch(name):
        return Path(name).expanduser()
    try:
        weights = get_weight(name)
    except (ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"weights={name}: torchvision has no such weights ({error}); see torchvision.models") from None
    file: Path = Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rpartition("/")[2]
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(file), progress=False)
        except OSError as error:
            raise ValueError(f"weights={name}: {weights.url} cannot be fetched ({error}); put it at {file}") from None
    return file


def baselines(backbone: dict[str, Any], seed: int, config: dict[str, Any], data: ImageData) -> Iterator[Candidate]:
    """The encoders without training that a configuration names; each has a folder of its own."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "raw_pixels": RawPixels,
        "color_statistics": ColorStatistics,
        "kmeans_features": partial(kmeans_features, data, config["kmeans_centroids"]),
        "random_weights": partial(random_encoder, backbone, data, seed),
    }
    images = {key: value for key, value in data.identity.items() if key != "batch_size"}  # nothing here is trained
    for name in config["baselines"]:
        made_by: dict[str, Any] = {"backbone": backbone, "seed": seed} if name == "random_weights" else {}
        made_by |= {"centroids": config["kmeans_centroids"]} if name == "kmeans_features" else {}
        digest = identity_hash({"baseline": name, "data": images} | made_by)
        home = RunFolder(Path(config["paths"]["out"]) / "baselines" / f"{name}-{data.source.name}-{digest}")
        yield Candidate(name.replace("_", " "), makers[name], digest, home, made_by, "none")


def kmeans_features(data: ImageData, centroids: int) -> nn.Module:
    """The layer of Coates, Lee and Ng, of the images to learn from."""
    encoder = KMeansFeatures(centroids)
    encoder.fit(data.sample(10_000))
    return encoder


def random_encoder(backbone: dict[str, Any], data: ImageData, seed: int) -> nn.Module:
    """An encoder as it stands before training."""
    torch.manual_seed(seed)
    encoder = Encoder(build(backbone), **data.preprocessing)
    encoder.fit(data.sample(5000))
    return encoder.eval()
