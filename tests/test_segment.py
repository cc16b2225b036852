"""The class of every pixel: figures by hand, crops that fit, and a head that learns what there is to learn."""

from functools import partial

import pytest
import torch
from pictures import Images
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from ssl_lab.draws import Draws
from ssl_lab.evaluation import RawPixels, Sets, Subject, segment
from ssl_lab.evaluation.segment import Segmenter, as_seen, confusions, divide, ious, miou, scores
from ssl_lab.nn import ConvNet, Encoder, Hypercolumn, LinearStages, ResNet
from ssl_lab.pixels import centre_crop
from ssl_lab.views import Geometry, Policy, Views, crop_nearest


class Masked(Images):
    """Images whose left part is dark and of class 0, the rest of class 1; the first row of pixels is void."""

    def __init__(self, n: int, seed: int):
        super().__init__(n, seed, size=16)
        cut = torch.arange(n) % 8 + 4
        self.masks = (torch.arange(16) >= cut[:, None]).byte()[:, None].repeat(1, 16, 1)
        self.images = (self.masks[:, None] * 200 + torch.randint(0, 50, self.images.shape)).byte()
        self.masks[:, 0] = 255

    def gather_masks(self, index: Tensor) -> Tensor:
        return self.masks[index]

    def subset(self, index: Tensor) -> "Masked":
        part = Masked(3, 0)
        part.labels, part.images, part.masks = self.labels[index], self.images[index], self.masks[index]
        return part


def subject(encoder: torch.nn.Module) -> Subject:
    train = Masked(48, 0)
    return Subject(encoder, Sets(train, train, Masked(8, 1), Masked(16, 2), ["left", "right"]), torch.device("cpu"))


HEAD = partial(LinearStages)  # as the configuration hands it over


def test_the_figure_is_the_jaccard_index_of_all_pixels_together() -> None:
    generator = torch.Generator().manual_seed(0)
    target, said = torch.randint(0, 4, (2, 10, 50), generator=generator)
    tables = torch.stack(
        [torch.bincount(t * 4 + s, minlength=16).view(4, 4) for t, s in zip(target, said, strict=True)]
    )
    expected = multiclass_jaccard_index(said, target, 4, average="none")
    assert torch.allclose(ious(tables.sum(0)).float(), expected)
    found = scores(tables)
    assert found["miou"] == pytest.approx(float(expected.mean()))
    assert found["miou_low"] < found["miou"] < found["miou_high"]
    assert found["pixel_accuracy"] == pytest.approx(float((target == said).float().mean()))


def test_a_class_that_does_not_occur_counts_nothing() -> None:
    table = torch.tensor([[[3, 1, 0], [0, 4, 0], [0, 0, 0]]])
    assert ious(table[0]).tolist()[:2] == [0.75, 0.8]
    assert miou(table) == pytest.approx(0.775)
    assert scores(table)["per_class"][2] is None


def test_a_mask_is_cropped_as_its_image() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(4, 3, 8, 8)
    boxes = torch.tensor([[0, 0, 8, 8], [2, 1, 6, 5], [2, 1, 6, 5], [0, 0, 4, 4]])
    flipped = torch.tensor([False, False, True, False])
    found = crop_nearest(images[:, 0], Geometry(boxes, flipped), 4)
    assert torch.equal(found[1], images[0, 0, 1:5, 2:6])
    assert torch.equal(found[2], images[0, 0, 1:5, 2:6].flip(1))
    assert torch.equal(found[0], images[0, 0, 1::2, 1::2])
    views, crops = Views([Policy(size=32, scale=(0.5, 1.0))], 1).with_geometry(masks_as_images(), Draws(0, 0, 8))
    agree = (crop_nearest(Masked(8, 0).masks, crops[0], 32) == 1) == (views[0][:, 0] > 0.5)
    assert agree[:, 8:].float().mean() > 0.95  # but for the edge, where one is interpolated


