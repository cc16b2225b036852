"""Evaluation on features at hand, and what it costs to make them. `python -m benchmarks evaluation`."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.rows import Row
from ssl_lab.evaluation import Sets, Subject, logistic
from ssl_lab.evaluation.knn import predict
from ssl_lab.evaluation.subject import extract
from ssl_lab.hardware import pick
from ssl_lab.nn import Encoder, ResNet

BANK, QUERIES, WIDTH, CLASSES, K = 50_000, 10_000, 512, 10, 200


class Images:
    """A set of random images in memory."""

    def __init__(self, n: int):
        self.labels = torch.arange(n) % CLASSES
        self.images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, index: torch.Tensor) -> torch.Tensor:
        return self.images[index]

    def subset(self, index: torch.Tensor) -> "Images":
        raise NotImplementedError  # a set of images has it; nothing that is timed here calls it


def measure(rounds: int = 5) -> list[Row]:
    """kNN beside faiss in turn; the logistic probe; extraction beside the bare forward pass."""
    torch.manual_seed(0)
    centres = torch.randn(CLASSES, WIDTH)
    labels = torch.arange(BANK) % CLASSES
    bank = centres[labels] + 4 * torch.randn(BANK, WIDTH)
    queries = centres[torch.arange(QUERIES) % CLASSES] + 4 * torch.randn(QUERIES, WIDTH)
    turns = [
        (seconds(lambda: nearest(bank, queries)), seconds(lambda: ours(bank, labels, queries))) for _ in range(rounds)
    ]
    loops = [(seconds(bare), seconds(extracted)) for bare, extracted in [passes()] for _ in range(rounds)]
    return [
        Row("kNN, bank 50,000, 10,000 queries, width 512", statistics.median(mine for _, mine in turns), "s"),
        Row("kNN: faiss IndexFlatIP / ours", statistics.median(other / mine for other, mine in turns), "x", ">= 1"),
        Row("kNN, memory beside that bank", beside(bank, queries), "GiB", "<= 0.5"),
        Row(
            "kNN, memory beside a bank of 1,000,000",
            beside(torch.zeros(10**6, WIDTH), queries[:512]),
            "GiB",
            "<= 1",
        ),
        Row("logistic probe on them, 10 penalties", seconds(lambda: probe(bank, labels, queries)), "s", "<= 60"),
        Row("feature extraction / bare forward pass", statistics.median(a / b for a, b in loops), "x", ">= 0.95"),
    ]


def ours(bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    return predict(bank, labels, queries, K, 0.1, CLASSES)


def beside(bank: torch.Tensor, queries: torch.Tensor) -> float:
    """GiB that the search takes at its peak, beside what is there before it."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    ours(bank, torch.arange(len(bank)) % CLASSES, queries)
    return status("VmHWM") - before


def status(key: str) -> float:
    """A figure of this process in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def nearest(bank: torch.Tensor, queries: torch.Tensor) -> None:
    """What faiss does of it: normalise and search; the vote is left out."""
    import faiss

    index = faiss.IndexFlatIP(WIDTH)
    index.add(F.normalize(bank, dim=1).numpy())
    index.search(F.normalize(queries, dim=1).numpy(), K)


def probe(bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> None:
    """The protocol on features at hand: nine tenths of the bank to fit, a tenth to choose."""
    train, fit, select, test = (Images(0) for _ in range(4))
    sets = Sets(train, fit, select, test, [str(i) for i in range(CLASSES)])
    cut = len(bank) * 9 // 10
    for images, part in (
        (sets.fit, labels[:cut]),
        (sets.select, labels[cut:]),
        (sets.test, torch.arange(len(queries)) % CLASSES),
    ):
        images.labels = part  # type: ignore[misc]  # the protocol says property
    subject = Subject(torch.nn.Identity(), sets, torch.device("cpu"))
    for images, features in ((sets.fit, bank[:cut]), (sets.select, bank[cut:]), (sets.test, queries)):
        subject.once(("features", id(images)), partial(torch.clone, features))
    logistic(subject, penalties=[10.0**e for e in range(-7, 3)])


def passes(number: int = 4096) -> tuple[Callable[[], object], Callable[[], object]]:
    """The bare forward pass of a ResNet-18 at width 0.25, and extraction, of the same images.

    In the precision that this machine picks: bfloat16 where it has to be emulated takes twenty times float32's time.
    """
    picked = pick("cpu")
    encoder = Encoder(ResNet(width=0.25)).eval()
    images = Images(number)
    ready = encoder.prepare(images.images).split(512)

    @torch.inference_mode()
    def bare() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=picked.precision == "bf16-mixed"):
            for part in ready:
                encoder.backbone(part)

    return bare, lambda: extract(encoder, images, picked.device, picked.precision, 512)


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
