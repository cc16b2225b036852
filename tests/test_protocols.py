"""Protocols beyond kNN and logistic regression: by hand, against scikit-learn, and what they may not touch."""

import re
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pictures import Images
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor, nn

from ssl_lab import recipes
from ssl_lab.evaluation import (
    RawPixels,
    Sets,
    SettingError,
    Subject,
    bag,
    cluster,
    few_label,
    finetune,
    gallery,
    knn,
    linear,
    logistic,
    retrieval,
    robust,
    segment,
    stages,
    training,
)
from ssl_lab.evaluation.corruptions import CORRUPTIONS, corrupt
from ssl_lab.evaluation.few_label import LONE, cross_validated
from ssl_lab.evaluation.finetune import Choice, Classifier, Course
from ssl_lab.evaluation.logistic import fit
from ssl_lab.evaluation.scoring import scores
from ssl_lab.evaluation.subject import Few
from ssl_lab.evaluation.subsets import subset
from ssl_lab.evaluation.training import Recipe, groups
from ssl_lab.nn import ConvNet, Encoder, LinearStages, ResNet, TimmBackbone, Widened


def subject(encoder: nn.Module | None = None) -> Subject:
    train = Images(120, 0)
    sets = Sets(train, train, Images(30, 1), Images(60, 2), ["a", "b", "c"])
    return Subject(encoder or RawPixels(), sets, torch.device("cpu"), batch_size=32)


def keep(subject: Subject, images: Images, features: Tensor) -> None:
    """Features of our own, in place of the encoder's."""
    assert subject.once(("features", id(images)), lambda: features) is features


def test_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 500), generator.integers(0, 4, 500)
    labels[labels == 3] = 2  # a class without images
    found = scores(torch.from_numpy(predicted), torch.from_numpy(labels), 4)
    assert found["top1"] == pytest.approx((labels == predicted).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, labels=[0, 1, 2], average="macro"))
    assert found["per_class"][3] is None
    assert found["per_class"][1] == pytest.approx((predicted[labels == 1] == 1).mean())
    assert np.array(found["confusion"]).sum(1).tolist() == np.bincount(labels, minlength=4).tolist()


def test_the_interval_is_that_of_drawing_the_images_again() -> None:
    right = torch.arange(400) % 10 < 7
    found = scores(right.long(), torch.ones(400, dtype=torch.long), 2)
    generator = np.random.default_rng(0)
    again = np.sort([generator.choice(right.numpy(), 400).mean() for _ in range(4000)])
    assert found["top1_low"] == pytest.approx(again[100], abs=0.006)
    assert found["top1_high"] == pytest.approx(again[3899], abs=0.006)


def test_subsets_are_nested_stratified_and_fixed() -> None:
    labels = torch.arange(1000) % 10
    one, ten = subset(labels, 10, 0.01, draw=0), subset(labels, 10, 0.1, draw=0)
    assert torch.bincount(labels[one]).tolist() == [1] * 10
    assert torch.bincount(labels[ten]).tolist() == [10] * 10
    assert set(one.tolist()) <= set(ten.tolist()) <= set(subset(labels, 10, 25, draw=0).tolist())
    assert not torch.equal(ten, subset(labels, 10, 0.1, draw=1))
    assert one.tolist() == [10, 34, 109, 127, 191, 218, 355, 423, 582, 736]  # the same on every machine
    with pytest.raises(ValueError, match=r"amounts=101; class 0 has 100 labels; set amounts=\[100\]"):
        subset(labels, 10, 101, draw=0)


def test_few_labels_touch_no_other_label() -> None:
    s = subject()
    rows = [subset(s.sets.train.labels, 3, 4, draw) for draw in range(2)]
    first = few_label(s, amounts=[4], draws=2, penalties=[1e-2, 1.0])
    spoiled = subject()
    outside = torch.ones(120, dtype=torch.bool)
    outside[torch.cat(rows)] = False
    features = s.features(s.sets.train).clone()
    features[outside] = 7.0
    keep(spoiled, spoiled.sets.train, features)
    assert few_label(spoiled, amounts=[4], draws=2, penalties=[1e-2, 1.0]).figures == first.figures
    assert first.shown == ("4 a class",)
    assert first.figures["4 a class, labels"] == 12


