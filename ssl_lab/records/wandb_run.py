"""What W&B gets of a run beside the metrics. Imported by what trains alone, since it takes a second."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from ssl_lab.records.run import RunFolder


def wandb_identity(folder: Path, tags: list[str]) -> dict[str, Any]:
    """Keywords of a WandbLogger: a resumed run stays itself, in the group of its sweep or of its experiment."""
    group = os.environ.get("WANDB_RUN_GROUP", folder.parent.name)  # which the launcher of a sweep names
    return {"id": folder.name, "resume": "allow", "group": group, "job_type": "train", "tags": tags}


def complete(loggers: Iterable[Logger], run: RunFolder, final: Mapping[str, float]) -> None:
    """The last figures as `final/<name>`, and the record, the configuration and every logged figure as an artifact.

    Evaluations come after it.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({f"final/{name}": value for name, value in final.items()})
            artifact = wandb.Artifact(f"{run.path.name}-record", type="record")
            for file in ("run.json", "config.yaml", "metrics.jsonl"):
                artifact.add_file(str(run.path / file))
            logger.experiment.log_artifact(artifact)
    wandb.finish()  # so that the next run of this process begins its own
