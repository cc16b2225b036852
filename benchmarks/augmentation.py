"""How fast views are made: ours on the batch, beside torchvision v2 on single images in a DataLoader, in the same run.

    python -m benchmarks augmentation

Both make two views of the same 32-px images by SimCLR's CIFAR recipe. Rounds alternate, so that whatever else the
machine does meets both; the figures are medians over rounds, and the ratio is the median of the rounds' ratios.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.rows import Row
from ssl_lab.draws import Draws
from ssl_lab.views import Views

SIZE, BATCH, IMAGES, WORKERS, ROUNDS = 32, 256, 1024, 2, 5
RECIPE = Path(__file__).parents[1] / "conf" / "views" / "simclr_cifar.yaml"


class TwoViews(Dataset[tuple[Tensor, Tensor]]):
    """The pipeline everyone writes: the same recipe, image by image."""

    def __init__(self, images: Tensor):
        self.images = images
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                v2.RandomGrayscale(0.2),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.transform(self.images[index])


def our_views() -> Views:
    """The shipped option, so that what is measured is what is used."""
    config = OmegaConf.merge({"data": {"store_size": SIZE}}, {"views": OmegaConf.load(RECIPE)})
    views: Views = instantiate(config.views, _convert_="all")
    return views


def batched(images: Tensor, views: Views, counter: Iterator[int]) -> None:
    """Two views of every image, ours."""
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        views(batch, Draws(0, next(counter), len(batch)))


def exhaust(loader: DataLoader[tuple[Tensor, Tensor]]) -> None:
    """Two views of every image, theirs."""
    for _ in loader:
        pass


def views_a_second(make: Callable[[], None], views: int) -> float:
    """Views made in one call, by its time."""
    start = perf_counter()
    make()
    return views / (perf_counter() - start)


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Views a second of both, and how many times faster ours are."""
    torch.set_num_threads(WORKERS)
    images = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    loader = DataLoader(TwoViews(images), BATCH, num_workers=WORKERS, persistent_workers=True)
    views, counter = our_views(), iter(range(10**9))
    runs: list[tuple[float, float]] = []
    for _ in range(rounds + 1):  # the first starts workers and warms caches
        ours = median(views_a_second(lambda: batched(images, views, counter), 2 * IMAGES) for _ in range(5))
        runs.append((ours, views_a_second(lambda: exhaust(loader), 2 * IMAGES)))
    ours, theirs = (median(column) for column in zip(*runs[1:], strict=True))
    ratio = median(one / other for one, other in runs[1:])
    return [
        Row("augmentation: simclr_cifar, batch 256", ours, "views/s", ">= 40,000"),
        Row(f"augmentation: torchvision v2, {WORKERS} workers", theirs, "views/s"),
        Row("augmentation: ours / torchvision", ratio, "x", ">= 8"),
    ]
