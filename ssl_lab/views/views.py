"""Several random views of every image of a batch, made on the device the images are on."""

from itertools import groupby
from operator import itemgetter

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ssl_lab.draws import Draws
from ssl_lab.views.crop import Geometry
from ssl_lab.views.policy import Drawn, Policy

# Bytes of float images made at a time: on a processor what stays near its caches, elsewhere what is cheap to hold.
CHUNK = {"cpu": 4 * 2**20}
CHUNK_ELSEWHERE = 256 * 2**20
# Where each view is made by itself; those of a policy go together where launching an operation takes longer than it.
APART = {"cpu"}


class Views:
    """The views a method learns from: view i follows policy i, beginning again when there are more views than policies.

    Every row draws its own parameters from `draws`, on the processor and for the whole global batch, so that the views
    of a row depend neither on the device nor on who holds the other rows. Out come floats in [0, 1], not normalised:
    that is the method's, with the data's mean and deviation.

    policies: one for each kind of view, in order; named where one wants to say `method.views.policies.first.blur=0.3`.
    count: how many views a call makes unless it says otherwise.
    """

    def __init__(self, policies: list[Policy] | dict[str, Policy], count: int = 2):
        if not policies:
            raise ValueError("views: got no policies; allowed: one or more; set policies")
        if count < 1:
            raise ValueError(f"views: count is {count}; allowed: >= 1; set count")
        self.policies = list(policies.values()) if isinstance(policies, dict) else list(policies)
        self.count = count
        keep_freed_memory()

    @property
    def sizes(self) -> list[int]:
        """The side of each view of a call without `count`."""
        return [policy.size for policy in self._policies(self.count)]

    def __call__(
        self, images: UInt8[Tensor, "n c h w"], draws: Draws, count: int | None = None
    ) -> list[Float[Tensor, "n c _s _s"]]:
        """`count` views of each image."""
        return self.with_geometry(images, draws, count)[0]

    @torch.no_grad()
    def with_geometry(
        self, images: UInt8[Tensor, "n c h w"], draws: Draws, count: int | None = None
    ) -> tuple[list[Float[Tensor, "n c _s _s"]], list[Geometry]]:
        """The same views, and for each where its crops were taken."""
        policies = self._policies(self.count if count is None else count)
        self._check(images, draws, policies)
        drawn = [policy.draw(draws, *images.shape[-2:]) for policy in policies]
        with torch.autocast(images.device.type, enabled=False):  # eight bits of a bfloat16 are not enough for a pixel
            views = [view for policy, those in groups(policies, drawn, images) for view in made(policy, images, those)]
        return views, [Geometry(each.boxes, each.flipped) for each in drawn]

    def _policies(self, count: int) -> list[Policy]:
        return [self.policies[view % len(self.policies)] for view in range(count)]

    def _check(self, images: Tensor, draws: Draws, policies: list[Policy]) -> None:
        if not policies:
            raise ValueError("views: asked for 0 views; allowed: >= 1; set count")
        if images.numel() == 0:
            raise ValueError(
                f"views: got images of shape {tuple(images.shape)}; allowed: at least one pixel and one row"
            )
        if len(images) != len(draws):
            raise ValueError(
                f"views: got {len(images)} images and draws for {len(draws)} rows; allowed: as many of each"
            )
        if images.shape[1] != 3 and any(policy.needs_colour for policy in policies):
            raise ValueError(
                f"views: got images of {images.shape[1]} channel(s); jitter and grayscale need 3; "
                "set views=crop_flip, or data that are RGB"
            )


def keep_freed_memory() -> None:
    """Have glibc keep up to 62 MiB of freed memory, instead of faulting the same pages in anew for every batch.

    Freeing a large block raises its thresholds (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD; 32 MiB is the most
    it learns from). The block is never touched, so this costs nothing; the views come 2.5 times faster.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def groups(policies: list[Policy], drawn: list[Drawn], images: Tensor) -> list[tuple[Policy, list[Drawn]]]:
    """What is made at once: neighbouring views of one policy, or each by itself."""
    pairs = zip(policies, drawn, strict=True)
    if images.device.type in APART:
        return [(policy, [each]) for policy, each in pairs]
    return [(policy, [each for _, each in several]) for policy, several in groupby(pairs, key=itemgetter(0))]


def made(policy: Policy, images: UInt8[Tensor, "n c h w"], drawn: list[Drawn]) -> tuple[Float[Tensor, "n c s s"], ...]:
    """A view of each row for each of these parameters."""
    rows = images.repeat(len(drawn), 1, 1, 1) if len(drawn) > 1 else images
    return torch.split(in_chunks(policy, rows, Drawn.joined(drawn)), len(images))


def in_chunks(policy: Policy, images: UInt8[Tensor, "n c h w"], drawn: Drawn) -> Float[Tensor, "n c s s"]:
    """One view of each row, a cache-full of rows at a time."""
    n, c, h, w = images.shape
    size = policy.size
    rows = max(1, CHUNK.get(images.device.type, CHUNK_ELSEWHERE) // (4 * c * max(h * w, size * size)))
    views = torch.empty(n, c, size, size, device=images.device)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        views[start:stop] = policy.apply(images[start:stop], drawn.part(start, stop))
    return views
