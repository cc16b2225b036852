"""The run folder: what one training run leaves behind, and what every other command reads."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


class RunFolder:
    """One run's files; see section "A run folder" of the README.

    path: of the folder; it need not exist yet.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def results_file(self) -> Path:
        return self.path / "results.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says; empty before the run has started."""
        file = self.path / "run.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that made the run."""
        return dict(yaml.safe_load(self.config_file.read_text()))

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished"

    def start(self, config: Mapping[str, Any], **facts: Any) -> None:
        """Make the folder and write the configuration and the first facts; a resumed run keeps its older ones."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))
        self.update(**(facts | self.record | {"status": "running"}))

    def update(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        write_atomically(self.path / "run.json", json.dumps({**self.record, **facts}, indent=2) + "\n")


def write_atomically(file: Path, text: str) -> None:
    """Write through a temporary file in the same folder, so that a reader sees the old text or the new."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(file)


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that differ when anything in `identity` does."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_run(path: str | Path) -> RunFolder:
    """The run at `path`, or the only one below it.

    Raises ValueError naming what is there when it is none or several.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"run={path}: no such folder; give the folder that `ssl-lab train` printed")
    runs = sorted(file.parent for file in path.rglob("run.json") if (file.parent / "config.yaml").exists())
    if len(runs) == 1:
        return RunFolder(runs[0])
    listed = "".join(f"\n  run={run}" for run in runs[:12]) or " none"
    raise ValueError(f"run={path} holds {len(runs)} runs, and one is wanted:{listed}")
