"""What long runs and large sets cost: memory of a large memory-mapped set, and the writing of checkpoints."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row

MANY, FEW = 1_000_000, 50_000


class Generated:
    """A source of as many 32 px pictures as wanted, each its own noise."""

    name = "generated"

    def __init__(self, count: int):
        self.count = count

    def signature(self) -> str:
        return f"generated {self.count}"

    def plan(self) -> object:
        from ssl_lab.data.source import plan_arrays

        return plan_arrays({"train": self.count}, ["a", "b"])

    def read(self) -> Iterator[object]:
        from ssl_lab.data.source import Item, give

        noise = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
        for row in range(self.count):
            yield Item(row, partial(give, noise[row % 64], row % 2))


def measure() -> list[Row]:
    """Rows of `make bench`."""
    with tempfile.TemporaryDirectory() as cache:
        few, many = (anonymous(count, cache) for count in (FEW, MANY))
    seconds, size = write()
    return [
        Row(f"anonymous memory of train, {FEW:,} images of 32 px", few / 2**20, "MiB"),
        Row(f"... {MANY:,} over {FEW:,} images, memory-mapped", many / few, "x", "<= 1.1"),
        Row(f"checkpoint of a ResNet-50 with AdamW ({size / 1e6:,.0f} MB), write and sync", seconds, "s"),
        Row("... of training time at the default interval of 5 min", 100 * seconds / 300, "%", "<= 1"),
    ]


def anonymous(count: int, cache: str) -> int:
    """RssAnon in bytes at the end of 20 steps, in a process that finds the pictures decoded."""
    for _ in range(2):  # the first decodes
        line = [sys.executable, "-m", "benchmarks.survive", str(count), cache]
        printed = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    return int(printed.split()[-1])


def child(count: int, cache: str) -> None:
    """A short run on generated pictures; prints its anonymous memory."""
    from ssl_lab import recipes
    from ssl_lab.pretrain import pretrain

    words = ["data=digits", "data.source._target_=benchmarks.survive.Generated", f"+data.source.count={count}"]
    words += ["backbone=resnet18_quarter", "logger=none", "probe=none", "trainer.max_steps=20", f"paths.cache={cache}"]
    pretrain(*recipes.compose("train", [*words, f"paths.out={cache}/runs"]))
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
    sys.stdout.write(f"{int(kilobytes) * 1024}\n")


def write() -> tuple[float, int]:
    """Median seconds to write a ResNet-50's checkpoint with AdamW's state, and its bytes."""
    from ssl_lab.nn import ResNet
    from ssl_lab.records import HashedCheckpointIO
    from ssl_lab.records.checkpoints import tensor_bytes

    weights = ResNet(depth=50, stem="imagenet").state_dict()
    state = {str(i): {"exp_avg": w.clone(), "exp_avg_sq": w.clone()} for i, w in enumerate(weights.values())}
    empty: dict[str, Any] = {"loops": {}, "callbacks": {}, "ImageData": {}}
    checkpoint = {"state_dict": weights, "optimizer_states": [{"state": state}], **empty}
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(5):
            began = time.perf_counter()
            HashedCheckpointIO().save_checkpoint(checkpoint, Path(folder) / f"{turn:09d}.ckpt")
            taken.append(time.perf_counter() - began)
    return sorted(taken)[2], tensor_bytes(checkpoint)


if __name__ == "__main__":
    child(int(sys.argv[1]), sys.argv[2])
