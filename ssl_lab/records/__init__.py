"""The run folder: record, metrics, checkpoints, results."""

from ssl_lab.records.checkpoints import Checkpoints, HashedCheckpointIO, newest_intact
from ssl_lab.records.encoder_file import check_trusted, digest_of, load_encoder, save_encoder
from ssl_lab.records.finite import FiniteLoss
from ssl_lab.records.interrupt import Interrupted
from ssl_lab.records.ledger import (
    DURATION,
    baseline_results,
    identity,
    read_ledger,
    same_images,
    same_run,
    summaries,
    write_ledger,
)
from ssl_lab.records.metrics import MetricsLog, StepMetrics, read_metrics
from ssl_lab.records.previews import Answers, Neighbours, ViewsShown
from ssl_lab.records.progress import Progress, duration
from ssl_lab.records.provenance import commit, provenance
from ssl_lab.records.results import (
    append_result,
    asked_of,
    describe,
    is_number,
    label,
    read_results,
    results_markdown,
    results_table,
    same_evaluation,
    shown,
)
from ssl_lab.records.run import RunFolder, find_run, identity_hash, run_folders
from ssl_lab.records.weights_file import load_weights

__all__ = [
    "DURATION",
    "Answers",
    "Checkpoints",
    "FiniteLoss",
    "HashedCheckpointIO",
    "Interrupted",
    "MetricsLog",
    "Neighbours",
    "Progress",
    "RunFolder",
    "StepMetrics",
    "ViewsShown",
    "append_result",
    "asked_of",
    "baseline_results",
    "check_trusted",
    "commit",
    "describe",
    "digest_of",
    "duration",
    "find_run",
    "identity",
    "identity_hash",
    "is_number",
    "label",
    "load_encoder",
    "load_weights",
    "newest_intact",
    "provenance",
    "read_ledger",
    "read_metrics",
    "read_results",
    "results_markdown",
    "results_table",
    "run_folders",
    "same_evaluation",
    "same_images",
    "same_run",
    "save_encoder",
    "shown",
    "summaries",
    "write_ledger",
]
