"""Checkpoints that a kill, a full disk or a flipped bit cannot turn into a wrong run."""

import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import CheckpointIO

from ssl_lab.distributed import largest
from ssl_lab.records.interrupt import Asked, Interrupted
from ssl_lab.records.metrics import MetricsLog


class HashedCheckpointIO(CheckpointIO):
    """Writes beside, syncs, then renames; keeps each file's SHA-256 in `<file>.sha256`, as `sha256sum` reads it.

    Holds primitives and tensors only, and opens nothing else: a checkpoint can run no code. OSError when it cannot be
    written, the ones before being untouched; ValueError when a file is not what was written.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        file = Path(path)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _check_room(file.parent, tensor_bytes(checkpoint))
            with temporary.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            _hash_file(file).write_text(f"{sha256(temporary)}  {file.name}\n")
            temporary.replace(file)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's writer, when the disk is full
            raise OSError(
                f"the checkpoint {file} cannot be written ({error}); those before it are whole. Make room for "
                f"{_mebibytes(tensor_bytes(checkpoint))} and give the same command again: the run resumes"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        if not intact(Path(path)):
            raise ValueError(f"{path} does not match its SHA-256: the file was damaged, or is not a checkpoint of ours")
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} is not a checkpoint of ours: {str(error).splitlines()[0]}") from error
        missing = {"state_dict", "optimizer_states", "loops", "callbacks", "ImageData"} - set(checkpoint)
        if missing:
            raise ValueError(
                f"{path} is not a checkpoint of a run of this version: it holds no {', '.join(sorted(missing))}; "
                "remove the folder's checkpoints to begin the run again"
            )
        return dict(checkpoint)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        _hash_file(Path(path)).unlink(missing_ok=True)


class Checkpoints(Callback):
    """Saves at the end of each epoch, and in between when `minutes` have passed; keeps the newest `keep`.

    On SIGTERM or SIGINT it finishes the step, saves, and raises Interrupted. Of several processes the first one's clock
    and any one's signal count: all save and leave by the same step.

    folder: of the files, named after the batches seen. metrics: the log, whose position each checkpoint remembers.
    """

    def __init__(self, folder: Path, metrics: MetricsLog, minutes: float, keep: int):
        self.folder, self.metrics = Path(folder), metrics
        self.minutes, self.keep = minutes, keep
        self._last_saved = self._since = time.monotonic()
        self._before = 0.0
        self._asked = Asked()

    @property
    def seconds(self) -> float:
        """Time the run has trained, over all its resumes; what a kill undid does not count."""
        return self._before + time.monotonic() - self._since

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_saved = self._since = time.monotonic()
        self._asked.listen(insistent=trainer.world_size == 1)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_last_batch:  # it waits for the epoch's own checkpoint, behind the probes
            return
        late = time.monotonic() - self._last_saved >= 60 * self.minutes
        due, asked = largest(int(late and trainer.is_global_zero), self._asked.number)
        if due or asked:
            self.save(trainer)
        if asked:
            raise Interrupted(asked)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)
        (asked,) = largest(self._asked.number)
        if asked:
            raise Interrupted(asked)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._asked.restore()

    def on_exception(self, *_: Any) -> None:
        self._asked.restore()

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint, then drop the oldest."""
        batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        trainer.save_checkpoint(self.folder / f"{batches:09d}.ckpt")
        for old in all_checkpoints(self.folder)[self.keep :]:
            trainer.strategy.remove_checkpoint(old)
        self._last_saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"metrics_position": self.metrics.position, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics.cut_back(int(state_dict["metrics_position"]))
        self._before = float(state_dict["seconds"])


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("[0-9]*.ckpt"), reverse=True)


def newest_intact(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose hash matches; damaged ones are passed over, and that is said."""
    for file in all_checkpoints(folder):
        if intact(file):
            return file
        say(f"damaged  {file}: its SHA-256 does not match; the one before it is tried")
    return None


def intact(file: Path) -> bool:
    """Whether a file still has the content that was hashed when it was written."""
    noted = _hash_file(file)
    return file.is_file() and noted.is_file() and noted.read_text().split()[:1] == [sha256(file)]


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(tensor_bytes(part) for part in parts)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"the disk has {_mebibytes(free)} left")


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _hash_file(file: Path) -> Path:
    return file.with_name(file.name + ".sha256")
