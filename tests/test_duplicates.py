"""Twins between training and test are found by features and confirmed by pixels."""

import torch
from pictures import Images

from ssl_lab.evaluation import RawPixels, Sets, Subject, duplicates


def test_planted_twins_are_found_and_no_others() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = Images(120, 0, size=16), Images(60, 2, size=16)
    train.images = torch.randint(0, 256, train.images.shape, generator=generator).byte()
    test.images = torch.randint(0, 256, test.images.shape, generator=generator).byte()
    noise = torch.randint(-8, 9, (4, 3, 16, 16), generator=generator)
    for k, (ours, theirs) in enumerate([(3, 100), (17, 5), (40, 40), (59, 0)]):
        test.images[ours] = (train.images[theirs].long() * 0.9 + 10 + noise[k]).clamp(0, 255).byte()  # darker, noisy
    sets = Sets(train, train, Images(30, 1), test, ["a", "b", "c"])
    found = duplicates(Subject(RawPixels(), sets, torch.device("cpu"), batch_size=32))
    assert found.figures["count"] == 4
    assert found.figures["share"] == 4 / 60
    assert {(a, b) for a, b, _ in found.figures["pairs"]} == {(3, 100), (17, 5), (40, 40), (59, 0)}
    assert found.pictures["pairs"].shape == (3, 64, 8 * 64)


def test_without_twins_there_is_no_picture() -> None:
    generator = torch.Generator().manual_seed(1)
    train, test = Images(60, 0), Images(30, 2)
    test.images = torch.randint(0, 256, test.images.shape, generator=generator).byte()
    found = duplicates(Subject(RawPixels(), Sets(train, train, train, test, ["a", "b", "c"]), torch.device("cpu")))
    assert (found.figures["count"], dict(found.pictures)) == (0, {})


def test_pictures_of_one_colour_are_no_twins() -> None:
    generator = torch.Generator().manual_seed(2)
    train, test = Images(60, 0), Images(30, 2)
    for images in (train, test):  # as of the sea: blue all over, and something small in it
        images.images = torch.randint(0, 20, images.images.shape, generator=generator).byte()
        images.images[:, 2] += 200
    found = duplicates(Subject(RawPixels(), Sets(train, train, train, test, ["a", "b", "c"]), torch.device("cpu")))
    assert found.figures["count"] == 0
