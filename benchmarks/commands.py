"""How long a user waits for commands."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.rows import Row
from ssl_lab import recipes
from ssl_lab.build import build

ROOT = Path(__file__).resolve().parents[1]


def measure(rounds: int = 3) -> list[Row]:
    """Seconds of whole commands, the median of some."""
    rows = [
        Row("train --help", seconds(["--help"], rounds), "s", "<= 1"),
        Row("train --cfg job", seconds(["--cfg", "job"], rounds), "s", "<= 1"),
        Row("a configuration error of our own keys", seconds(["method.loss.temprature=1"], rounds), "s", "<= 1"),
        Row("digits: command to first optimiser step", median(first_step() for _ in range(rounds)), "s", "<= 12"),
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


def first_step() -> float:
    """Wall-clock time from the command to the log's line of the first update."""
    arguments = ["data=digits", "trainer.max_steps=1", "trainer.log_every_n_steps=1", "probe=none"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        line = [sys.executable, "-m", "ssl_lab.train", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while not any(file.stat().st_size for file in Path(folder).rglob("metrics.jsonl")):
                if process.poll():
                    raise RuntimeError(f"{' '.join(line)} failed")
                time.sleep(0.01)
            return time.perf_counter() - began


def second_start() -> float:
    """Opening CIFAR-10 when its cache is there."""
    config, _ = recipes.compose("train", ["data=cifar10"])
    build(config["data"], seed=0).open()
    began = time.perf_counter()
    build(config["data"], seed=0).open()
    return time.perf_counter() - began
