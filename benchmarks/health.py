"""What the health figures cost of an epoch. `python -m benchmarks health`."""

import tempfile
import time
from statistics import median

from benchmarks.loop import ours_steps
from benchmarks.rows import Row
from ssl_lab import recipes
from ssl_lab.distributed import Place
from ssl_lab.evaluation import HealthProbe
from ssl_lab.run import Run, hush, make_method

STEPS = 12


def measure(rounds: int = 3) -> list[Row]:
    """Time of one check over that of the epoch that it follows, for the recipes of two small networks, in turn."""
    hush()
    return [ratio(recipe, rounds) for recipe in ("simclr_cifar10_cpu", "simclr_cifar10_resnet18_quarter")]


def ratio(recipe: str, rounds: int) -> Row:
    """Median check by median step, times the steps of an epoch; without the accuracy probe."""
    checks, steps = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            words = [f"experiment={recipe}", "probe=none", "logger=none", f"trainer.max_steps={STEPS}"]
            run = Run(*recipes.compose("train", [*words, f"paths.out={folder}/{turn}"]), Place())
            steps += ours_steps(run)
            method = make_method(run.config, run.data, run.hardware)
            probe = HealthProbe(run.data.to_watch(512))
            began = time.perf_counter()
            probe.measure(method, run.hardware.precision)
            checks.append(time.perf_counter() - began)
        share = median(checks) / (median(steps) * run.data.num_batches)
    return Row(f"health figures / an epoch: {recipe}", 100 * share, "%", "<= 2")
