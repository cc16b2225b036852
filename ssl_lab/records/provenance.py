"""Where a run comes from: code, versions, machine."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "timm", "numpy", "pillow")


def provenance() -> dict[str, Any]:
    """Command, commit, versions and hardware, for `run.json`."""
    return {
        "command": command(sys.argv),
        **commit(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "hardware": hardware(),
    }


def command(words: Sequence[str]) -> list[str]:
    """The words of a process' command as one would type them."""
    program = Path(words[0])
    typed = ["python", "-m", f"ssl_lab.{program.stem}"] if program.suffix == ".py" else program.name.split()
    return [*typed, *words[1:]]


def commit() -> dict[str, Any]:
    """The commit of the checkout this package runs from, and whether it was changed since; null outside one."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():  # installed: a repository around it would be somebody else's
        return {"commit": None, "dirty": None}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def hardware() -> dict[str, Any]:
    """Processor, threads and accelerators of this machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}


def cpu_name() -> str:
    """The processor's name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