def test_a_label_outside_the_subset_is_refused() -> None:
    few = Few(Images(12, 0), torch.tensor([1, 4, 8]))
    assert few.labels(torch.tensor([4, 8])).tolist() == [1, 2]
    assert len(few.subset(torch.tensor([1]))) == 1
    for ask in (few.labels, few.subset):
        with pytest.raises(RuntimeError, match="asks for image 2"):
            ask(torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("protocol", ["few_label", "finetune", "finetune in folds"])
def test_what_lies_outside_the_subsets_changes_nothing(protocol: str) -> None:
    folds = 2 if protocol == "finetune in folds" else 1

    def measured(s: Subject) -> dict[str, Any]:
        if protocol == "few_label":
            return few_label(s, amounts=[6], draws=2, penalties=[1e-2, 1.0]).figures
        return finetune(s, rates=[0.03, 0.1], epochs=2, batch_size=8, amount=6, draws=2, folds=folds).figures

    torch.manual_seed(0)
    encoder = Encoder(ResNet(width=0.125)).eval()
    clean, spoiled = subject(encoder), subject(encoder)
    rows = torch.cat([subset(clean.sets.train.labels, 3, 6, draw) for draw in range(2)])  # type: ignore[arg-type]  # they have labels
    outside = torch.ones(120, dtype=torch.bool)
    outside[rows] = False
    images: Any = spoiled.sets.train
    images.labels = images.labels.masked_fill(outside, -1)
    images.images[outside] = 0
    assert measured(spoiled) == measured(clean)


def test_the_rate_of_fine_tuning_is_chosen_by_cross_validation_inside_the_subset() -> None:
    torch.manual_seed(0)
    s = subject(Encoder(ResNet(width=0.125)).eval())
    found = finetune(s, rates=[1e-5, 0.05], epochs=4, batch_size=8, amount=8, folds=4)
    assert found.figures["rate"] == 0.05
    assert (found.settings["held_out"], found.settings["fitted_on"]) == ("cross-validation in 4 folds", 24)
    held_out = finetune(s, rates=[1e-5, 0.05], epochs=4, batch_size=8, amount=8)
    assert (held_out.settings["held_out"], held_out.settings["fitted_on"]) == ("a fifth of the subset", 24)
    lone = finetune(s, rates=[0.05], epochs=1, batch_size=8, amount=1, folds=4)
    assert lone.settings["held_out"] == "the subset itself"


@pytest.mark.parametrize(
    ("protocol", "asked", "told"),
    [
        (logistic, {"penalties": []}, r"penalties=\[\]"),
        (stages, {"penalties": [1.0, -1e-3]}, r"penalties=\[1.0, -0.001\]"),
        (robust, {"penalties": [-1.0]}, r"penalties=\[-1.0\]"),
        (bag, {"penalties": []}, r"penalties=\[\]"),
        (few_label, {"penalties": []}, r"penalties=\[\]"),
        (few_label, {"amounts": [0.1, 1.5]}, r"amounts=\[0.1, 1.5\]"),
        (few_label, {"amounts": [0]}, r"amounts=\[0\]"),
        (few_label, {"draws": 0}, r"draws=0"),
        (retrieval, {"ks": []}, r"ks=\[\]"),
        (retrieval, {"ks": [0, 1]}, r"ks=\[0, 1\]"),
        (robust, {"corruptions": []}, r"corruptions=\[\]"),
        (robust, {"severities": []}, r"severities=\[\]"),
        (cluster, {"clusters": 0}, r"clusters=0; allowed: 1 to 120"),
        (cluster, {"clusters": 121}, r"clusters=121; .*; set clusters=3"),
        (linear, {"epochs": 0}, r"epochs=0"),
        (linear, {"scale": [0.5]}, r"scale=\[0.5\]"),
        (finetune, {"batch_size": 0}, r"batch_size=0"),
        (finetune, {"scale": [0.5, 0.3]}, r"scale=\[0.5, 0.3\]"),
        (finetune, {"draws": 0, "amount": 5}, r"draws=0"),
        (finetune, {"amount": 1.5}, r"amount=1.5"),
        (partial(segment, head=LinearStages), {"scale": [0.0, 1.0]}, r"scale=\[0.0, 1.0\]"),
    ],
)
def test_a_setting_that_measures_nothing_is_refused(protocol: Any, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=f"^{told}"):
        protocol(subject(Encoder(ResNet(width=0.0625))), **asked)


def test_a_setting_is_told_by_the_key_that_the_user_has() -> None:
    with pytest.raises(SettingError) as refused:
        knn(subject(Encoder(ResNet(width=0.0625))), k=500)
    assert refused.value.said("protocols.knn_dino.").startswith("protocols.knn_dino.k=500; the smallest class has 40")


CHOOSING = {
    "logistic": lambda s: logistic(s, penalties=[1e-4, 1.0]),
    "linear": lambda s: linear(s, rates=[1e-4, 0.03], epochs=2, batch_size=16),
    "finetune": lambda s: finetune(s, rates=[1e-4, 0.03], epochs=2, batch_size=16),
    "stages": lambda s: stages(s, penalties=[1e-4, 1.0]),
    "robust": lambda s: robust(s, corruptions=["blur"], severities=[3], penalties=[1e-4, 1.0]),
    "bag": lambda s: bag(s, patches=2, penalties=[1e-4, 1.0]),
}
CHOICES = re.compile("(stage[0-9]_)?(penalty|rate|best_stage|select_top1)")


def chosen(protocol: str, encoder: nn.Module, seed: int, leak: bool) -> dict[str, Any]:
    """What a protocol has chosen, and how well that did where it was chosen, beside a test set that `seed` makes."""
    sets = subject().sets
    test = Images(60, seed)
    test.labels = test.labels.roll(seed)
    sets = Sets(sets.train, sets.fit, test if leak else sets.select, test, sets.classes)
    figures = CHOOSING[protocol](Subject(encoder, sets, torch.device("cpu"), batch_size=32)).figures
    return {key: figures[key] for key in figures if CHOICES.fullmatch(key)}


@pytest.mark.parametrize("protocol", CHOOSING)
def test_no_choice_is_made_on_the_test_set(protocol: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(ResNet(width=0.125)).eval()
    assert chosen(protocol, encoder, 2, leak=False) == chosen(protocol, encoder, 7, leak=False)
    assert chosen(protocol, encoder, 2, leak=True) != chosen(protocol, encoder, 7, leak=True)


def test_the_penalty_is_chosen_inside_the_subset() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2
    x = torch.randn(40, 60, generator=generator)
    x[:, 0] += 2 * y
    chosen = cross_validated(x, y, 2, 5, [1e-6, 1.0], 50)
    accuracy = {}
    for penalty in (1e-6, 1.0):
        right = 0
        fold = torch.empty_like(y)
        for k in range(2):
            fold[y == k] = torch.arange(20) % 5
        for held in range(5):
            probe = fit(x[fold != held], y[fold != held], 2, penalty, 200)
            right += int((probe.predict(x[fold == held]) == y[fold == held]).sum())
        accuracy[penalty] = right
    assert accuracy[1.0] != accuracy[1e-6]
    assert chosen == max(accuracy, key=lambda p: accuracy[p])
    assert cross_validated(x[:3], torch.tensor([0, 1, 2]), 3, 5, [1e-6], 50) == LONE


def test_retrieval_is_average_precision() -> None:
    s = subject()
    found = retrieval(s, ks=[1, 3], chunk=7)
    bank, queries = s.features(s.sets.train), s.features(s.sets.test)
    similarity = nn.functional.normalize(queries, dim=1) @ nn.functional.normalize(bank, dim=1).T
    labels, sought = s.labels(s.sets.train), s.labels(s.sets.test)
    theirs = [average_precision_score(labels == own, row) for own, row in zip(sought, similarity, strict=True)]
    assert found.figures["map"] == pytest.approx(np.mean(theirs), abs=1e-6)
    nearest = labels[similarity.argmax(1)] == sought
    assert found.figures["recall@1"] == pytest.approx(nearest.float().mean().item())
    assert found.figures["recall@3"] >= found.figures["recall@1"]
    with pytest.raises(ValueError, match="120 images"):
        retrieval(s, ks=[500])


def test_clusters_of_separate_classes_are_the_classes() -> None:
    s = subject()
    for images in (s.sets.train, s.sets.test):
        labels = s.labels(images)
        keep(s, images, torch.eye(3)[labels] + 0.01 * torch.rand(len(labels), 3))
    assert cluster(s).figures == pytest.approx({"nmi": 1.0, "ari": 1.0, "purity": 1.0})
    s = subject()
    for images in (s.sets.train, s.sets.test):
        keep(s, images, torch.rand(len(images), 3, generator=torch.Generator().manual_seed(0)))
    noise = cluster(s).figures
    assert noise["nmi"] < 0.2
    assert abs(noise["ari"]) < 0.1


@pytest.mark.parametrize(("tests", "trains"), [(1, 3), (2, 12), (3, 1), (4, 12)])
def test_a_gallery_of_few_images_shows_those(tests: int, trains: int) -> None:
    train, test = Images(trains, 0), Images(tests, 1)
    s = Subject(RawPixels(), Sets(train, train, train, test, ["a", "b", "c"]), torch.device("cpu"))
    found = gallery(s, neighbours=5, clusters=2, side=8)
    places = np.array([found.figures["x"], found.figures["y"]])
    assert places.shape == (2, tests)
    assert ((places >= 0) & (places <= 1)).all()
    assert 0 <= found.figures["trustworthiness"] <= 1
    assert found.settings["neighbours"] == min(5, trains)
    assert found.pictures["neighbours"].shape == (3, 8 * tests, 8 * (1 + min(5, trains)))


def test_stages_probe_each_stage_and_choose_on_validation() -> None:
    torch.manual_seed(0)
    encoder = Encoder(ResNet(width=0.0625)).eval()
    s = subject(encoder)
    found = stages(s, penalties=[1e-3, 1e-1])
    assert found.shown == ("top1", *(f"stage{i}_top1" for i in (1, 2, 3, 4)))
    for key in ("top1", "top1_low", "top1_high"):
        assert found.figures[key] == found.figures[f"stage{found.figures['best_stage']}_{key}"]
    assert found.figures["stage4_top1"] == pytest.approx(logistic(s, penalties=[1e-3, 1e-1]).figures["top1"])
    before = [found.figures["best_stage"], found.figures["top1"]]
    s.sets.test.labels = (s.sets.test.labels + 1) % 3  # type: ignore[operator, misc]
    after = stages(s, penalties=[1e-3, 1e-1]).figures
    assert after["best_stage"] == before[0]
    assert after["top1"] != before[1]
    with pytest.raises(ValueError, match="RawPixels has no stages"):
        stages(subject())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_with_its_severity_and_follows_its_seed(name: str) -> None:
    from skimage.data import astronaut

    picture = torch.from_numpy(astronaut()[::8, ::8].copy()).movedim(-1, 0)[None]
    away = [(corrupt(picture, name, s, seed=0).int() - picture.int()).abs().float().mean().item() for s in range(1, 6)]
    assert torch.equal(corrupt(picture, name, 3, seed=1), corrupt(picture, name, 3, seed=1))
    assert min(away) > 0.3
    assert away[4] > away[0]
    if name not in ("saturation", "pixelate"):  # which go both ways; which interferes with the grid
        assert away == sorted(away)


def test_brighter_black_is_gray() -> None:
    made = corrupt(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "brightness", 5, seed=0)
    assert made.unique().tolist() == [76]  # 0.3 of 255


def test_robust_reports_clean_and_corrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject()
    found = robust(s, corruptions=["gaussian_noise", "contrast"], severities=[1, 5])
    assert found.figures["clean"] == pytest.approx(logistic(subject()).figures["top1"])
    monkeypatch.delattr(sys.modules["ssl_lab.evaluation.logistic"], "fit")  # the probe stands: it is not fitted again
    assert found.figures["clean"] == logistic(s).figures["top1"]
    assert found.figures["corrupted"] == pytest.approx(
        np.mean([found.figures[f"{n}_{k}"] for n in ("gaussian_noise", "contrast") for k in (1, 5)])
    )
    assert found.figures == robust(s, corruptions=["gaussian_noise", "contrast"], severities=[1, 5]).figures
    with pytest.raises(ValueError, match="fog"):
        robust(s, corruptions=["fog"])


def test_linear_leaves_the_encoder_as_it_was_and_chooses_without_the_test_set() -> None:
    torch.manual_seed(0)
    encoder = Encoder(ResNet(width=0.125)).eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    s = subject(encoder)
    first = linear(s, rates=[1e-4, 0.1], epochs=3, batch_size=16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert first.figures["rate"] == 0.1
    assert linear(s, rates=[1e-4, 0.1], epochs=3, batch_size=16).figures == first.figures
    alone = linear(s, rates=[0.1], epochs=3, batch_size=16).figures
    assert alone["rate"] == 0.1
    s.sets.test.labels = (s.sets.test.labels + 1) % 3  # type: ignore[operator, misc]
    moved = linear(s, rates=[1e-4, 0.1], epochs=3, batch_size=16).figures
    assert (moved["rate"], moved["select_top1"]) == (first.figures["rate"], first.figures["select_top1"])
    assert moved["top1"] != first.figures["top1"]


def test_heads_trained_together_are_those_trained_alone() -> None:
    s = subject()
    together = linear(s, rates=[0.01, 0.1], epochs=20, batch_size=16)
    assert together.figures["top1"] > 0.4
    assert together.settings["rates"] == [0.01, 0.1]


class Scaled(nn.Module):
    """Raw pixels, in other units."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).float() / 255 * self.scale


def test_the_scale_of_features_tells_the_linear_protocol_nothing() -> None:
    small, large = (linear(subject(Scaled(scale)), rates=[0.03], epochs=5, batch_size=16) for scale in (1e-3, 1e3))
    assert small.figures["top1"] == large.figures["top1"] > 0.4
    assert small.settings["standardise"] is True
    as_they_are = linear(subject(Scaled(1e-3)), rates=[0.03], epochs=5, batch_size=16, standardise=False)
    assert as_they_are.figures["top1"] < 0.4


@pytest.mark.parametrize("convention", ["simclr", "moco", "barlow"])
def test_the_published_linear_protocols_take_features_as_they_are(convention: str) -> None:
    config, _ = recipes.compose("evaluate", ["run=outputs", f"protocol=linear_{convention}"])
    node = config["protocols"][f"linear_{convention}"]
    assert node["standardise"] is False
    assert len(node["rates"]) == 1


def test_finetuning_trains_a_copy_on_its_labels_alone() -> None:
    torch.manual_seed(0)
    encoder = Encoder(ResNet(width=0.125)).eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    s = subject(encoder)
    found = finetune(s, rates=[0.03], epochs=4, batch_size=16)
    assert found.figures["top1"] > 0.6
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    few = finetune(s, rates=[0.03], epochs=1, batch_size=4, amount=5)
    assert (few.settings["fitted_on"], few.settings["chosen_on"]) == (15, 3)
    with pytest.raises(ValueError, match="RawPixels has no weights"):
        finetune(subject())


def test_a_subset_is_divided_inside_itself() -> None:
    s = subject()
    rows = set(subset(s.sets.train.labels, 3, 10, 0).tolist())
    every = s.sets.train.images.flatten(1).tolist()  # type: ignore[attr-defined]

    def held_in(images: Any) -> set[int]:
        return {every.index(image) for image in images.images.flatten(1).tolist()}

    for folds, held in ((1, [6]), (5, [6] * 5)):
        choice = Choice.inside(s, 10, 0, folds, seed=0)
        assert held_in(choice.whole) == rows
        assert [len(judged) for _, judged in choice.pairs] == held
        for learned, judged in choice.pairs:
            assert held_in(learned) | held_in(judged) == rows
            assert not held_in(learned) & held_in(judged)
    lone = Choice.inside(s, 1, 0, 5, seed=0)
    assert (lone.name, len(lone.whole), lone.held) == ("the subset itself", 3, 3)
    s.sets.train.labels = torch.tensor([0] * 5 + [1] * 50 + [2] * 65)  # type: ignore[misc]  # an attribute of `Images`
    pairs: list[Any] = Choice.inside(s, 0.1, 0, 5, seed=0).pairs
    ((learned, judged),) = pairs  # one label of the rare class: it is there to learn from
    assert (learned.labels == 0).sum() == 1
    assert (judged.labels == 0).sum() == 0


def test_few_images_are_seen_more_often() -> None:
    course = Course(Recipe(2, 8, 0.9, 0.0, "cosine", (0.3, 1.0), 0), 10.0, 1.0, min_steps=30)
    assert course.recipe_of(80).epochs == 3  # of ten steps each
    assert course.recipe_of(800).epochs == 2
    assert course.recipe_of(5).epochs == 30


def test_rates_fall_from_the_head_down() -> None:
    network = Classifier(Encoder(ResNet(width=0.125)), 3)
    rates = [
        group["lr"]
        for group in groups(network.encoder.backbone, network.head, rate=1.0, head_rate=10.0, layer_decay=0.5)
    ]
    assert rates == pytest.approx([10.0, 1.0, 0.5, 0.25, 0.125, 0.0625])  # the head, four stages, the stem


@pytest.mark.parametrize(
    ("backbone", "parts"),
    [
        (ResNet(width=0.125), 5),
        (ConvNet([8, 8]), 2),
        (Widened(ConvNet([8, 8]), 16), 3),
        (TimmBackbone("vit_tiny_patch16_224", options={"img_size": 32, "patch_size": 8}), 13),
    ],
    ids=["resnet", "convnet", "widened", "vit"],
)
def test_the_parts_of_a_backbone_hold_all_that_learns(backbone: Any, parts: int) -> None:
    found = backbone.parts()
    assert len(found) == parts
    trainable = {id(p) for p in backbone.parameters() if p.requires_grad}
    assert sorted(id(p) for part in found for p in part) == sorted(trainable)


def test_schedules_fall_as_said() -> None:
    assert [training.factor("steps", p) for p in (0.0, 0.59, 0.6, 0.8)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [training.factor("cosine", p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
