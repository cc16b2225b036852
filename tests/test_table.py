"""Tables: the runs they need are made once, and their cells say what was measured."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import torch
import yaml
from conftest import ROOT, TINY, Command, wait_for
from test_pages import CHROMIUM, console

from ssl_lab import estimate, recipes
from ssl_lab.cells import Found, differ, find, interval, rows, spread
from ssl_lab.config import ConfigError
from ssl_lab.known import Job, Known, Table, lacking
from ssl_lab.records import RunFolder, baseline_results, find_run, read_ledger, same_run, summaries
from ssl_lab.remarks import against, machines, notes, ranks
from ssl_lab.sheet import as_latex, as_markdown, write
from ssl_lab.spec import combinations, jobs_of, protocols_of, read_spec
from ssl_lab.tabulate import collect, ends, evaluations, plan, read_known, save, text_of

SHARED = [*TINY, "trainer.max_epochs=1", "probe=none"]


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "title": "digits",
        "shared": SHARED,
        "seeds": [0, 1, 2],
        "protocols": ["knn"],
        "evaluation": ["protocols.knn.k=50"],
        "baselines": ["random_weights"],
        "rows": {"SimCLR": {"train": ["method=simclr"]}, "Rotation": {"train": ["method=rotation"]}},
    } | changes


ASKED = {"k": 50, "temperature": 0.1}


def table(split: str = "val", **changes: Any) -> Table:
    return Table(spec(**changes), {"knn": ASKED}, split)


def known(figures: dict[tuple[str, int], float], random: dict[int, float]) -> Known:
    """Runs of a table with made figures."""
    data = {"name": "digits", "fingerprint": "x"}
    runs = []
    for job in jobs_of(spec(), [0, 1, 2]):
        if (job.row, job.seed) in figures:
            line = {"protocol": "knn", "split": "val", "name": job.row, "asked": ASKED, "data": data}
            line |= {"figures": {"top1": figures[job.row, job.seed]}}
            cost = {"views_seen": 2e6, "flops": 1e14, "seconds": 60.0, "ending": {"train/loss": 1.0}}
            runs.append({"config": job.config, "data": data, "results": [line], **cost})
    baselines = [
        {"protocol": "knn", "split": "val", "name": "random weights", "figures": {"top1": score}, "data": data}
        | {"asked": ASKED, "trained_by": {"seed": seed, "backbone": runs[0]["config"]["method"]["backbone"]}}
        for seed, score in random.items()
    ]
    return Known(runs, baselines)


def test_cells_are_means_and_paired_intervals_over_seeds() -> None:
    simclr = {("SimCLR", 0): 0.5, ("SimCLR", 1): 0.6, ("SimCLR", 2): 0.7}
    found = known(simclr | {("Rotation", 0): 0.4}, {0: 0.3, 1: 0.35, 2: 0.5})
    lines = rows(table(), jobs_of(spec(), [0, 1, 2]), found)
    random, ours, rotation = lines
    assert random["knn %"] == "38.3 ± 10.4"
    assert ours["knn %"] == "60.0 ± 10.0"
    # differences 20, 25, 20: mean 21.67, deviation 2.887, t(0.975, 2) = 4.303
    assert ours["knn over random"] == "+21.7 ± 7.2"
    assert (ours["views"], ours["time"], ours["seeds"]) == ("2.00 M", "1 min 0 s", "3")
    assert (rotation["knn %"], rotation["knn over random"]) == ("40.0", "+10.0")  # one seed: no interval
    assert as_markdown(lines).splitlines()[0].startswith("| method | knn % | knn over random |")


def test_baselines_that_stand_beside_a_run_of_the_same_images_are_not_measured_again() -> None:
    found = known({("SimCLR", 0): 0.5}, {0: 0.3, 1: 0.3})
    other = {job.seed: job for job in jobs_of(spec(), [0, 1, 2]) if job.row == "Rotation"}  # none of them made
    assert [found.baselines_of(other[seed], table()) for seed in range(3)] == [["random weights"]] * 2 + [[]]
    several = table(protocols=["knn", "logistic"])
    assert found.baselines_of(other[0], several) == []
    (wider,) = jobs_of(spec(shared=[*SHARED, "method.backbone.widths=[8,16]"]), [0])[:1]
    assert found.baselines_of(wider, table()) == []
    (larger,) = jobs_of(spec(shared=[*SHARED, "data.store_size=16"]), [0])[:1]
    assert found.baselines_of(larger, table()) == []


def test_spread_and_interval_of_nothing_are_empty() -> None:
    assert (spread({}), interval([]), interval([0.1])) == ("", "", "+10.0")


def test_runs_of_another_machine_that_were_measured_on_test_leave_those_of_validation_kept(tmp_path: Path) -> None:
    """As `train=false save=…` of their folder does, with the ledger beside it."""
    found = known({("SimCLR", 0): 0.6, ("SimCLR", 1): 0.7}, {0: 0.3, 1: 0.4})
    twin = found.runs[0] | {"results": [line | {"split": "test"} for line in found.runs[0]["results"]], "seconds": 5.0}
    jobs = jobs_of(spec(rows={"SimCLR": {"train": ["method=simclr"]}}), [0, 1])
    for split in ("val", "test"):
        save(table(split), jobs, Known([*found.runs, twin], found.baselines), tmp_path / "mine")
        kept = read_known(tmp_path / "mine.jsonl").runs
        seconds = {(run["config"]["seed"], line["split"]): run["seconds"] for run in kept for line in run["results"]}
        assert seconds == {(0, "val"): 60.0, (1, "val"): 60.0, (0, "test"): 5.0}
        assert "| SimCLR | 65.0 ± 7.1 |" in (tmp_path / "mine-val.md").read_text()
        assert "| SimCLR | 60.0 " in (tmp_path / "mine-test.md").read_text()


def test_no_kept_run_is_lost_by_saving(tmp_path: Path) -> None:
    found = known({("SimCLR", 0): 0.6, ("SimCLR", 1): 0.7}, {0: 0.3, 1: 0.4})
    save(table(), jobs_of(spec(), [0, 1]), found, tmp_path / "mine")
    before = (tmp_path / "mine.jsonl").read_text()
    with pytest.raises(ValueError, match=r"mine\.jsonl holds 1 runs .* would be lost"):
        save(table(), jobs_of(spec(), [0]), found, tmp_path / "mine")
    assert (tmp_path / "mine.jsonl").read_text() == before
    (tmp_path / "mine.jsonl").write_text(before + "<<<<<<< HEAD\n")
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 5 is damaged"):
        read_known(tmp_path / "mine.jsonl")


def given(**rows: Any) -> Table:
    return table(rows={name: row | rows.get(name, {}) for name, row in spec()["rows"].items()})


def test_published_figures_are_compared_only_where_they_were_measured_alike() -> None:
    printed = given(
        SimCLR={"published": {"knn": {"value": 55.0, "source": "A"}}},
        Rotation={"published": {"knn": {"value": 50.0, "source": "B", "measured": "on test", "verified": False}}},
    )
    printed.spec["published_split"] = "val"
    found = known({("SimCLR", 0): 0.6, ("Rotation", 0): 0.4}, {0: 0.3})
    _, simclr, rotation = rows(printed, jobs_of(spec(), [0]), found)
    assert (simclr["knn published"], simclr["knn difference"]) == ("55", "+5.0")
    assert (rotation["knn published"], rotation["knn difference"]) == ("50†?", "")
    assert notes(printed) == ["SimCLR (knn): A", "Rotation (knn): B; † measured as: on test; ? not verified"]


def test_rows_say_that_they_were_not_run_and_what_they_do_otherwise() -> None:
    otherwise = given(SimCLR={"unlike": "no blur"}, Rotation={"unlike": "no blur"})
    otherwise.spec["unlike"] = ["fewer images"]
    found = known({("SimCLR", 0): 0.6, ("Rotation", 0): 0.4}, {})
    found.runs[1]["results"] = []
    jobs = jobs_of(spec(), [0])
    _, simclr, rotation = rows(otherwise, jobs, found)
    assert (simclr["seeds"], rotation["seeds"]) == ("1", "not yet measured")
    lines = rows(otherwise, jobs, Known([], []))
    assert [line["method"] for line in lines] == ["random weights", "SimCLR", "Rotation"]
    assert [line.get("seeds") for line in lines] == [None, "not yet run here", "not yet run here"]
    assert notes(otherwise) == [
        "‡ unlike what is published, all rows: fewer images",
        "‡ unlike what is published, SimCLR, Rotation: no blur",
    ]


def test_a_published_figure_of_what_was_trained_otherwise_is_marked() -> None:
    printed = {"published": {"knn": {"value": 55.0, "source": "A"}}}
    marked = given(SimCLR=printed | {"unlike": "no blur"}, Rotation=printed)
    marked.spec["published_split"] = "val"
    found = known({("SimCLR", 0): 0.6, ("Rotation", 0): 0.4}, {0: 0.3})
    for everywhere, told in (([], ["55‡", "55"]), (["fewer images"], ["55‡", "55‡"])):
        marked.spec["unlike"] = everywhere
        _, *lines = rows(marked, jobs_of(spec(), [0]), found)
        assert [line["knn published"] for line in lines] == told
        assert [line["knn difference"] for line in lines] == ["+5.0", "-15.0"]


def test_published_figures_are_not_compared_with_those_of_another_split() -> None:
    printed = given(SimCLR={"published": {"knn": {"value": 55.0, "source": "A"}}})  # of test, where nothing is said
    _, simclr, _ = rows(printed, jobs_of(spec(), [0]), known({("SimCLR", 0): 0.6, ("Rotation", 0): 0.4}, {0: 0.3}))
    assert (simclr["knn published"], simclr["knn difference"]) == ("55†", "")
    assert notes(printed)[-1] == "† published figures are of the test split, these of val: split=test compares"


def test_rows_are_told_apart_by_paired_differences() -> None:
    close = {("SimCLR", s): 0.5 + s / 10 for s in range(3)} | {("Rotation", s): 0.49 + s / 10 for s in range(3)}
    jobs = jobs_of(spec(), [0, 1, 2])

    def told(figures: dict[tuple[str, int], float]) -> list[str]:
        return ranks(table(), find(table(), jobs, known(figures, {0: 0.3})))

    assert told(close) == ["knn: SimCLR > Rotation"]  # by 1 point at every seed
    assert told(close | {("Rotation", 2): 0.9}) == ["knn: Rotation ≈ SimCLR"]
    assert told({key: value for key, value in close.items() if key[1] < 2}) == []
    assert not differ([0.1, 0.1])
    assert differ([0.1, 0.11, 0.12])


def ranked(**figures: tuple[float, ...]) -> list[str]:
    """The ranks of rows with these figures at seeds 0, 1, …"""
    data = {"name": "digits", "fingerprint": "x"}
    line = {"protocol": "knn", "split": "val", "name": "", "asked": ASKED, "data": data}
    jobs, runs = [], []
    for name, scores in figures.items():
        for seed, score in enumerate(scores):
            jobs.append(Job(name, seed, [], {"method": name, "seed": seed, "data": {}, "trainer": {}}))
            runs.append({"config": jobs[-1].config, "data": data, "results": [line | {"figures": {"top1": score}}]})
    own = table(rows={name: {"train": []} for name in figures})
    return ranks(own, find(own, jobs, Known(runs, [])))


def test_rows_that_are_no_neighbours_are_told_apart_too() -> None:
    """A over B by 1, 5, 3 and B over C by 5, 1, 3 points, neither beyond doubt; A over C by 6 at every seed."""
    a, b, c = (0.5, 0.6, 0.7), (0.49, 0.55, 0.67), (0.44, 0.54, 0.64)
    assert ranked(A=a, B=b, C=c, D=(0.1, 0.9, 0.2)) == ["knn: A ≈ B ≈ C ≈ D; also A > C"]
    assert ranked(A=a, B=b, C=c[:2], D=(0.2, 0.3, 0.4)) == [
        "knn: A ≈ B > D; also A > D",
        "Not ranked, of fewer than three seeds: C",
    ]
    low, lower = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3)
    assert ranked(A=a, B=b, C=c, D=low, E=lower) == [
        "knn: A ≈ B ≈ C > D > E; also A > C and all below; also B > D, E; also C > E"
    ]


def test_what_is_supervised_is_held_to_what_was_pretrained() -> None:
    tuned, scratch = ({"finetune": {seed: base + seed / 100 for seed in range(3)}} for base in (0.77, 0.79))
    found = Found({}, {"SimCLR": tuned}, {"random weights": {"random weights": scratch}}, {"SimCLR": scratch})
    assert ranks(table(supervised=[]), found) == []
    asking = table(supervised=["protocols.finetune.epochs=5"])
    assert ranks(asking, found) == ["finetune: supervised from scratch > SimCLR"]


def test_rows_that_were_trained_on_unlike_machines_are_named() -> None:
    found = known({("SimCLR", 0): 0.5, ("SimCLR", 1): 0.5, ("Rotation", 0): 0.4}, {})
    jobs = jobs_of(spec(), [0, 1])
    assert machines(find(table(), jobs, found)) == []  # older records do not say it
    for run in found.runs:
        run["hardware"] = {"cpu": "Z80", "cores": 2, "gpus": []}
    assert machines(find(table(), jobs, found)) == ["Trained on 2 cores of Z80"]
    found.runs[1]["hardware"] = {"cpu": "Z80", "cores": 16, "gpus": ["H200"]}
    told = "Trained on 2 cores of Z80: SimCLR; on H200: Rotation; their times do not compare"
    assert machines(find(table(), jobs, found)) == [told]


def test_only_what_stands_beside_the_supervised_is_tuned_as_that_is() -> None:
    """RotNet's row fine-tunes by the protocol's own settings, in a table without anything supervised."""
    train = spec()["rows"]["Rotation"] | {"also": ["finetune"]}

    def asked(**changes: Any) -> list[list[list[str]]]:
        one = table(**changes)
        first, second = jobs_of(one.spec, [0])
        start = ["evaluate", "run=x"]
        return [list(evaluations(job, one, Known([], []), start))[1:] for job in (first, second)]

    rows = spec()["rows"] | {"Rotation": train}
    own = ["evaluate", "run=x", "split=val", "protocol=finetune"]
    assert asked(rows=rows) == [[], [own]]
    beside = [*own, "baselines=[random_weights]", "protocols.finetune.epochs=5"]
    assert asked(rows=rows, supervised=["protocols.finetune.epochs=5"]) == [[beside], [own]]
    assert asked(rows=dict(reversed(rows.items())), supervised=["protocols.finetune.epochs=5"]) == [[beside], []]


def test_a_plan_counts_runs_that_share_a_gpu_as_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "seconds", lambda *_: 60.0)
    jobs = jobs_of(spec(), [0, 1])
    for devices, told in (("", "2 min"), ("0", "4 min"), ("0,1,2,3", "2 min")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        plan(jobs, Known([], []), table(), 2)
        assert f"about {told} 0 s of training, 2 at a time" in capsys.readouterr().out


def test_one_long_run_takes_its_whole_time_whatever_the_slots() -> None:
    assert (ends([10.0], 2), ends([4.0, 3.0, 3.0], 2), ends([1.0, 2.0], 1)) == (10.0, 6.0, 3.0)


def test_a_figure_made_anew_is_told_beside_the_kept_one() -> None:
    jobs = jobs_of(spec(), [0, 1])
    here, kept = (known({("SimCLR", 0): first, ("Rotation", 1): 0.4}, {}) for first in (0.62, 0.6))
    kept.runs[0]["results"][0]["figures"] |= {"top1_low": 0.58, "top1_high": 0.61}
    told, outside = against(table(), jobs, here, kept)
    assert outside == 1
    assert told == [
        "SimCLR, seed 0, knn: 62.0 here, 60.0 kept, OUTSIDE 58.0 to 61.0",
        "Rotation, seed 1, knn: 40.0 here, 40.0 kept",
    ]
    assert against(table("test"), jobs, here, kept) == ([], 0)


def test_a_page_of_a_table_needs_no_run_made_here(command: Command, tmp_path: Path) -> None:
    """Of what is kept with the code alone."""
    shown = command("table", "name=cifar10-cpu", "train=false", "seeds=[0]")
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "outputs" / "tables" / "cifar10-cpu.html").read_text()
    charts = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["cost"]
    assert {(one["title"], one["x"]) for one in charts} == {
        (f"{protocol} %", unit) for protocol in ("logistic", "knn", "stages", "finetune") for unit in ("FLOPs", "views")
    }
    assert {"name": "SimCLR", "points": [[pytest.approx(1.5e14, rel=0.01), ANY]]} in charts[0]["series"]
    assert "<td>kmeans features</td>" in page
    assert "<p>- knn: k 200" in page
    if CHROMIUM:
        said, document = console(tmp_path / "outputs" / "tables" / "cifar10-cpu.html", tmp_path)
        assert (said, document.count("<svg")) == ("", len(charts))
    assert not (tmp_path / "outputs" / "tables" / "cifar10-cpu-runs.html").exists()


def test_a_result_of_before_is_shown_by_its_accuracy() -> None:
    """`stages` once showed its first stage first."""
    found = known({("SimCLR", 0): 0.5}, {})
    found.runs[0]["results"][0] |= {"shown": ["stage1_top1"], "figures": {"stage1_top1": 0.4, "top1": 0.6}}
    assert rows(table(), jobs_of(spec(), [0]), found)[1]["knn %"] == "60.0"


def test_a_seed_of_every_row_comes_before_the_next_seed() -> None:
    order = [(job.seed, job.row) for job in jobs_of(spec(), [0, 1])]
    assert order == [(0, "SimCLR"), (0, "Rotation"), (1, "SimCLR"), (1, "Rotation")]


def test_a_seed_given_twice_is_one_run() -> None:
    assert len(jobs_of(spec(), [0, 0, 1])) == 4


def test_supervised_stands_beside_the_first_row_of_the_file() -> None:
    asked = {"knn": ASKED, "finetune": {"epochs": 5}}
    whole = Table(spec(supervised=["protocols.finetune.epochs=5"]), asked, "val")
    assert protocols_of("SimCLR", whole.spec) == ["knn", "finetune"]
    part = whole.spec | {"rows": {"Rotation": whole.spec["rows"]["Rotation"]}, "first": "SimCLR"}
    assert protocols_of("Rotation", part) == ["knn"]  # also where the first row is not asked for
    found = known({("SimCLR", 0): 0.5, ("SimCLR", 1): 0.6}, {0: 0.3, 1: 0.4})
    for run in found.runs:
        line = run["results"][0]
        run["results"].append(line | {"protocol": "finetune", "asked": {"epochs": 5}, "figures": {"top1": 0.8}})
    assert lacking(found.runs[0], ["knn", "finetune"], found, whole) == ["random weights, finetune"]
    scratch = [one | {"protocol": "finetune", "asked": {"epochs": 5}} for one in found.baselines]
    found.baselines.extend(line | {"figures": {"top1": 0.7}} for line in scratch)
    assert lacking(found.runs[0], ["knn", "finetune"], found, whole) == []
    lines = {line["method"]: line for line in rows(whole, jobs_of(whole.spec, [0, 1]), found)}
    assert lines["supervised from scratch"] == {
        "method": "supervised from scratch", "finetune %": "70.0 ± 0.0", "seeds": "2"
    }  # fmt: skip
    assert lines["SimCLR"]["finetune %"] == "80.0 ± 0.0"
    assert (lines["random weights"]["knn %"], lines["random weights"]["seeds"]) == ("35.0 ± 7.1", "2")


def test_names_with_signs_of_their_own_stay_names() -> None:
    lines = [{"method": r"a|b ^{2} \x ~$5", "knn %": "1.0"}]
    assert r"a\|b" in as_markdown(lines)
    assert r"a|b \textasciicircum{}\{2\} \textbackslash{}x \textasciitilde{}\$5 & 1.0" in as_latex(lines)


BROKEN: list[dict[str, Any]] = [
    {"asked": None}, {"protocol": None}, {"split": None}, {"name": None}, {"data": None}, {"figures": None},
    {"figures": {"top1": None}}, {"figures": {"top1": float("nan")}}, {"figures": {"knn": 0.5}}, {"shown": 3},
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_results_that_are_damaged_or_older_are_left_out_and_said(broken: dict[str, Any], tmp_path: Path) -> None:
    config, _ = recipes.compose("train", list(TINY))
    run = RunFolder(tmp_path / "runs" / "a")
    data = {"name": "digits", "fingerprint": "x"}
    run.start(config, data=data, status="finished")
    run.update(status="finished")
    whole = {"protocol": "knn", "split": "val", "name": "SimCLR", "asked": {}, "data": data, "figures": {"top1": 0.5}}
    line = {key: value for key, value in (whole | broken).items() if value is not None}
    baseline = tmp_path / "baselines" / "random_weights-digits-0" / "results.jsonl"
    baseline.parent.mkdir(parents=True)
    for file in (run.results_file, baseline):
        file.write_text("".join(json.dumps(one | {"trained_by": {}}) + "\n" for one in (line, whole)))
    found, said = summaries(tmp_path)
    assert [one["figures"]["top1"] for one in found[run.path]["results"]] == [0.5]
    assert len(said) == 1
    assert "1 of its results are left out" in said[0]
    kept, said = baseline_results(tmp_path)
    assert (len(kept), len(said)) == (1, 1)
    baseline.write_text("{\n")
    kept, said = baseline_results(tmp_path)
    assert (kept, len(said)) == ([], 1)
    assert "results.jsonl, line 1 is damaged" in said[0]


def test_latex_has_a_line_a_row() -> None:
    text = as_latex([{"method": "a_b", "knn %": "1.0 ± 0.1"}, {"method": "c & d"}])
    assert r"a\_b & 1.0 $\pm$ 0.1 \\" in text
    assert r"c \& d &  \\" in text
    assert r"method & knn \% \\" in text


def test_a_csv_has_every_cell(tmp_path: Path) -> None:
    write(tmp_path / "a", [{"method": "a, b", "knn %": "1.0 ± 0.1"}, {"method": "c", "seeds": "3"}], "text")
    with (tmp_path / "a.csv").open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"method": "a, b", "knn %": "1.0 ± 0.1", "seeds": ""},
            {"method": "c", "knn %": "", "seeds": "3"},
        ]
    assert (tmp_path / "a.md").read_text() == "text"


def test_the_ablation_as_a_sweep_has_the_rows_of_its_table() -> None:
    spec, _ = read_spec("ablation-simclr")
    recipe = yaml.safe_load((recipes.conf() / "experiment" / "ablation_simclr.yaml").read_text())
    swept = {key: str(value).split(",") for key, value in recipe["hydra"]["sweeper"]["params"].items()}
    assert swept == {key: [str(value) for value in values] for key, values in spec["sweep"].items()}


def test_a_sweep_becomes_rows() -> None:
    axes = {"method.loss.temperature": [0.1, 0.2], "projector": ["mlp2", "mlp3"]}
    made = combinations(axes)
    assert list(made) == ["temperature=0.1, projector=mlp2", "temperature=0.1, projector=mlp3",
                          "temperature=0.2, projector=mlp2", "temperature=0.2, projector=mlp3"]  # fmt: skip
    assert made["temperature=0.2, projector=mlp3"] == ["method.loss.temperature=0.2", "projector=mlp3"]


def test_the_time_of_a_run_follows_from_its_length(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(estimate, "step_seconds", lambda *_: 2.0)
    threads = torch.get_num_threads()

    def seconds(*words: str, images: int | None = None) -> float | None:
        return estimate.seconds(recipes.compose("train", [*TINY, f"paths.cache={cache}", *words])[0], images)

    assert seconds("trainer.max_epochs=3", images=3200) == pytest.approx(3 * 3200 / 32 * 2)
    assert seconds("trainer.max_epochs=3", "trainer.max_steps=10", images=3200) == pytest.approx(10 * 64 / 32 * 2)
    assert seconds("trainer.max_epochs=3") == pytest.approx(3 * 1294 / 32 * 2)  # digits are at hand
    bounded, freer = (seconds("trainer.max_epochs=1000", f"trainer.max_flops={f}", images=3200) for f in ("1e9", "2e9"))
    assert freer == pytest.approx(2 * bounded)
    assert seconds("data=svhn", "data.search=null") is None
    assert torch.get_num_threads() == threads  # a run that follows in this process has the bits of its own


def test_a_run_that_lacks_a_figure_is_to_be_measured() -> None:
    found = known({("SimCLR", 0): 0.5}, {0: 0.3})
    (run,) = found.runs
    assert lacking(run, ["knn"], found, table()) == []
    assert lacking(run, ["knn", "logistic"], found, table()) == ["logistic"]
    assert lacking(run, ["knn"], found, table("test")) == ["knn", "random weights, knn"]
    assert lacking(run, ["knn"], known({("SimCLR", 0): 0.5}, {}), table()) == ["random weights, knn"]
    assert lacking(run | {"whole_images": False}, ["knn"], found, table()) == ["knn"]  # recalibrated


@pytest.mark.parametrize("change", [{"asked": ASKED | {"k": 5}}, {"data": {"fingerprint": "y"}}, {"split": "test"}])
def test_a_cell_takes_no_figure_that_was_measured_otherwise(change: dict[str, Any]) -> None:
    found = known({("SimCLR", 0): 0.5}, {0: 0.3})
    found.runs[0]["results"].append(found.runs[0]["results"][0] | {"figures": {"top1": 0.9}} | change)
    found.baselines.append(found.baselines[0] | {"figures": {"top1": 0.9}} | change)
    random, simclr, _ = rows(table(), jobs_of(spec(), [0]), found)
    assert (random["knn %"], simclr["knn %"], simclr["knn over random"]) == ("30.0", "50.0", "+20.0")


def test_each_row_stands_over_random_weights_of_its_own_backbone() -> None:
    wide = {"train": ["method=rotation", "method.backbone.widths=[16,16]"]}
    two = spec(rows={"SimCLR": {"train": ["method=simclr"]}, "Rotation": wide})
    found = known({("SimCLR", 0): 0.5, ("Rotation", 0): 0.4}, {0: 0.3})
    jobs = jobs_of(two, [0])
    found.runs[1]["config"] = jobs[1].config
    backbone = jobs[1].config["method"]["backbone"]
    other = {"figures": {"top1": 0.35}, "trained_by": {"seed": 0, "backbone": backbone}}
    found.baselines.append(found.baselines[0] | other)
    lines = {line["method"]: line for line in rows(Table(two, {"knn": ASKED}, "val"), jobs, found)}
    assert lines["random weights"]["knn %"] == "30.0"
    assert lines["random weights of Rotation"]["knn %"] == "35.0"
    assert (lines["SimCLR"]["knn over random"], lines["Rotation"]["knn over random"]) == ("+20.0", "+5.0")


def test_a_cell_of_fewer_seeds_than_its_row_says_so() -> None:
    found = known({("SimCLR", seed): 0.5 for seed in range(3)}, {})
    found.runs[2]["results"] = []
    (line,) = [line for line in rows(table(), jobs_of(spec(), [0, 1, 2]), found) if line["method"] == "SimCLR"]
    assert (line["knn %"], line["seeds"]) == ("50.0 ± 0.0 (n = 2)", "3")


def test_a_damaged_run_and_runs_on_other_images_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("a", "{"), ("b", '{"status": "finished"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    kept = known({("SimCLR", 0): 0.5}, {})
    here, found = collect(tmp_path, kept, jobs_of(spec(), [0]))
    assert (here, found.runs) == ({}, kept.runs)
    assert capsys.readouterr().out.count("is left out, damaged") == 2
    (job, *_) = jobs_of(spec(), [0])
    other = RunFolder(tmp_path / "c")
    other.start(job.config, data={"name": "digits", "fingerprint": "y"})
    other.update(status="finished")
    here, found = collect(tmp_path, kept, [job])
    assert [run["data"]["fingerprint"] for run in found.runs] == ["y"]
    assert "1 runs that were kept saw other images" in capsys.readouterr().out


def test_runs_are_told_apart_by_what_changes_their_result() -> None:
    def config(*overrides: str) -> dict[str, Any]:
        return recipes.compose("train", [*SHARED, *overrides])[0]

    assert same_run(config(), config("paths.out=elsewhere", "probe=knn", "data.root=here"))
    downloaded = recipes.compose("train", ["data=cifar10", "paths.cache=there"])[0]
    assert same_run(recipes.compose("train", ["data=cifar10"])[0], downloaded)
    assert not same_run(config("data.root=here"), config("data.root=there"))
    for change in ("seed=1", "method.loss.temperature=0.3", "trainer.max_epochs=2", "trainer.precision=32-true"):
        assert not same_run(config(), config(change))


def test_a_table_that_cannot_be_is_refused_with_the_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean cifar10-cpu"):
        read_spec("cifar10-cp")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(spec(seeds="all", colour="red")))
    with pytest.raises(ConfigError, match="seeds") as caught:
        read_spec(str(file))
    assert any("colour" in problem for problem in caught.value.problems)
    file.write_text(yaml.safe_dump(spec(rows={"A": {"train": [], "published": {"knn": {"value": "much"}}}})))
    with pytest.raises(ConfigError, match=r"rows\.A\.published\.knn\.value='much'") as caught:
        read_spec(str(file))
    assert any("source: missing" in problem for problem in caught.value.problems)
    for text, said in (("rows: [", "no yaml"), ("- a", "holds no keys"), ("", "holds no keys")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_spec(str(file))
    rows = {"A": {"train": [], "also": ["linear_moco"]}, "B": {"train": []}}
    for row, printed, said in (
        ("A", "lineer_moco", "did you mean linear_moco"),
        ("B", "linear_moco", "there is: knn"),  # what is measured of another row alone
    ):
        wrong = {row: rows[row] | {"published": {printed: {"value": 1.0, "source": "x"}}}}
        file.write_text(yaml.safe_dump(spec(rows=rows | wrong)))
        with pytest.raises(ConfigError, match=rf"rows\.{row}\.published\.{printed}: no protocol of this row; {said}"):
            read_spec(str(file))
    file.write_text(yaml.safe_dump(spec(protocols=["knnn"])))
    with pytest.raises(ConfigError, match="knn"):
        read_spec(str(file))
    file.write_text(yaml.safe_dump(spec()))
    with pytest.raises(ConfigError, match=r"rows=SimCLRR: .* did you mean SimCLR"):
        read_spec(str(file), ["SimCLRR"])
    assert list(read_spec(str(file), ["Rotation"])[0]["rows"]) == ["Rotation"]
    for changed, said in (
        ({"rows": {2020: {"train": []}}}, "a name is text: '2020'"),
        ({"evaluation": ["split=test"]}, "evaluation: split=test: is said by the table itself"),
    ):
        file.write_text(yaml.safe_dump(spec(**changed)))
        with pytest.raises(ConfigError, match=said):
            read_spec(str(file))
    file.write_bytes(b"title: \xff")
    with pytest.raises(ConfigError, match="no yaml"):
        read_spec(str(file))
    with pytest.raises(ConfigError, match="words=seed=7: changes the result of SimCLR"):
        jobs_of(spec(), [0], words=["seed=7"])
    with pytest.raises(ConfigError, match="Again: the same run as SimCLR"):
        jobs_of(spec(rows=spec()["rows"] | {"Again": {"train": ["method=simclr"]}}), [0])
    with pytest.raises(ConfigError, match="SimCLR: methd"):
        jobs_of(spec(rows={"SimCLR": {"train": ["methd=simclr"]}}), [0])


@pytest.mark.parametrize("name", recipes.options()["table"])
def test_every_row_of_every_table_composes(name: str) -> None:
    spec, asked = read_spec(name)
    assert len(jobs_of(spec, [0])) == len(spec["rows"]) > 0
    assert set(spec["protocols"]) <= set(asked)
    header = (recipes.conf() / "table" / f"{name}.yaml").read_text().split("\ntitle:")[0]
    assert all(told in header for told in (f"make table-{name}", "Cost: ", "Measured: "))
    (helped,) = re.findall(rf"^table-{name}:.* ## (.*)", (ROOT / "Makefile").read_text(), re.M)
    assert re.search(r"\d.* (minutes|hours|FLOPs)", helped)  # its cost, in `make help`


def test_a_table_makes_its_runs_once(process: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(spec(seeds=[0], rows={"SimCLR": ["method=simclr"]})))
    planned = process("cli", "table", "name=mine.yaml", "--plan", "words=[trainer=ddp]")  # as `ssl-lab table`
    assert "1 of them to make" in planned.stdout, planned.stderr
    assert "evaluation comes on top\nestimated for a single device" in planned.stdout
    assert not (tmp_path / "outputs").exists()
    made = process("table", "name=mine.yaml", "save=kept")
    assert "SimCLR, seed 0: done" in made.stdout, made.stderr
    row = next(line for line in made.stdout.splitlines() if line.startswith("| SimCLR"))
    assert "+" in row or "-" in row
    assert (tmp_path / "outputs" / "tables" / "mine.md").read_text() in made.stdout
    for file in ("mine.csv", "mine.tex", "mine.html", "mine-runs.html"):  # what they hold: tests above
        assert (tmp_path / "outputs" / "tables" / file).stat().st_size > 0
    again = process("table", "name=mine.yaml", "--plan").stdout
    assert ("0 of them to make" in again, "estimated for a single device" in again) == (True, False)
    lines = read_ledger(tmp_path / "kept" / "mine.jsonl")
    assert [set(line) == {"baseline"} for line in lines] == [False, True]
    assert str(tmp_path) not in (tmp_path / "kept" / "mine.jsonl").read_text()
    val = (tmp_path / "kept" / "mine-val.md").read_text()
    assert row in val
    tested = process("table", "name=mine.yaml", "save=kept", "split=test")
    assert "SimCLR, seed 0: done" in tested.stdout, tested.stderr
    lines = read_ledger(tmp_path / "kept" / "mine.jsonl")
    assert [line["baseline"]["split"] for line in lines if "baseline" in line] == ["val", "test"]
    assert [line["split"] for line in lines[0]["results"]] == ["val", "test"]
    assert (tmp_path / "kept" / "mine-val.md").read_text() == val
    assert "test split" in (tmp_path / "kept" / "mine-test.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, "checkpoints/*.ckpt"), (signal.SIGKILL, "checkpoints/*.ckpt"), (signal.SIGKILL, "encoder.json")],
    ids=["asked to end", "killed", "killed once trained"],
)
def test_a_table_that_was_stopped_goes_on_without_repeating_a_run(
    number: signal.Signals, moment: str, place: Path
) -> None:
    rows = {"SimCLR": ["method=simclr"], "Rotation": ["method=rotation", "trainer.max_epochs=15", "health=none"]}
    (place / "mine.yaml").write_text(yaml.safe_dump(spec(seeds=[0], rows=rows), sort_keys=False))
    line = [sys.executable, "-m", "ssl_lab.table", "name=mine.yaml", "at_once=1"]
    making = subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: list(place.glob(f"outputs/train/rotation*/{moment}")))
    making.send_signal(number)
    said, _ = making.communicate(timeout=60)
    assert making.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    (second,) = place.glob("outputs/train/rotation*")
    wait_for(lambda: not RunFolder(second).being_written)  # of a table that was killed the system tells its jobs
    assert moment == "encoder.json" or find_run(second).record["status"] == "running"
    (first,) = place.glob("outputs/train/simclr*")
    finished = {file: file.stat().st_mtime_ns for file in first.rglob("*") if file.is_file()}
    assert first / "encoder.safetensors" in finished

    planned = subprocess.run([*line, "--plan"], cwd=place, capture_output=True, text=True, timeout=120)
    assert "2 runs, 1 of them to make" in planned.stdout, planned.stderr
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=240)
    assert "1 of 1 done" in done.stdout, done.stdout + done.stderr
    assert all(file.stat().st_mtime_ns == when for file, when in finished.items())
    (log,) = (place / "outputs/tables/mine").glob("000-Rotation*.log")
    assert re.search("resumes|nothing to train" if moment == "encoder.json" else "resumes", log.read_text())
    assert [name in done.stdout for name in ("| SimCLR |", "| Rotation |")] == [True, True]


@pytest.mark.parametrize("ledger", sorted((ROOT / "docs" / "results").glob("*.jsonl")), ids=lambda file: file.stem)
def test_the_tables_in_the_readme_are_those_of_their_ledgers(ledger: Path, tmp_path: Path) -> None:
    """And so are the files beside the ledger, with what is said below the table."""
    spec, asked = read_spec(ledger.stem)
    kept = read_known(ledger)
    jobs = jobs_of(spec, sorted({run["config"]["seed"] for run in kept.runs}))
    for split in ("val", "test"):
        table = Table(spec, asked, split)
        if any(table.asks(line) for run in kept.runs for line in run["results"]):
            lines = rows(table, jobs, kept)
            assert as_markdown(lines) in (ROOT / "README.md").read_text()
            write(tmp_path / split, lines, f"{text_of(table, lines, jobs, kept)}\n")
            for made in tmp_path.glob(f"{split}.*"):
                assert made.read_text() == ledger.with_name(f"{ledger.stem}-{split}{made.suffix}").read_text()
    assert {file.suffix for file in tmp_path.iterdir()} == {".csv", ".md", ".tex"}
