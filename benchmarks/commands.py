"""How long a user waits for commands."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.rows import Row
from ssl_lab import cli
from ssl_lab.build import build

ROOT = Path(__file__).resolve().parents[1]


def measure(rounds: int = 3) -> list[Row]:
    """Seconds of whole commands, the median of some."""
    first = ["data=digits", "trainer.max_steps=1", "probe=none", "logger=none"]
    rows = [
        Row("train --help", seconds(["--help"], rounds), "s", "<= 1"),
        Row("train --cfg job", seconds(["--cfg", "job"], rounds), "s", "<= 1"),
        Row("a configuration error of our own keys", seconds(["method.loss.temprature=1"], rounds), "s", "<= 1"),
        Row("digits: command to first step, run ended and written", seconds(first, 1), "s", "<= 12"),
    ]
    if "SSL_LAB_DATA" in os.environ:
        rows.append(Row("CIFAR-10: second start, data only", second_start(), "s", "<= 1"))
    return rows


def seconds(arguments: list[str], rounds: int) -> float:
    """Wall-clock time of `python -m ssl_lab.train …`, in a folder of its own each time."""
    taken = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            line = [sys.executable, "-m", "ssl_lab.train", *arguments]
            subprocess.run(line, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
            taken.append(time.perf_counter() - began)
    return median(taken)


def second_start() -> float:
    """Opening CIFAR-10 when its cache is there."""
    config, _ = cli.compose("train", ["data=cifar10"])
    build(config["data"], seed=0).open()
    began = time.perf_counter()
    build(config["data"], seed=0).open()
    return time.perf_counter() - began