def masks_as_images() -> Tensor:
    return (Masked(8, 0).masks == 1).byte()[:, None].repeat(1, 3, 1, 1) * 255


@pytest.mark.parametrize("head", [LinearStages, Hypercolumn])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_head_learns_what_brightness_tells(head: type, frozen: bool) -> None:
    torch.manual_seed(0)
    encoder = Encoder(ConvNet([8, 8])).eval()
    encoder.fit(Masked(48, 0).images)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    found = segment(subject(encoder), partial(head), frozen, rates=[0.03], epochs=30, batch_size=8)
    assert found.figures["miou"] > (0.6 if frozen else 0.95)  # a constant answer has 0.27
    assert found.settings["frozen"] == frozen
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_the_rate_is_not_chosen_on_the_test_set() -> None:
    encoder = Encoder(ConvNet([8, 8])).eval()

    def chosen(seed: int, leak: bool) -> dict[str, float]:
        torch.manual_seed(0)
        sets, test = subject(encoder).sets, Masked(16, seed)
        test.masks = test.masks.flip(2) if seed % 2 else test.masks
        sets = Sets(sets.train, sets.fit, test if leak else sets.select, test, sets.classes)
        found = segment(Subject(encoder, sets, torch.device("cpu")), HEAD, rates=[1e-3, 0.03], epochs=2, batch_size=8)
        return {key: found.figures[key] for key in ("rate", "select_miou")}

    assert chosen(2, leak=False) == chosen(7, leak=False)
    assert chosen(2, leak=True) != chosen(7, leak=True)


def test_void_pixels_are_neither_learned_nor_counted() -> None:
    encoder = Encoder(ConvNet([8, 8])).eval()
    s = subject(encoder)
    network = segment_of(s)
    counted = confusions(network, s.sets.test, s, 4)
    assert counted.sum() == 16 * 16 * 15
    everything_void = Masked(8, 0)
    everything_void.masks[:] = 200
    whole = Sets(everything_void, everything_void, s.sets.select, s.sets.test, s.sets.classes)
    found = segment(Subject(encoder, whole, s.device), HEAD, rates=[0.1], epochs=1, batch_size=8)
    assert 0 <= found.figures["miou"] <= 1


def segment_of(s: Subject) -> torch.nn.Module:
    return Segmenter(s.encoder, HEAD, 2, frozen=True).eval()


def test_few_images_are_nested_and_divided_inside() -> None:
    sets = subject(Encoder(ConvNet([8, 8]))).sets

    def rows(amount: float) -> set[tuple[int, ...]]:
        return {tuple(image.flatten().tolist()) for part in divide(sets, amount, 0) for image in part.images}  # type: ignore[attr-defined]  # our own set has them

    assert rows(5) < rows(10) < rows(0.5)
    assert [len(part) for part in divide(sets, 10, 0)] == [8, 2]
    with pytest.raises(ValueError, match="2 to 48, the training images"):
        divide(sets, 100, 0)


def test_masks_follow_the_encoders_own_crop() -> None:
    masks = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    encoder = Encoder(ResNet(width=0.125), resize=8, crop=4)
    assert torch.equal(as_seen(masks, encoder), masks[:, 2:6, 2:6])
    odd = torch.randint(0, 256, (2, 3, 7, 7), dtype=torch.uint8)  # 7 - 4 leaves 3: half of it has to be rounded alike
    unscaled = Encoder(ResNet(width=0.125), crop=4)
    assert torch.equal(as_seen(odd[:, 0], unscaled), centre_crop(odd, 4)[:, 0])


def test_what_cannot_be_segmented_says_so() -> None:
    with pytest.raises(ValueError, match="RawPixels has no stages"):
        segment(subject(RawPixels()), HEAD)
    train = Images(48, 0, size=16)
    plain = Sets(train, train, train, train, ["a", "b", "c"])
    with pytest.raises(ValueError, match="these images have no masks"):
        segment(Subject(Encoder(ConvNet([8, 8])), plain, torch.device("cpu")), HEAD, epochs=1)
