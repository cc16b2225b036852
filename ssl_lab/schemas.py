"""What each command's configuration may hold: a dataclass for each contents page, and for a file of `conf/table`.

Parts (`Node`) are described by the signatures of their targets, not here.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ssl_lab.config import AtLeast, Count, Node

Baseline = Literal["raw_pixels", "color_statistics", "kmeans_features", "random_weights"]


@dataclass
class Paths:
    out: str
    data: str
    cache: str


@dataclass
class Trainer:
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Count | Literal["auto"]
    launcher: Literal["local", "torchrun", "slurm"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"]
    memory_format: Literal["auto", "channels_last", "contiguous"]
    max_epochs: Count
    max_steps: Count | None
    max_flops: float | None
    accumulate_grad_batches: Count
    log_every_n_steps: Count
    checkpoint_minutes: Annotated[float, AtLeast(0)]
    keep_checkpoints: Count


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
    units: Literal["data", "imagenet"] | None
    kmeans_centroids: Count
    batch_size: Count
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
    rows: list[str] | None
    words: list[str]
    at_once: Count | None
    plan: bool
    train: bool
    anew: bool
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
    draws: Count
    rates: list[float]
    epochs: Count
    batch_size: Count
    min_steps: Annotated[int, AtLeast(0)]
    weights: str | None
    weights_backbone: str
    timm: str | None
    at_once: Count


@dataclass
class Worth(Train):
    """The top level of `worth.yaml`."""

    worth: Comparison


@dataclass
class Looking:
    """How to search."""

    name: str
    trials: Count
    figure: str
    at_once: Count
    startup: Annotated[int, AtLeast(0)]
    seed: int


@dataclass
class Search(Train):
    """The top level of `search.yaml`."""

    search: Looking


@dataclass
class Shard:
    """The top level of `shard.yaml`."""

    to: str
    pictures: Count
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
    unlike: list[str] | None = None  # what all rows do otherwise than those who printed the published figures
    sweep: dict[str, list[Any]] | None = None  # a row for each combination of these values
    published_split: Literal["val", "test"] | None = None  # that the rows' published figures are of; null for test


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
    unlike: str | None = None  # what it does otherwise than whoever printed the published figure


# The schema of each command that takes overrides.
SCHEMAS: dict[str, type] = {
    "train": Train,
    "evaluate": Evaluate,
    "table": Table,
    "export": Export,
    "shard": Shard,
    "report": Report,
    "worth": Worth,
    "search": Search,
}
