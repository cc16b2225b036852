"""Is it worth it: the arithmetic by hand, and the whole command on small folders."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from test_pages import CHROMIUM, SCRIPT, console, fake

from ssl_lab import recipes
from ssl_lab.evaluation.scoring import packed
from ssl_lab.gains import LINEAR, RANDOM, SUPERVISED, TUNED, WEIGHTS, Point, Row, answer, clear, labels_for, rows_of
from ssl_lab.nn import ConvNet
from ssl_lab.pages import worth_page
from ssl_lab.records import RunFolder, find_run
from ssl_lab.verdict import data_words, results, table


def row(name: str, *accuracies: float, draws: int = 3, deviation: float = 0.01) -> Row:
    amounts = [("1 %", 100), ("10 %", 1000), ("100 %", 10_000)]
    return Row(
        name,
        [
            Point(share, labels, accuracy, deviation, draws, 10_000)
            for (share, labels), accuracy in zip(amounts, accuracies, strict=False)
        ],
    )


def test_labels_are_interpolated_over_their_logarithm() -> None:
    ours = row(LINEAR, 0.4, 0.6, 0.7)
    assert labels_for(ours, 0.5) == round(10**2.5)
    assert labels_for(ours, 0.3) == 100
    assert labels_for(ours, 0.6) == 1000
    assert labels_for(ours, 0.71) is None


def test_a_difference_is_clear_beyond_its_error() -> None:
    first, second = Point("1 %", 100, 0.50, 0.0, 1, 10_000), Point("1 %", 100, 0.52, 0.0, 1, 10_000)
    assert first.margin == pytest.approx(1.96 * 0.005)
    assert clear(first, second)  # 0.02 > 1.96 * 0.00707
    assert not clear(first, second._replace(accuracy=0.513))
    assert not clear(first, second._replace(deviation=0.03, draws=2))
    three = first._replace(deviation=0.03, draws=3)
    assert three.margin == pytest.approx(math.hypot(1.96 * 0.005, 4.3027 * 0.03 / math.sqrt(3)), rel=1e-4)


def test_a_difference_on_the_same_images_is_told_image_by_image() -> None:
    told, more = np.arange(500) < 250, np.arange(500) < 260
    other = np.roll(more, 30)  # 40 images gained, 30 lost
    first = Point("100 %", 100, 0.50, 0.0, 1, 500, told[None])
    assert clear(first, first._replace(accuracy=0.52, right=more[None]))  # 10 images gained, none lost
    assert not clear(first, first._replace(accuracy=0.52, right=None))  # as if it were other images
    assert not clear(first, first._replace(accuracy=0.52, right=other[None]))
    draws = np.stack([told, told, told])
    varied = np.stack([more, told, more])
    assert not clear(first._replace(right=draws, draws=3), first._replace(accuracy=0.5133, right=varied, draws=3))


def line(protocol: str, figures: dict[str, Any], settings: dict[str, Any], **others: Any) -> dict[str, Any]:
    """A result line of our own run, unless told otherwise."""
    own = {"name": "SimCLR", "data": {"test": 4}, "trained_by": {"seed": 0}}
    return own | {"protocol": protocol, "figures": figures, "settings": settings} | others


def test_rows_know_their_labels_and_which_images_they_got_right() -> None:
    right = [packed(np.array(row, bool)) for row in ([1, 1, 0, 0], [1, 0, 0, 0])]
    tuned = [
        line("finetune", {"top1": top1, "right": bits}, {"amount": 0.1, "draw": i, "fitted_on": 3, "chosen_on": 3})
        for i, (top1, bits) in enumerate(zip((0.5, 0.25), right, strict=True))
    ]
    few = {"10 %": 0.375, "10 %, labels": 3, "10 %, std": 0.17, "10 %, right": right}
    ours, all_weights = rows_of([line("few_label", few, {"draws": 2}), *tuned], [0.1], 30)
    assert (ours.name, all_weights.name) == (LINEAR, TUNED)
    for row in (ours, all_weights):
        assert (row.points[0].labels, row.points[0].draws) == (3, 2)
        assert np.asarray(row.points[0].right, int).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert table([ours, all_weights])[0].keys() == table([ours, all_weights])[1].keys()


def test_results_of_other_images_are_none_of_the_answer(tmp_path: Path) -> None:
    run = RunFolder(fake(tmp_path, 0))
    data = {"name": "mine", "test": 4}
    run.update(data=data)
    own = line("logistic", {"top1": 0.5}, {}, data=data, split="test", asked={})
    run.results_file.write_text("".join(json.dumps(one) + "\n" for one in (own, own | {"data": {"name": "stl10"}})))
    config = {"paths": {"out": str(tmp_path / "none")}, "worth": {"weights": None, "timm": None}}
    assert results(run, config, [("logistic", {})]) == [own]


def test_what_cannot_be_compared_is_refused_before_anything_is_learned(command: Command) -> None:
    refused = command("worth", "data.root=mine", "worth.amounts=[0.1,5]", "worth.rates=[]")
    assert refused.returncode == 2
    for told in ("worth.amounts holds 5; allowed", "worth.rates is empty"):
        assert told in refused.stderr
    assert "worth.draws=0: must be a whole number, 1 or more" in command("worth", "worth.draws=0").stderr


def test_the_answer_names_the_cheapest_of_the_best() -> None:
    said = answer([row(RANDOM, 0.2, 0.3, 0.4), row(SUPERVISED, 0.25, 0.5, 0.8), row(LINEAR, 0.4, 0.6, 0.7),
                   row(TUNED, 0.41, 0.65, 0.8)])  # fmt: skip
    assert said[0] == (
        f"Use: with 1 % of the labels {LINEAR}; with 10 % of the labels {TUNED}; with 100 % of the labels {SUPERVISED}."
    )
    assert said[1].startswith(
        f"With 1 % of the labels (100): {LINEAR} (the cheapest of what is level: {TUNED}; {LINEAR}). {TUNED} 41.0; "
    )
    assert f"{SUPERVISED} (the cheapest of what is level: {SUPERVISED}; {TUNED})." in said[3]
    assert f"with 100 labels (25.0 %), {LINEAR} reaches with at most 100." in said[4]
    assert said[5].endswith(f"{TUNED} reaches with about 237.")
    assert said[6].endswith(f"{TUNED} reaches with about 10,000, though with 10,000 the two are not told apart.")


def test_pretraining_that_does_not_help_is_said() -> None:
    said = answer([row(SUPERVISED, 0.5, 0.7, 0.9), row(LINEAR, 0.3, 0.4, 0.5), row(TUNED, 0.3, 0.4, 0.5)])
    assert said[0] == f"Use: {SUPERVISED}, at every amount of labels that was tried."
    assert said[-1].endswith("pretraining does not reach.")


def pictures(folder: Path, classes: list[str], count: int) -> None:
    """Noise whose brightness tells the class."""
    generator = torch.Generator().manual_seed(0)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = (torch.randint(0, 120, (16, 16, 3), generator=generator) + 100 * k).byte()
            Image.fromarray(pixels.numpy()).save(folder / name / f"{i}.png")


TINY = ("backbone=convnet", "method.backbone.widths=[8,8]", "data.batch_size=32", "trainer.max_flops=2e9")
TINY += ("data.store_size=16", "logger=none", "paths.out=runs", "data.root=mine")


def test_what_a_run_was_told_of_its_data_is_told_again() -> None:
    told = {"group_by": r"([^/]+)_\d+", "root": "my 'best' pictures", "store_size": 16, "mean": None, "cache": "there"}
    words = data_words(told)
    assert len(words) == 3
    data = recipes.compose("evaluate", ["data=folder", *words])[0]["data"]
    assert {key: data[key] for key in ("group_by", "root", "store_size")} == {
        key: told[key] for key in ("group_by", "root", "store_size")
    }


def test_the_page_needs_no_network_and_says_nothing_on_the_console(tmp_path: Path) -> None:
    run = RunFolder(fake(tmp_path, 0))
    run.update(data={"train": 10_000, "classes": 10, "test": 10_000})
    rows = [row(SUPERVISED, 0.25, 0.5, 0.8), row(LINEAR, 0.4, 0.6, 0.7)]
    file = tmp_path / "worth.html"
    file.write_text(worth_page(run, rows, [*answer(rows), SCRIPT]))
    assert SCRIPT not in file.read_text()
    assert not re.findall(r"(?:src|href)=[\"']?(?!data:)[^\"'>\s]*//", file.read_text())
    if CHROMIUM:
        said, document = console(file, tmp_path)
        assert said == ""
        assert document.count("<path") == 2  # a line a row
        assert document.count('stroke-width="1.5"') == 2 + 6  # and a bar a point


def test_a_folder_of_classes_gets_an_answer(process: Command, tmp_path: Path) -> None:
    pictures(tmp_path / "mine", ["dark", "light"], 60)
    torch.save(ConvNet().state_dict(), tmp_path / "others.pth")
    words = [*TINY, "worth.draws=1", "worth.amounts=[0.1]", "worth.rates=[0.01]", "worth.epochs=1", "worth.min_steps=5"]
    done = process("worth", *words, "worth.weights=others.pth", "worth.weights_backbone=convnet", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Use: " in done.stdout
    run = find_run(tmp_path / "runs" / "worth")
    for name in (LINEAR, TUNED, SUPERVISED, RANDOM, WEIGHTS):
        assert name in (run.path / "worth/worth.md").read_text()
        assert name in (run.path / "worth/worth.html").read_text()


def test_a_flat_folder_gets_a_look_and_no_verdict(process: Command, tmp_path: Path) -> None:
    pictures(tmp_path / "mine", ["all"], 80)
    done = process("worth", *TINY, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing can be said of quality" in done.stdout
    assert "Use: " not in done.stdout
    assert (find_run(tmp_path / "runs" / "worth").path / "report.html").exists()


def test_what_fails_is_said_with_its_reason(process: Command, tmp_path: Path) -> None:
    done = process("worth", *TINY)
    assert done.returncode == 1
    assert "data.root=mine does not exist" in done.stdout
    done = process("worth", "worth.drawss=2", "methd=simclr")
    assert done.returncode == 2
    assert "worth.draws" in done.stderr
    assert "method" in done.stderr
