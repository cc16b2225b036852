"""The encoder alone: its weights, and how to build it again."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ssl_lab.build import build
from ssl_lab.nn import Encoder

TRUST = "SSL_LAB_TRUST"  # an environment variable: further packages, with commas between
_TRUSTED = ("ssl_lab", "torch.nn", "torchvision.models", "timm")


def save_encoder(encoder: Encoder, backbone: Mapping[str, Any], folder: Path) -> str:
    """Write `encoder.safetensors` and `encoder.json` into a folder.

    backbone: the configuration node that built `encoder.backbone`. Returns the SHA-256 of the weights.
    """
    file = folder / "encoder.safetensors"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.backbone.state_dict().items()}
    save_file(tensors, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    recipe = {"backbone": dict(backbone), "preprocessing": encoder.preprocessing, "sha256": digest}
    (folder / "encoder.json").write_text(json.dumps(recipe, indent=2) + "\n")
    return digest


def load_encoder(folder: Path) -> tuple[Encoder, str]:
    """The encoder of a run and the SHA-256 of its weights.

    Raises ValueError when the files are missing or do not belong together, when a tensor is missing or misshapen, or
    when the recipe asks for a class outside the packages we trust.
    """
    if not (folder / "encoder.json").exists():
        raise ValueError(f"{folder} holds no encoder.json: the run has not finished; start its command again")
    recipe = json.loads((folder / "encoder.json").read_text())
    file = folder / "encoder.safetensors"
    if hashlib.sha256(file.read_bytes()).hexdigest() != recipe["sha256"]:
        raise ValueError(f"{file} does not match the SHA-256 in encoder.json: it was damaged or replaced")
    check_trusted(recipe["backbone"], f"{folder}/encoder.json")
    backbone = build(recipe["backbone"])
    try:
        backbone.load_state_dict(load_file(file))  # strict
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit the backbone of encoder.json: {error}") from error
    return Encoder(backbone, **recipe["preprocessing"]).eval(), recipe["sha256"]


def check_trusted(backbone: Mapping[str, Any], where: str) -> None:
    """Raises ValueError where a node would call code of a package that nobody has said to trust.

    A run folder may come from anyone, and its `encoder.json` names what is called to build the encoder again.
    """
    trusted = (*_TRUSTED, *filter(None, os.environ.get(TRUST, "").split(",")))
    for target in targets(backbone):
        if not any(target.startswith(f"{package}.") for package in trusted):
            raise ValueError(
                f"{where}: builds {target}, and only {', '.join(trusted)} are trusted, since an encoder is built again "
                f"from its folder alone; if it is yours: export {TRUST}={target.partition('.')[0]}"
            )


def digest_of(network: nn.Module) -> str:
    """SHA-256 of the names and values of every tensor of a network."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def targets(node: Any) -> list[str]:
    """Every `_target_` in a configuration node."""
    if isinstance(node, Mapping):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    if isinstance(node, list | tuple):
        return [target for value in node for target in targets(value)]
    return []
