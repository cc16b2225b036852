"""The run folder: what one training run leaves behind, and what every other command reads."""

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a page of many runs reads many configurations


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
    def pictures(self) -> Path:
        """Of what evaluations looked at."""
        return self.path / "pictures"

    @property
    def previews(self) -> Path:
        """Pictures made while training: the views, and what was answered."""
        return self.path / "previews"

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
        return dict(yaml.load(self.config_file.read_text(), Loader=_Loader))  # a safe one

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished"

    @property
    def being_written(self) -> bool:
        """Whether a process holds the lock."""
        try:
            with (self.path / "lock").open() as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # there is none
            pass
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Within, no other process writes this run. Raises ValueError when one does, or when none can.

        The system holds the lock for the process and drops it when that ends, however it ends: none can be stale.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            stream = (self.path / "lock").open("a+")
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written ({error}): allow it, or set paths.out=<folder>") from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                raise ValueError(
                    f"{self.path} is being written by another process ({stream.read().strip()}): wait for it to end, "
                    "or stop it and give the same command again"
                ) from None
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}\n")
            stream.flush()
            yield

    def start(self, config: Mapping[str, Any], **facts: Any) -> None:
        """Make the folder and write the configuration and the first facts; a resumed run keeps its older ones.

        But for the error that it ended with: it goes on.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))
        kept = {name: fact for name, fact in self.record.items() if name != "last_error"}
        self.write({**facts, **kept, "status": "running"})

    def update(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        self.write({**self.record, **facts})

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace `run.json`."""
        write_atomically(self.path / "run.json", json.dumps(dict(record), indent=2) + "\n")


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


def run_folders(pattern: str) -> list[Path]:
    """The folders of runs at or below what a pattern names, whatever their state: any that holds a file of a run.

    Raises ValueError naming what is near when there is none.
    """
    given = Path(pattern).expanduser()
    steps = given.parts[1:] if given.is_absolute() else given.parts
    try:
        found = sorted(Path(given.anchor or ".").glob("/".join(steps))) if steps else [given]
    except ValueError as error:
        raise ValueError(f"runs={pattern}: {error}; * stands for any name, ** for folders at any depth") from None
    names = ("run.json", "config.yaml", "metrics.jsonl", "checkpoints")
    files = (file for place in found for name in names for file in place.rglob(name))
    folders = {
        file.parent for file in files if not file.parent.match("wandb/*/files")
    }  # W&B's, of a run that is online
    if folders:
        return sorted(folders)
    parent = next(p for p in (given, *given.parents) if p.is_dir() and not set("*?[") & set(str(p)))
    near = sorted(str(child) for child in parent.iterdir() if child.is_dir())[:8]
    raise ValueError(f"runs={pattern}: no run there; {parent} holds {', '.join(near) or 'no folder'}")
