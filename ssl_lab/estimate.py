"""How long runs will take, estimated from a few of their steps."""

import os
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from ssl_lab import hardware
from ssl_lab.build import build
from ssl_lab.data import ImageData
from ssl_lab.draws import Draws
from ssl_lab.hardware import Hardware, threads
from ssl_lab.methods import Method, flops_per_image

STEPS = 3  # timed after one that warms up
# Images of a step, and their pixels: as few as keep a CPU busy; a GPU takes as long for few as for a batch.
ROWS, ROWS_ELSEWHERE = {"cpu": 32}, 512
PIXELS, PIXELS_ELSEWHERE = {"cpu": 8 * 256**2}, 64 * 224**2
UNITS = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize": None, "crop": None}


def seconds(config: Mapping[str, Any], images: int | None, at_once: int = 1) -> float | None:
    """Of a training run on its share of this machine, on one of its devices; None where its length cannot be told.

    A few steps of a small batch of noise are timed, without data, loader or logs, and without what else runs then.
    images: of an epoch, where the data is not at hand. at_once: runs that share the cores.
    """
    method: Method = build(config["method"], preprocessing=UNITS, seed=0)
    keys = ("accelerator", "precision", "memory_format")  # no devices: what shares a batch cannot be told from one
    picked = hardware.pick(**{key: config["trainer"][key] for key in keys})
    side, kind = config["data"]["store_size"], picked.accelerator
    rows = min(
        config["data"]["batch_size"],
        ROWS.get(kind, ROWS_ELSEWHERE),
        max(1, PIXELS.get(kind, PIXELS_ELSEWHERE) // side**2),
    )
    noise = torch.randint(0, 256, (max(rows, method.fewest_rows), 3, side, side), dtype=torch.uint8)
    with threads(max(1, (os.cpu_count() or 1) // at_once)):
        total = images_seen(config, method, noise, images)
        return None if total is None else total * step_seconds(picked, method, noise) / len(noise)


def images_seen(config: Mapping[str, Any], method: Method, noise: torch.Tensor, images: int | None) -> float | None:
    """By the whole run: from its compute, its steps, or its epochs."""
    trainer, batch = config["trainer"], config["data"]["batch_size"] * config["trainer"]["accumulate_grad_batches"]
    limits = []
    if trainer["max_flops"] is not None:
        limits.append(
            trainer["max_flops"] / flops_per_image(method, noise[: method.fewest_rows], config["data"]["batch_size"])
        )
    if trainer["max_steps"] is not None:
        limits.append(float(trainer["max_steps"] * batch))
    if (per_epoch := images or (None if limits else epoch(config["data"]))) is not None:
        limits.append(float(trainer["max_epochs"] * per_epoch))
    return min(limits, default=None)


def epoch(node: Mapping[str, Any]) -> int | None:
    """Images of an epoch, where the data can be opened without a download."""
    data: ImageData = build(node, seed=0)
    if not data.at_hand:
        return None
    data.open()
    return len(data.pretrain)


def step_seconds(picked: Hardware, method: Method, noise: torch.Tensor) -> float:
    """Median of a few steps, forward and backward, in the precision that this machine picks."""
    method.to(picked.device)
    if picked.memory_format == "channels_last":
        method.to(memory_format=torch.channels_last)
    images, taken = noise.to(picked.device), []
    for counter in range(STEPS + 1):
        began = time.perf_counter()
        with torch.autocast(picked.device.type, torch.bfloat16, enabled=picked.precision == "bf16-mixed"):
            loss = method.step(images, Draws(0, counter, len(images))).loss
        loss.backward()
        float(loss.detach())  # waits for the device
        taken.append(time.perf_counter() - began)
    return median(taken[1:])
