"""Memory and time of a batch embedded in parts. `python -m benchmarks microbatch`."""

import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch

from benchmarks.nt_xent import peak_gib
from benchmarks.rows import Row
from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws

PREPROCESSING = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize": None, "crop": None}


def measure() -> list[Row]:
    """ResNet-18 at width 0.25, 32 px, in fresh processes: peaks never fall."""
    (small, _), (large, _) = run(256, None), run(4096, 256)
    turns = [(run(1024, 256)[1], run(1024, None)[1]) for _ in range(3)]
    return [
        Row("microbatch 256 of batch 4,096: peak memory over batch 256", large / small, "x", "<= 1.3"),
        Row("microbatch 256 of batch 1,024: time over the plain batch", median(a / b for a, b in turns), "x", "<= 1.5"),
    ]


def run(batch: int, part: int | None) -> tuple[float, float]:
    """Peak memory in GiB and seconds of a step, in a process of its own."""
    command = [sys.executable, "-c", f"from benchmarks.microbatch import step; step({batch}, {part})"]
    peak, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(peak), float(seconds)


def step(batch: int, part: int | None) -> None:
    """Two steps of SimCLR as it is trained; prints the peak and the time of the second."""
    config: dict[str, Any] = recipes.compose(
        "train", ["backbone=resnet18_quarter", f"method.microbatch={part or 'null'}"]
    )[0]
    method = build(config["method"], preprocessing=PREPROCESSING, seed=0).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8)
    seconds = 0.0
    for counter in range(2):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = method.step(images, Draws(0, counter, batch)).loss
        loss.backward()
        seconds = time.perf_counter() - began
    print(peak_gib(), seconds)
