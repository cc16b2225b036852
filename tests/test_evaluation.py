"""Protocols, against scikit-learn and by hand."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn.functional import normalize

from ssl_lab.evaluation import (
    ColorStatistics,
    KMeansFeatures,
    RawPixels,
    Sets,
    Subject,
    extract,
    knn,
    logistic,
    recalibrated,
)
from ssl_lab.evaluation.knn import largest, predict
from ssl_lab.evaluation.logistic import fit

knn_module = importlib.import_module("ssl_lab.evaluation.knn")  # the package has the function by that name


class Images:
    """A labelled set in memory whose images are columns of noise around their class."""

    def __init__(self, n: int, seed: int, classes: int = 3):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % classes
        noise = torch.randint(0, 160, (n, 3, 4, 4), generator=generator)
        self.images = (noise + 40 * self.labels[:, None, None, None]).clamp(0, 255).to(torch.uint8)
        self.gathered: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, index: torch.Tensor) -> torch.Tensor:
        self.gathered += index.tolist()
        return self.images[index]

    def subset(self, index: torch.Tensor) -> "Images":
        part = Images(0, 0)
        part.labels, part.images = self.labels[index], self.images[index]
        return part


def subject() -> Subject:
    train = Images(90, 0)
    sets = Sets(train, train, Images(30, 1), Images(60, 2), ["a", "b", "c"])
    return Subject(RawPixels(), sets, torch.device("cpu"), batch_size=32)


def test_knn_is_scikit_learns() -> None:
    s = subject()
    bank, queries = s.features(s.sets.train), s.features(s.sets.test)
    theirs = KNeighborsClassifier(15, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1), algorithm="brute").fit(
        bank, s.labels(s.sets.train)
    )
    ours = predict(bank, s.labels(s.sets.train), queries, k=15, temperature=0.1, num_classes=3, chunk=7)
    assert torch.equal(ours, torch.from_numpy(theirs.predict(queries)))
    assert knn(s, k=15).figures["top1"] == pytest.approx(theirs.score(queries, s.labels(s.sets.test)))


@pytest.mark.parametrize(("m", "k"), [(1000, 7), (1003, 40), (64, 4), (60, 5), (100, 100)])
def test_the_largest_are_those_of_topk(m: int, k: int) -> None:
    table = torch.randn(20, m, generator=torch.Generator().manual_seed(0))
    values, places = largest(table, k)
    expected = table.topk(k, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_the_short_search_finds_what_the_full_one_finds(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where directions are spread few queries are in doubt; where all point one way, the short search is given up."""
    monkeypatch.setattr(knn_module, "fast_bfloat16", lambda _: True)
    generator = torch.Generator().manual_seed(0)
    rows = normalize(torch.ones(64) / 8 + spread * torch.randn(10_000, 64, generator=generator), dim=1)
    bank, queries = rows[:9_000], rows[9_000:9_200]
    search = knn_module.Search(bank, 10)
    assert search.rough is not None
    values, places = search(queries)
    expected = (queries @ bank.T).topk(10, dim=1)
    assert torch.allclose(values, expected.values, atol=1e-6)
    assert (places == expected.indices).float().mean() > 0.99  # but for products that are equal
    assert (search.rough is None) == (spread < 1)


def test_few_rows_of_many_features_are_fitted_as_in_full() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(20, 100, generator=generator).double(), torch.arange(20) % 3
    short = fit(features, labels, 3, 1e-2, 500)
    ours = fit(features.repeat(2, 1), labels.repeat(2), 3, 1e-2, 500)  # each row twice: the same problem, not turned
    assert torch.allclose(short.weight, ours.weight, atol=1e-4)
    assert torch.allclose(short.bias, ours.bias, atol=1e-4)
    again = fit(features, labels, 3, 1e-2, 500, start=short)
    assert torch.allclose(again.weight, short.weight, atol=1e-4)


