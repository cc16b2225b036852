"""The run folder: record, metrics, checkpoints, results."""

from ssl_lab.records.checkpoints import Checkpoints, HashedCheckpointIO, newest_intact
from ssl_lab.records.encoder_file import load_encoder, save_encoder
from ssl_lab.records.finite import FiniteLoss
from ssl_lab.records.metrics import MetricsLog, StepMetrics, read_metrics
from ssl_lab.records.previews import Previews
from ssl_lab.records.progress import Progress, duration
from ssl_lab.records.provenance import commit, provenance
from ssl_lab.records.results import append_result, read_results, results_table, same_evaluation
from ssl_lab.records.run import RunFolder, find_run, identity_hash

__all__ = [
    "Checkpoints",
    "FiniteLoss",
    "HashedCheckpointIO",
    "MetricsLog",
    "Previews",
    "Progress",
    "RunFolder",
    "StepMetrics",
    "append_result",
    "commit",
    "duration",
    "find_run",
    "identity_hash",
    "load_encoder",
    "newest_intact",
    "provenance",
    "read_metrics",
    "read_results",
    "results_table",
    "same_evaluation",
    "save_encoder",
]
