"""Weights that others trained: read from their files, found in their names, and refused when something is missing."""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_lab.nn.huggingface import from_huggingface

# Parts of names under which a file keeps a second network, that evaluation is not about.
_OTHERS = re.compile(r"(^|[._])(teacher|momentum|ema|target|key|encoder_k|backbone_k)([._]|$)")
# Wrappers under which checkpoints keep their tensors.
_NESTED = ("state_dict", "model", "model_state_dict", "classy_state_dict", "base_model", "trunk", "network", "net")
# A torchvision ResNet cut into an nn.Sequential, as lightly keeps it.
_SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class Match(NamedTuple):
    """How the tensors of a file fit a backbone."""

    tensors: dict[str, Tensor]  # by the backbone's names
    prefix: str  # what stood before the names in the file
    missing: list[str]  # of the backbone, not in the file
    misshapen: list[str]  # "name: (3, 3) in the file, (5, 5) here"
    unused: list[str]  # of the file
    surplus: list[str]  # of these what stands inside the backbone's own parts: the file is of a deeper one

    @property
    def report(self) -> str:
        """One line for the screen."""
        total = len(self.tensors) + len(self.missing) + len(self.misshapen)
        found = f"{len(self.tensors)} of {total} tensors matched" + (f" below {self.prefix!r}" if self.prefix else "")
        return f"{found}; {len(self.unused)} of the file not used"


def load_weights(backbone: nn.Module, file: Path, allow_partial: bool = False) -> Match:
    """Fill a backbone from a file of torchvision, timm, Hugging Face, lightly, solo-learn, VISSL, MoCo or the like.

    allow_partial: leave what is missing or misshapen as it stands, instead of refusing. Raises ValueError when the file
    cannot be read safely, when nothing of it fits, when a tensor of the backbone is missing or misshapen, or when its
    parts have more tensors in the file than here.
    """
    match = best_match(backbone, read_tensors(file))
    wrong = [f"{name}: missing" for name in match.missing] + match.misshapen
    wrong += [f"{name}: in the file, not in the backbone" for name in match.surplus]
    if not match.tensors or (wrong and not allow_partial):
        listed = "".join(f"\n  {line}" for line in wrong[:12]) + (
            f"\n  and {len(wrong) - 12} more" if wrong[12:] else ""
        )
        stem = any(line.startswith("conv1.weight: (64, 3, 7, 7)") for line in match.misshapen)
        raise ValueError(
            f"weights={file}: {match.report}:{listed}\nset backbone= to what was trained"
            + (", whose stem is that for large images: such as backbone=resnet50_imagenet" if stem else "")
            + ", or allow_partial=true to go on with what fits and leave the rest random"
        )
    backbone.load_state_dict(match.tensors, strict=False)
    return match


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its dotted name, opened without running code."""
    if not file.is_file():
        raise ValueError(f"weights={file}: no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with file.open("rb") as stream:
            head = stream.read(512)
        if head and not _pickled(head):
            raise ValueError(f"weights={file}: is no file of weights: it begins with {head[:24]!r}")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UnicodeDecodeError as error:  # a ValueError, and none of ours
        raise ValueError(f"weights={file}: cannot be read as weights, perhaps cut off ({first_line(error)})") from error
    except ValueError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights={file}: holds more than tensors, and opening it could run code ({first_line(error)}). If you "
            "trust it, open it once yourself with torch.load(file, weights_only=False) and save its state_dict alone"
        ) from error
    except Exception as error:  # both libraries raise what they please on a damaged file
        raise ValueError(f"weights={file}: cannot be read as weights, perhaps cut off ({first_line(error)})") from error
    found = dict(_tensors(content))
    if not found:
        raise ValueError(f"weights={file}: holds no tensors")
    return found


def _pickled(head: bytes) -> bool:
    """Whether a file that begins so is one of torch.save: a zip, a pickle, or of the oldest torch a tar."""
    return head[:2] == b"PK" or head[:1] == b"\x80" or head[257:262] == b"ustar"


def first_line(error: BaseException) -> str:
    """What an error says, without its essay."""
    return str(error).strip().split("\n")[0][:160]


def _tensors(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            inner = prefix if not prefix and name in _NESTED and isinstance(value, Mapping) else f"{prefix}{name}."
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            else:
                yield from _tensors(value, inner)


def best_match(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> Match:
    """The tensors of the backbone, under whatever prefix and layout most of them are found."""
    own = {name.removeprefix("model."): name for name in backbone.state_dict()}  # a TimmBackbone keeps timm's `model`
    candidates = [
        _match(backbone, own, renamed, prefix)
        for renamed in (rename(tensors) for rename in (_as_they_are, _from_sequential, _from_huggingface))
        for prefix in _prefixes(own, renamed)
    ]
    return max(candidates, key=lambda m: (len(m.tensors), not _OTHERS.search(m.prefix), -len(m.prefix)))


def _match(backbone: nn.Module, own: Mapping[str, str], found: Mapping[str, Tensor], prefix: str) -> Match:
    expected = backbone.state_dict()
    fitting, missing, misshapen = {}, [], []
    for short, name in own.items():
        tensor = found.get(prefix + short)
        if tensor is None:
            if not short.endswith("num_batches_tracked"):  # a counter that old files lack and evaluation does not read
                missing.append(name)
        elif tensor.shape != expected[name].shape:
            misshapen.append(f"{name}: {tuple(tensor.shape)} in the file, {tuple(expected[name].shape)} here")
        else:
            fitting[name] = tensor
    used, parts = {prefix + short for short in own}, {short.partition(".")[0] for short in own}
    unused = [name for name in found if name not in used]
    below = [name for name in unused if name.startswith(prefix) and "." in name.removeprefix(prefix)]
    surplus = [name for name in below if name.removeprefix(prefix).partition(".")[0] in parts]
    return Match(fitting, prefix, missing, misshapen, unused, surplus)


def _prefixes(own: Mapping[str, str], found: Mapping[str, Tensor]) -> list[str]:
    """What stands before the backbone's names in the file."""
    ends = [short for short in own if not short.endswith("num_batches_tracked")]
    probes = (*ends[:3], *ends[-3:])  # the first and the last tensors tell
    return sorted({name.removesuffix(end) for end in probes for name in found if f".{name}".endswith(f".{end}")} | {""})


def _as_they_are(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return tensors


def _from_sequential(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    def rename(name: str) -> str:
        parts = name.split(".")
        for i, part in enumerate(parts):
            if part in _SEQUENTIAL:
                return ".".join([*parts[:i], _SEQUENTIAL[part], *parts[i + 1 :]])
        return name

    return {rename(name): tensor for name, tensor in tensors.items()}


def _from_huggingface(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {from_huggingface(name): tensor for name, tensor in tensors.items()}