def test_a_bank_is_searched_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(1000, 16, generator=generator), torch.randn(50, 16, generator=generator)
    expected = (normalize(queries, dim=1) @ normalize(bank, dim=1).T).topk(7, dim=1)
    for block in (4096, 300, 128):
        monkeypatch.setattr(knn_module, "BLOCK", block)
        values, rows = knn_module.neighbours(bank, queries, 7, chunk=16)
        assert torch.allclose(values, expected.values, atol=1e-6)
        assert torch.equal(rows, expected.indices)


def test_knn_stays_finite_at_a_small_temperature() -> None:
    bank = torch.eye(3)
    labels = torch.arange(3)
    assert torch.equal(predict(bank, labels, bank, 3, 1e-3, 3), labels)
    assert predict(bank, labels, torch.tensor([[-1.0, -0.5, -0.1]]), 3, 1e-3, 3).item() == 2


def test_knn_refuses_a_k_above_the_smallest_class() -> None:
    with pytest.raises(ValueError, match="k=31; the smallest class has 30 training images; set k=30"):
        knn(subject(), k=31)


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"k": 0}, "k=0; allowed: 1"), ({"k": 3, "temperature": 0.0}, "temperature=0")],
)
def test_knn_refuses_what_has_no_neighbours_or_weights(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        knn(subject(), **asked)


def test_knn_names_the_class_without_images() -> None:
    s = subject()
    s.sets.classes[2:] = ["cat", "dog"]
    with pytest.raises(ValueError, match=r"no training image of dog; .* data\.split_seed"):
        knn(s, k=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    s = subject()
    s.encoder = nn.Sequential(RawPixels(), nn.Linear(48, 4))
    nn.init.constant_(s.encoder[1].bias[:1], value)
    with pytest.raises(ValueError, match="60 of 60 images are not finite: the weights are damaged"):
        s.features(s.sets.test)


def test_logistic_regression_is_scikit_learns() -> None:
    s = subject()
    features, labels = s.features(s.sets.train), s.labels(s.sets.train)
    penalty = 1e-2
    ours = fit(features.double(), labels, 3, penalty, max_iterations=500)
    theirs = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-8, max_iter=2000).fit(features, labels)
    ours_p = (features.double() @ ours.weight.T + ours.bias).softmax(1)
    assert np.allclose(ours_p.numpy(), theirs.predict_proba(features), atol=1e-3)


def test_logistic_chooses_the_penalty_without_the_test_set() -> None:
    s = subject()
    result = logistic(s, penalties=[1e-3, 1e-1, 10.0])
    flipped = subject()
    flipped.sets.test.labels = (flipped.sets.test.labels + 1) % 3  # type: ignore[operator]
    other = logistic(flipped, penalties=[1e-3, 1e-1, 10.0])
    assert result.figures["penalty"] == other.figures["penalty"]
    assert result.figures["select_top1"] == other.figures["select_top1"]
    assert result.figures["top1"] != other.figures["top1"]


def test_logistic_says_whether_its_fit_was_cut_short() -> None:
    assert logistic(subject(), penalties=[1.0]).figures["converged"] is True
    assert logistic(subject(), penalties=[1.0], max_iterations=2).figures["converged"] is False
    generator = torch.Generator().manual_seed(0)
    turned = fit(torch.randn(20, 100, generator=generator), torch.arange(20) % 3, 3, 1e-6, max_iterations=2)
    assert turned.converged is False


def test_features_are_made_once_in_evaluation_mode() -> None:
    s = subject()
    encoder = nn.Sequential(RawPixels(), nn.Dropout(0.5))
    s.encoder = encoder
    first = s.features(s.sets.train)
    assert s.features(s.sets.train) is first
    assert s.sets.train.gathered == list(range(90))  # type: ignore[attr-defined]
    assert torch.equal(first, RawPixels()(s.sets.train.images))  # type: ignore[attr-defined]
    assert encoder.training


def test_features_of_parts_of_train_are_not_made_twice() -> None:
    train, kept, taken = Images(90, 0), torch.arange(0, 80), torch.arange(80, 90)
    fit_on, select, test = train.subset(kept), train.subset(taken), Images(30, 1)
    sets = Sets(train, fit_on, select, test, ["0", "1", "2"], (kept, taken))
    s = Subject(RawPixels(), sets, torch.device("cpu"))
    for images in (select, train, fit_on, test):
        assert torch.equal(s.features(images), RawPixels()(images.images))
    assert train.gathered == list(range(90))


def test_extract_leaves_the_mode_of_every_module_as_it_was() -> None:
    encoder = nn.Sequential(RawPixels(), nn.BatchNorm1d(48), nn.Dropout(0.5))
    encoder[1].eval()
    extract(encoder, Images(6, 0), torch.device("cpu"))
    assert [module.training for module in encoder] == [True, False, True]


def test_colour_statistics() -> None:
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    images[:, 0, 0] = 255
    expected = torch.tensor([[0.5, 0, 0, 1 / 3**0.5, 0, 0]])
    assert torch.allclose(ColorStatistics()(images), expected, atol=1e-6)


def test_no_labels_is_said() -> None:
    s = subject()
    s.sets.train.labels = None
    with pytest.raises(ValueError, match="needs labels"):
        knn(s, k=1)


def test_the_probe_lowers_k_to_the_smallest_class() -> None:
    from ssl_lab.evaluation import KnnProbe

    bank, queries = Images(30, 0), Images(12, 1)
    bank.subset = lambda index: bank  # type: ignore[method-assign, assignment]
    probe = KnnProbe(bank, queries, num_classes=3, k=200)
    assert probe.k == 10
    bank_features, queries_features = RawPixels()(bank.images), RawPixels()(queries.images)
    expected = predict(bank_features, bank.labels, queries_features, 10, 0.1, 3) == queries.labels
    assert probe.measure(RawPixels(), torch.device("cpu"), "32-true") == pytest.approx(expected.float().mean().item())


def test_recalibrating_takes_the_statistics_of_clean_images_and_nothing_else() -> None:
    images = Images(90, 0)
    encoder = nn.Sequential(RawPixels(), nn.BatchNorm1d(48)).eval()
    encoder[1].running_mean.fill_(7.0)  # type: ignore[operator, union-attr]
    encoder[1].weight.data.fill_(2.0)  # type: ignore[operator, union-attr]
    again = recalibrated(encoder, images, batch_size=30)
    pixels = RawPixels()(images.images)
    expected = torch.stack([part.mean(0) for part in pixels.split(30)]).mean(0)
    assert torch.allclose(again[1].running_mean, expected, atol=1e-6)  # type: ignore[index]
    assert torch.equal(again[1].weight, encoder[1].weight)  # type: ignore[index]
    assert (encoder[1].running_mean == 7).all()  # type: ignore[operator, arg-type]
    assert not any(module.training for module in again.modules())


def test_kmeans_features_whiten_and_measure_distances_as_written() -> None:
    images = torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    layer = KMeansFeatures(centroids=8, patch=4)
    layer.fit(images, patches=3000)
    features = layer(images[:2])
    assert features.shape == (2, 32)
    patch = images[0, :, :4, :4].flatten().float()
    normal = (patch - patch.mean()) / (patch.var() + 10).sqrt()
    distance = ((normal - layer.mean) @ layer.whitening - layer.centres).norm(dim=1)
    expected = (distance.mean() - distance).clamp_min(0)
    single = layer._features(images[:1, :, :4, :4])
    assert torch.allclose(single.view(8, 4)[:, 0], expected, atol=1e-4)
    # Whitened patches are uncorrelated, with unit variance but for epsilon.
    columns = torch.nn.functional.unfold(images.float(), 4).transpose(1, 2).flatten(0, 1)
    white = (layer._normalised(columns) - layer.mean) @ layer.whitening
    covariance = torch.cov(white.T)
    off = covariance - torch.diag(covariance.diagonal())
    assert off.abs().max() < 0.15
    assert 0.7 < covariance.diagonal().sort().values[3] < 1.1
    assert torch.equal(layer(images), layer(images))
