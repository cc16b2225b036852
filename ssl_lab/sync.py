"""`python -m ssl_lab.sync [FOLDER …]`: push the W&B runs that were written offline."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_lab import cli
from ssl_lab.config import ConfigError

USAGE = """usage: ssl-lab sync [FOLDER …]

  Pushes every run that W&B wrote offline below these folders (outputs when none is given), by `wandb sync`; what it has
  pushed before is left out. Log in first: `wandb login`, or WANDB_API_KEY.
  A run brings what it logged, with run.json, config.yaml and metrics.jsonl as its artifact. What `evaluate` measures
  afterwards stays here, in results.jsonl of the run's folder: `ssl-lab report` and `ssl-lab table` show it.
"""


def main(words: Sequence[str]) -> None:
    """Hand the offline runs to `wandb sync`. Raises ConfigError when a folder does not exist or holds none."""
    if {"--help", "-h"} & set(words):
        sys.stdout.write(USAGE)
        return
    folders = [Path(word) for word in words] or [Path("outputs")]
    absent = [str(folder) for folder in folders if not folder.is_dir()]
    if absent:
        raise ConfigError([f"{folder}: no such folder; give one that holds runs" for folder in absent])
    runs = sorted({run for folder in folders for run in offline_runs(folder.resolve())})
    waiting = [run for run in runs if not pushed(run)]
    sys.stdout.write(f"{len(runs)} offline runs, {len(runs) - len(waiting)} of them pushed before\n")
    if not runs:
        raise ConfigError([f"{folders[0]}: no offline run below; a run writes one unless logger=none"])
    if waiting:
        line = [sys.executable, "-m", "wandb", "sync", *map(str, waiting)]
        if any(marks(run) for run in waiting):  # pushed in part: W&B would skip it by its mark
            line.append("--include-synced")
        done = subprocess.run(line, check=False)
        raise SystemExit(done.returncode)


def offline_runs(folder: Path) -> list[Path]:
    """The folders of W&B's offline runs, below those of our runs or given themselves."""
    return [run for run in (folder, *folder.rglob("offline-run-*")) if run.match("wandb/offline-run-*")]


def pushed(run: Path) -> bool:
    """Whether `wandb sync` has left its mark, and nothing was written since."""
    times = [mark.stat().st_mtime for mark in marks(run)]
    return bool(times) and all(log.stat().st_mtime <= max(times) for log in run.glob("*.wandb"))


def marks(run: Path) -> list[Path]:
    """What `wandb sync` leaves beside a file that it has pushed."""
    return list(run.glob("*.wandb.synced"))


if __name__ == "__main__":
    with cli.messages():
        main(sys.argv[1:])
