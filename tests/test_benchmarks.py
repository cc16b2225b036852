"""What `make bench` measures can still be called; how fast it is, is not for tests."""

import pytest
import torch

from benchmarks import evaluation


def test_the_probe_is_fitted_on_features_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(evaluation, "logistic", lambda subject, penalties: asked.append(subject))
    bank, queries = torch.randn(100, 8), torch.randn(20, 8)
    evaluation.probe(bank, torch.arange(100) % evaluation.CLASSES, queries)
    (subject,) = asked
    found = [subject.features(images) for images in (subject.sets.fit, subject.sets.select, subject.sets.test)]
    assert torch.equal(torch.cat(found), torch.cat([bank, queries]))
    assert [len(part) for part in found] == [90, 10, 20]


def test_extraction_and_the_bare_pass_are_of_the_same_images() -> None:
    bare, extracted = evaluation.passes(600)
    bare()
    assert extracted().shape == (600, 128)  # type: ignore[attr-defined]  # it is a tensor
