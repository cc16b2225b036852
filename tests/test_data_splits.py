"""What is set aside: disjoint, complete, stratified, and the same everywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_lab.data.errors import DataError
from ssl_lab.data.image_set import ImageSet, Names, Pixels
from ssl_lab.data.splits import carve, divide, groups_of, set_aside, set_groups_aside


def make_set(n: int, labels: list[int] | None = None) -> ImageSet:
    given_labels = None if labels is None else torch.tensor(labels)
    sums = torch.zeros(n, 2, 3, dtype=torch.int64)
    storage = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2).contiguous()
    return ImageSet(Pixels(storage, sums), torch.arange(n), given_labels, ["a", "b"], Names([str(i) for i in range(n)]))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.9), st.integers(0, 2**62))
def test_set_aside_is_a_stratified_partition(labels, fraction, seed):
    sizes = np.bincount(labels)
    if max(sizes) < 2:
        with pytest.raises(DataError, match="too few"):
            set_aside(torch.tensor(labels), len(labels), fraction, seed)
        return
    kept, taken = set_aside(torch.tensor(labels), len(labels), fraction, seed)
    assert sorted(kept.tolist() + taken.tolist()) == list(range(len(labels)))
    left = np.bincount(np.array(labels)[kept.numpy()], minlength=len(sizes))
    assert all(left[sizes > 0] >= 1)  # every class is kept in train
    assert all(np.abs((sizes - left) - fraction * sizes)[sizes > 1] <= 1 + 1e-9)
    assert 1 <= len(taken) <= max(1, round(fraction * len(labels)))


def test_sizes_are_exact_and_seeds_matter():
    labels = torch.arange(1000) % 10
    kept, taken = set_aside(labels, 1000, 0.1, 0)
    assert torch.bincount(labels[taken]).tolist() == [10] * 10
    assert len(kept) == 900
    assert set_aside(labels, 1000, 0.1, 0)[1].equal(taken)
    assert not set_aside(labels, 1000, 0.1, 1)[1].equal(taken)


def test_the_same_rows_on_every_machine():
    """Golden values: another library version or machine must not move a picture between splits."""
    assert set_aside(None, 20, 0.25, 0)[1].tolist() == GOLDEN_FLAT
    assert set_aside(torch.arange(20) % 2, 20, 0.2, 7)[1].tolist() == GOLDEN_CLASSES


def test_carve_takes_test_first_and_shares_the_storage():
    images = make_set(100, [i % 2 for i in range(100)])
    train, val, test, aside = carve({"train": images}, val_fraction=0.1, test_fraction=0.2, seed=0)
    assert (len(train), len(val), len(test), aside) == (72, 8, 20, ("test", "val"))
    assert sorted([*train.rows.tolist(), *val.rows.tolist(), *test.rows.tolist()]) == list(range(100))
    assert val.storage is images.storage
    index = torch.tensor([0, 3])
    assert val.gather(index)[:, 0, 0, 0].tolist() == val.rows[index].tolist()
    assert [int(name) for name in val.names] == val.rows.tolist()
    assert val.labels.tolist() == [row % 2 for row in val.rows.tolist()]


def test_carve_leaves_given_splits_alone():
    splits = {"train": make_set(10), "val": make_set(3), "test": make_set(4)}
    carved = carve(splits, 0.1, 0.2, 0)
    assert carved.train is splits["train"]
    assert carved.val is splits["val"]
    assert carved.aside == ()


def test_fraction_zero_sets_nothing_aside():
    carved = carve({"train": make_set(10)}, 0.0, 0.0, 0)
    assert carved.val is None
    assert carved.test is None


def test_bad_fractions_and_too_few_pictures():
    with pytest.raises(DataError, match=r"data.val_fraction=1.5"):
        carve({"train": make_set(10)}, 1.5, 0.2, 0)
    with pytest.raises(DataError, match="too few"):
        carve({"train": make_set(2)}, 0.1, 0.2, 0)
    with pytest.raises(DataError, match="too few"):
        carve({"train": make_set(2, [0, 1])}, 0.1, 0.0, 0)


def test_statistics_of_a_subset():
    pixels = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    wide = pixels.to(torch.int64)
    sums = torch.stack([wide.sum(dim=(2, 3)), (wide**2).sum(dim=(2, 3))], dim=1)
    images = ImageSet(Pixels(pixels, sums), torch.arange(6), None, [], Names(["x"] * 6)).subset(torch.tensor([4, 1]))
    mean, std = images.statistics()
    chosen = pixels[[4, 1]].double() / 255
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), chosen.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), chosen.std(dim=(0, 2, 3), correction=0))
    with pytest.raises(DataError, match="empty set"):
        images.subset(torch.tensor([], dtype=torch.int64)).statistics()


GOLDEN_FLAT = [2, 4, 6, 8, 18]
GOLDEN_CLASSES = [1, 5, 8, 10]


def test_a_channel_that_holds_nothing_does_not_divide_by_zero() -> None:
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pixels[0, 0] = 200
    sums = torch.stack([pixels.long().sum((2, 3)), pixels.long().square().sum((2, 3))], 1)
    mean, std = ImageSet(Pixels(pixels, sums), torch.arange(2), None, [], Names(["x"] * 2)).statistics()
    assert mean[1:] == [0, 0]
    assert std == pytest.approx([100 / 255, 1 / 255, 1 / 255])


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=60), st.floats(0.05, 0.9), st.integers(0, 2**62))
def test_no_group_is_divided(groups, fraction, seed):
    if len(set(groups)) < 2:
        with pytest.raises(DataError, match="a single group"):
            set_groups_aside(groups, fraction, seed)
        return
    kept, taken = set_groups_aside(groups, fraction, seed)
    assert sorted(kept.tolist() + taken.tolist()) == list(range(len(groups)))
    assert len(kept) > 0
    assert len(taken) > 0
    assert not {groups[i] for i in kept} & {groups[i] for i in taken}


def test_groups_come_near_the_fraction_and_follow_the_seed():
    groups = [f"g{i // 10}" for i in range(1000)]
    kept, taken = set_groups_aside(groups, 0.2, 0)
    assert (len(kept), len(taken)) == (800, 200)
    assert set_groups_aside(groups, 0.2, 0)[1].tolist() == taken.tolist()
    assert set_groups_aside(groups, 0.2, 1)[1].tolist() != taken.tolist()


def test_groups_are_found_in_names():
    assert groups_of(["a/cub7_001.jpg", "b/cub8_02.jpg"], r"([^/]+)_\d+") == ["cub7", "cub8"]
    assert groups_of(["a1", "a2"], "a") == ["a", "a"]
    with pytest.raises(DataError, match=r"1 of 2 names, such as 'b'"):
        groups_of(["a1", "b"], r"a\d")
    with pytest.raises(DataError, match="no regular expression"):
        groups_of(["a1"], "(")


def test_sets_are_carved_by_group():
    images = make_set(100)
    names = Names([f"person{i % 10}_{i}.jpg" for i in range(100)])
    grouped = ImageSet(images.storage, images.rows, None, [], names)
    parts = carve({"train": grouped}, 0.2, 0.2, 0, r"person\d")
    people = [{name[:7] for name in part.names} for part in (parts.train, parts.val, parts.test) if part is not None]
    assert [len(p) for p in people] == [6, 2, 2]
    assert len(set.union(*people)) == 10
    kept, taken = divide(grouped, 0.5, 0, None)
    assert len(kept) == len(taken) == 50
