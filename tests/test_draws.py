"""Randomness: the same however a batch is spread."""

import pytest
import torch

from ssl_lab.draws import Draws, seed_from


def test_processes_draw_what_one_process_draws() -> None:
    whole = Draws(seed=3, counter=7, total=12)
    parts = [Draws(seed=3, counter=7, total=12, start=s, stop=s + 4) for s in (0, 4, 8)]
    for shape in ((), (2,), (3, 5)):
        assert torch.equal(whole.uniform(*shape), torch.cat([part.uniform(*shape) for part in parts]))
        assert torch.equal(whole.normal(*shape), torch.cat([part.normal(*shape) for part in parts]))


def test_rows_begin_the_sequence_again() -> None:
    whole = Draws(seed=3, counter=7, total=12, start=4, stop=12)
    first = whole.uniform(2)
    assert torch.equal(whole.rows(2, 5).uniform(2), first[2:5])
    assert not torch.equal(whole.uniform(2), first)


def test_seed_and_counter_both_matter() -> None:
    firsts = {Draws(seed, counter, 1).uniform().item() for seed in range(4) for counter in range(4)}
    assert len(firsts) == 16


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_from("order", 0, 0) == 8105155533265743171


def test_rows_outside_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="5:9"):
        Draws(0, 0, total=8, start=5, stop=9)
