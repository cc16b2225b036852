"""Pretext tasks: undone they give the image back, their targets are balanced, and no shortcut is left in them."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lab import recipes
from ssl_lab.build import build
from ssl_lab.draws import Draws
from ssl_lab.pixels import to_float
from ssl_lab.tasks import Context, Jigsaw, Rotation, hamming_permutations
from ssl_lab.tasks.chroma import CHROMA
from ssl_lab.tasks.context import NEIGHBOURS
from ssl_lab.tasks.patches import standardise


def images(n: int = 6, size: int = 12) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def draws(n: int = 6, counter: int = 0) -> Draws:
    return Draws(seed=0, counter=counter, total=n)


def test_turning_back_restores_the_image() -> None:
    originals = images()
    batch = Rotation()(originals, draws())
    assert torch.bincount(batch.targets).tolist() == [6, 6, 6, 6]
    for turned, target, source in zip(batch.inputs[:, 0], batch.targets.tolist(), batch.source.tolist(), strict=True):
        assert torch.equal(torch.from_numpy(np.rot90(turned.numpy(), -target, (1, 2)).copy()), originals[source])


def test_rotation_leaves_no_black_corners() -> None:
    batch = Rotation()(0.5 + images() / 2, draws())
    assert batch.inputs.min() >= 0.5


def test_images_are_augmented_first_and_turned_last() -> None:
    """A flip behind the turn would make 90 and 270 degrees the same; a turn by interpolation leaves corners."""
    method = build(
        recipes.compose("train", ["method=rotation", "backbone=convnet"])[0]["method"], preprocessing={}, seed=0
    )
    photos = torch.randint(1, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    method.encoder.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    method.step(photos, draws(6))
    (views,) = method.views(photos, draws(6), count=1)
    upright, *turned = seen[0].chunk(4)
    assert torch.equal(upright, method.encoder.normalize(views))
    for turns, those in enumerate(turned, start=1):
        assert torch.equal(those.rot90(-turns, (2, 3)), upright)


def test_rotation_refuses_what_is_not_square() -> None:
    with pytest.raises(ValueError, match="squares"):
        Rotation()(torch.rand(2, 3, 4, 5), draws(2))


@pytest.mark.parametrize(("grid", "permutations"), [(2, 24), (3, 30)])
def test_tiles_put_back_restore_the_image(grid: int, permutations: int) -> None:
    task = Jigsaw(grid, permutations, gap=0, standardise=False, chroma="keep")
    originals = images()
    batch = task(originals, draws())
    cell = 12 // grid
    for original, tiles, target in zip(originals, batch.inputs, batch.targets, strict=True):
        restored = torch.zeros_like(original)
        for tile, where in zip(tiles, task.table[target].tolist(), strict=True):
            row, column = divmod(where, grid)
            restored[:, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = tile
        assert torch.equal(restored, original)


def test_a_gap_takes_every_place_and_stays_in_its_cell() -> None:
    task = Jigsaw(2, 24, gap=2, standardise=False, chroma="keep")
    size = 12
    positions = torch.arange(size * size).view(1, 1, size, size).expand(200, 3, -1, -1).float()
    batch = task(positions, draws(200))
    starts = batch.inputs[:, :, 0, 0, 0].long()
    steps = size * torch.arange(4).view(4, 1) + torch.arange(4)
    assert torch.equal(batch.inputs[:, :, 0].long(), starts[:, :, None, None] + steps)  # to the last pixel
    rows, columns = starts // size, starts % size
    cells = task.table[batch.targets]
    assert torch.equal(rows // 6 * 2 + columns // 6, cells)
    assert set((rows % 6).flatten().tolist()) == set((columns % 6).flatten().tolist()) == {0, 1, 2}


def test_edges_solve_a_puzzle_without_a_gap_and_not_with_one() -> None:
    """A shortcut on purpose: where two tiles of a smooth picture meet, their edges continue each other."""
    waves = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(waves, 32, mode="bicubic", align_corners=True)
    assert solved_by_edges(Jigsaw(2, 24, gap=0, chroma="keep", standardise=False), smooth) > 0.99
    assert solved_by_edges(Jigsaw(2, 24, gap=8, chroma="keep", standardise=False), smooth) < 0.25


def test_edges_solve_few_puzzles_of_photographs_as_the_task_is_by_default(cache: Path) -> None:
    config, _ = recipes.compose("train", ["method=jigsaw", "data=photos", f"paths.cache={cache}"])
    data = build(config["data"], seed=0)
    data.open()
    photographs = to_float(data.train.gather(torch.arange(0, len(data.train), len(data.train) // 200)[:200]))
    assert solved_by_edges(Jigsaw(2, 24, gap=0, chroma="keep", standardise=False), photographs) > 0.7
    assert solved_by_edges(build(config["method"]["task"]), photographs) < 0.3
    assert solved_by_edges(build(config["method"]["task"] | {"chroma": "jitter"}), photographs) < 0.25


def solved_by_edges(task: Jigsaw, pictures: Tensor) -> float:
    """The share of puzzles of 2 x 2 tiles whose order is told by the edges alone; a twenty-fourth is chance."""
    batch = task(pictures, draws(len(pictures)))
    breaks = []
    for order in task.table:
        cells = batch.inputs[:, order.argsort()]  # as if this were the order that they were shuffled to
        side = cells[:, [0, 2], :, :, -1] - cells[:, [1, 3], :, :, 0]
        below = cells[:, [0, 1], :, -1] - cells[:, [2, 3], :, 0]
        breaks.append(side.square().sum((1, 2, 3)) + below.square().sum((1, 2, 3)))
    return float((torch.stack(breaks, 1).argmin(1) == batch.targets).float().mean())


def test_a_standardised_tile_says_nothing_of_its_light() -> None:
    ramp = torch.linspace(0.2, 0.8, 12).view(1, 1, 12, 1) + 0.05 * images(8)
    tiles = Jigsaw(2, 24, gap=2, chroma="keep")(ramp, draws(8)).inputs
    assert (tiles.mean((3, 4)) - 0.5).abs().max() < 1e-5
    assert (tiles.std((3, 4)) - 0.25).abs().max() < 0.02


@pytest.mark.parametrize("task", [Jigsaw(2, 24, gap=0), Context(patch=3, gap=1, jitter=0, size=4)])
def test_targets_are_balanced(task: Jigsaw | Context) -> None:
    targets = torch.cat([task(images(500), draws(500, counter)).targets for counter in range(8)])
    counts = torch.bincount(targets, minlength=task.num_outputs).double()
    expected = len(targets) / task.num_outputs
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    freedom = task.num_outputs - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_the_permutations_are_the_greedy_ones() -> None:
    table = hamming_permutations(4, 12, seed=3)
    assert len({tuple(row.tolist()) for row in table}) == 12
    every = torch.tensor(list(itertools.permutations(range(4))))
    for i in range(1, 12):
        chosen = table[:i]
        left = [p for p in every if not (chosen == p).all(1).any()]
        best = max((p != chosen).sum().item() for p in left)
        assert (table[i] != chosen).sum().item() == best


def test_permutations_follow_from_their_seed_and_are_kept_with_the_weights() -> None:
    assert torch.equal(hamming_permutations(9, 20), hamming_permutations(9, 20))
    assert not torch.equal(hamming_permutations(9, 20), hamming_permutations(9, 20, seed=1))
    assert torch.equal(Jigsaw(2, 24).state_dict()["table"], hamming_permutations(4, 24))
    distances = (hamming_permutations(9, 100)[:, None] != hamming_permutations(9, 100)[None]).sum(2)
    assert distances.float().sum() / (100 * 99) > 8  # of 9 places; the paper's set of 100 has 8.08
    with pytest.raises(ValueError, match="24"):
        hamming_permutations(4, 25)
    with pytest.raises(ValueError, match=r"16 tiles have 2e\+13 orders, too many to choose among; set it to 3 or less"):
        hamming_permutations(16, 24)


def test_a_neighbour_lies_where_the_target_says() -> None:
    task = Context(patch=3, gap=1, jitter=1, size=3, chroma="keep")
    size = 16
    positions = torch.arange(size * size).view(1, 1, size, size).expand(300, 3, -1, -1).float()
    batch = task(positions, draws(300))
    corner = batch.inputs[:, :, 0, 0, 0].round().long()
    steps = size * torch.arange(3).view(3, 1) + torch.arange(3)
    assert torch.equal(batch.inputs[:, :, 0].round().long(), corner[:, :, None, None] + steps)  # to the last pixel
    place = torch.stack([corner // size, corner % size], 2)
    expected = (torch.tensor(NEIGHBOURS)[batch.targets] - 1) * 4
    off = place[:, 1] - place[:, 0] - expected
    assert off.abs().max() <= 2
    assert set(off.flatten().tolist()) == {-2, -1, 0, 1, 2}  # the jitter hides the exact distance
    assert len({tuple(p) for p in place[:, 0].tolist()}) > 10  # the grid lies anywhere


@pytest.mark.parametrize("name", CHROMA)
def test_chroma_keeps_the_shape_and_follows_its_draws(name: str) -> None:
    patches = torch.rand(60, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    once, again = CHROMA[name](patches, draws(60)), CHROMA[name](patches, draws(60))
    assert once.shape == patches.shape
    assert torch.equal(once, again)
    if name != "keep":
        assert not torch.equal(once, patches)


def test_dropping_keeps_one_channel_of_each_patch_and_hides_its_light() -> None:
    patches = torch.rand(60, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    dropped = CHROMA["drop"](patches, draws(60))
    kept = (dropped == standardise(patches)).all(4).all(3)
    assert (kept.sum(2) == 1).all()
    assert kept.any(0).all()
    assert not torch.equal(kept[:, 0], kept[:, 1])  # each patch draws its own, as in the released code
    noise = dropped[~kept]
    assert noise.mean() == pytest.approx(0.5, abs=1e-3)
    assert noise.std() == pytest.approx(dropped[kept].std().item() / 100, rel=0.1)
    assert torch.allclose(CHROMA["drop"](patches + 0.2, draws(60)), dropped, atol=1e-5)


def test_projecting_takes_out_green_against_magenta() -> None:
    patches = torch.rand(3, 2, 3, 4, 4)
    projected = CHROMA["project"](patches, draws(3))
    assert (2 * projected[:, :, 1] - projected[:, :, 0] - projected[:, :, 2]).abs().max() < 1e-6
    assert torch.allclose(CHROMA["project"](projected, draws(3)), projected, atol=1e-6)


def test_channels_move_apart_by_two_pixels_at_most() -> None:
    patches = torch.arange(12.0).view(1, 1, 1, 1, 12).expand(200, 2, 3, 12, 12)
    moved = CHROMA["jitter"](patches, draws(200))
    shift = moved[:, :, :, 6, 6] - 6
    assert set(shift.flatten().tolist()) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(
    ("task", "said"), [(Jigsaw(3, 100, gap=4), "method.task.grid"), (Context(patch=8), "method.task.patch")]
)
def test_images_that_are_too_small_are_refused(task: Jigsaw | Context, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task.check(8)
