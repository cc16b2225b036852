"""What a configuration may hold, and every way in which one does not. Imports neither torch nor lightning."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ssl_lab.signatures import PACKAGE, signature


class ConfigError(ValueError):
    """A configuration that cannot work; its text lists all that is wrong."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Node(dict[str, Any]):
    """A part built by Hydra: `_target_` and its keywords, which the target's own signature describes."""


Baseline = Literal["raw_pixels", "color_statistics", "kmeans_features", "random_weights"]


@dataclass
class Paths:
    out: str
    data: str
    cache: str


@dataclass
class Trainer:
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: int | Literal["auto"]
    launcher: Literal["local", "torchrun", "slurm"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"]
    memory_format: Literal["auto", "channels_last", "contiguous"]
    max_epochs: int
    max_steps: int | None
    max_flops: float | None
    accumulate_grad_batches: int
    log_every_n_steps: int
    checkpoint_minutes: float
    keep_checkpoints: int


@dataclass
class Train:
    """The top level of `train.yaml`."""

    seed: int
    paths: Paths
    trainer: Trainer
    data: Node
    method: Node
    callbacks: dict[str, Node | None] | None
    loggers: dict[str, Node | None] | None


@dataclass
class Evaluate:
    """The top level of `evaluate.yaml`."""

    run: str | None
    weights: str | None
    allow_partial: bool
    split: Literal["test", "val"]
    baselines: list[Baseline]
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    precision: Literal["auto", "32-true", "bf16-mixed"]
    recalibrate: bool | None
    batch_size: int
    force: bool
    save: str | None
    paths: Paths
    protocols: dict[str, Node]
    method: dict[str, Node] | None = None  # the backbone of `weights`
    data: Node | None = None
    sets: dict[str, Node] | None = None


@dataclass
class Table:
    """The top level of `table.yaml`."""

    name: str
    seeds: list[int] | None
    at_once: int
    plan: bool
    train: bool
    split: Literal["test", "val"]
    save: str | None
    paths: Paths


@dataclass
class Export:
    """The top level of `export.yaml`."""

    run: str
    to: str
    layout: Literal["torchvision", "timm", "huggingface"]
    paths: Paths


@dataclass
class Report:
    """The top level of `report.yaml`."""

    run: str | None
    runs: str | None
    to: str | None
    paths: Paths


@dataclass
class Comparison:
    """What `worth` compares."""

    amounts: list[float]
    draws: int
    rates: list[float]
    epochs: int
    min_steps: int
    weights: str | None
    weights_backbone: str
    timm: str | None
    at_once: int


@dataclass
class Worth(Train):
    """The top level of `worth.yaml`."""

    worth: Comparison


@dataclass
class Looking:
    """How to search."""

    name: str
    trials: int
    figure: str
    at_once: int
    startup: int
    seed: int


@dataclass
class Search(Train):
    """The top level of `search.yaml`."""

    search: Looking


@dataclass
class Shard:
    """The top level of `shard.yaml`."""

    to: str
    pictures: int
    paths: Paths
    data: Node


@dataclass
class TableSpec:
    """A file of `conf/table`."""

    title: str
    shared: list[str]
    seeds: list[int]
    protocols: list[str]
    evaluation: list[str] | None  # further words for `evaluate`
    baselines: list[Baseline]
    rows: dict[str, Any]  # each a list of words for `train`, or a TableRow
    supervised: list[str] | None = None  # words for `evaluate protocol=finetune` of the first row, and from scratch
    images: int | None = None  # in an epoch, for the plan where the data is not at hand
    sweep: dict[str, list[Any]] | None = None  # a row for each combination of these values


@dataclass
class Published:
    """A figure from elsewhere, in per cent."""

    value: float
    source: str
    measured: str | None = None  # how, where that is not our way; then nothing is compared
    verified: bool | None = None  # null for true


@dataclass
class TableRow:
    """A row of a table with what was printed elsewhere."""

    train: list[str]
    published: dict[str, Published] | None = None  # by protocol
    seeds: list[int] | None = None  # where it is not made for all of the table's
    also: list[str] | None = None  # protocols beside the table's


# What the entry points hand to a node beside its own keys.
GIVEN = {
    "data": {"seed"},
    "sets": {"seed"},
    "method": {"preprocessing", "seed"},
    "callbacks": {"bank", "queries", "num_classes", "images"},
}


def check(config: Mapping[str, Any], schema: type) -> list[str]:
    """All problems of a resolved configuration, one sentence each; empty when there is none."""
    return list(_check_value("", config, schema))


def near(word: str, allowed: Sequence[str], otherwise: str = "") -> str:
    """A clause that offers what `word` may have meant; `otherwise`, or else all there is, when nothing is near."""
    close = difflib.get_close_matches(word, allowed, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"there is: {', '.join(sorted(allowed)) or 'nothing'}"


def _check_value(key: str, value: Any, expected: Any) -> Iterator[str]:
    if value == "???":
        yield f"{key}: missing; set {key}=…"
    elif isinstance(value, Mapping) and "_target_" in value:
        yield from _check_node(key, value)
    elif isinstance(expected, type) and is_dataclass(expected):
        yield from _check_fields(key, value, expected)
    elif expected is Node:
        yield f"{key}: must be a part with a _target_, got {value!r}; choose an option, see --help"
    elif get_origin(expected) in (Union, UnionType) and isinstance(value, list | tuple | Mapping):
        inner = next((a for a in get_args(expected) if _sequence(a) or _mapping(a)), None)
        yield from _check_value(key, value, inner) if inner is not None else [_mistyped(key, value, expected)]
    elif _mapping(expected) and isinstance(value, Mapping):
        inner = (get_args(expected) or (Any, Any))[1]
        for name, item in value.items():
            yield from _check_value(f"{key}.{name}", item, inner)
    elif isinstance(value, list | tuple) and _sequence(expected):
        inner = (get_args(expected) or (Any,))[0]
        for i, item in enumerate(value):
            yield from _check_value(f"{key}[{i}]", item, inner)
    elif not _fits(value, expected):
        yield _mistyped(key, value, expected)


def _mistyped(key: str, value: Any, expected: Any) -> str:
    return f"{key}={value!r}: must be {describe(expected)}"


def _check_fields(key: str, value: Any, schema: type) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{key}={value!r}: must be a group of keys"
        return
    hints = get_type_hints(schema)
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in hints:
            yield f"{prefix}{name}: no such key; {near(name, list(hints))}"
    for field in fields(schema):
        if field.name in value:
            yield from _check_value(prefix + field.name, value[field.name], hints[field.name])
        elif not _fits(None, hints[field.name]):
            yield f"{prefix}{field.name}: missing"


def _check_node(key: str, node: Mapping[str, Any]) -> Iterator[str]:
    target = str(node["_target_"])
    parameters = signature(target)
    if parameters is None:
        if target.startswith(f"{PACKAGE.name}."):
            yield f"{key}._target_={target}: ssl_lab has no such part"
        return  # a third party's: checked when it is imported
    own = {name: value for name, value in node.items() if name not in ("_target_", "_partial_", "_convert_")}
    group, _, inside = key.partition(".")
    given = GIVEN.get(group, set()) if not inside or group in ("callbacks", "sets") else set()
    for name, value in own.items():
        if name not in parameters or name in given:
            yield f"{key}.{name}: {target} takes no such key; {near(name, sorted(set(parameters) - given))}"
        else:
            yield from _check_value(f"{key}.{name}", value, parameters[name].type)
    if not node.get("_partial_"):
        for name in sorted(n for n, p in parameters.items() if p.required and n not in own and n not in given):
            yield f"{key}.{name}: missing; {target} needs it"


def _fits(value: Any, expected: Any) -> bool:
    if expected is Any or isinstance(expected, str):
        return True
    origin = get_origin(expected)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(expected))
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(expected))
    if expected in (None, NoneType):
        return value is None
    if expected is bool or isinstance(value, bool):
        return isinstance(value, bool) and expected is bool
    if expected is float:
        return isinstance(value, int | float)
    if _sequence(expected) or _mapping(expected):
        return isinstance(value, list | tuple if _sequence(expected) else Mapping)
    return isinstance(value, expected) if isinstance(expected, type) else True


def _sequence(expected: Any) -> bool:
    return (get_origin(expected) or expected) in (list, tuple, Sequence)


def _mapping(expected: Any) -> bool:
    candidates = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    return any((get_origin(one) or one) in (dict, Mapping) for one in candidates)


def describe(expected: Any) -> str:
    """A type in words."""
    origin = get_origin(expected)
    if origin is Literal:
        return "one of " + ", ".join(str(allowed) for allowed in get_args(expected))
    if origin in (Union, UnionType):
        return " or ".join(describe(one) for one in get_args(expected))
    if _sequence(expected):
        inner = [one for one in get_args(expected) if one is not Ellipsis]
        return "a list of " + (describe(inner[0]) if inner else "values")
    words = {
        dict: "a group of keys",
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        NoneType: "null",
    }
    return words.get(expected, getattr(expected, "__name__", str(expected)))
