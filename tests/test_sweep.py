"""Sweeps: every job in a process of its own, whatever becomes of the others."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, Command, wait_for

from hydra_plugins.ssl_lab_process.launcher import sweep_name
from ssl_lab import recipes
from ssl_lab.dashboard import HEALTH
from ssl_lab.records import RunFolder, find_run
from ssl_lab.slots import Commands, Outcome, Slots, environment, report, slots_for

HELP, WRONG = ["train", "--help"], ["train", "sed=1"]


def test_outcomes_stand_in_the_order_of_the_jobs_and_a_failed_line_ends_its_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = Slots(2, tmp_path)
    outcomes = slots.run(
        [Commands("good", [HELP]), Commands("bad/one", [WRONG, HELP]), Commands("good too", [HELP, HELP])]
    )
    assert [outcome.code for outcome in outcomes] == [0, 2, 0]
    assert "usage" not in outcomes[1].log.read_text()
    assert outcomes[1].last_line.startswith("error: sed: no such key")
    assert report(slots, outcomes) == 1
    assert "failed (2)  bad/one: error: sed" in capsys.readouterr().out


def test_what_failed_is_told_though_the_rest_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("error: no room\n")
    slots = Slots(1, tmp_path)
    slots.asked = signal.SIGINT
    ended = [Outcome(str(code), code, tmp_path / "log", 1.0) for code in (0, 2, 128 + signal.SIGINT, None)]
    assert report(slots, ended) == 128 + signal.SIGINT
    said = capsys.readouterr().out
    assert "failed (2)  2: error: no room" in said
    assert "1 were running and saved, 1 had not started" in said


def test_jobs_may_share_a_name(tmp_path: Path) -> None:
    outcomes = Slots(2, tmp_path).run([Commands("one", [HELP]), Commands("one", [HELP])])
    assert [outcome.code for outcome in outcomes] == [0, 0]


def test_a_job_whose_next_line_cannot_be_told_fails_alone(tmp_path: Path) -> None:
    def broken() -> Iterator[list[str]]:
        yield HELP
        raise KeyError("supervised")

    slots = Slots(1, tmp_path)
    outcomes = slots.run([Commands("broken", broken()), Commands("good", [HELP])])
    assert [outcome.code for outcome in outcomes] == [1, 0]
    assert outcomes[0].last_line == "KeyError: 'supervised'"
    assert not slots.shown


def test_on_a_terminal_each_running_job_has_a_line(tmp_path: Path) -> None:
    slots = Slots(1, tmp_path)
    assert str(slots.board()) == ""
    (tmp_path / "a.log").write_text("run outputs\nepoch 1/2 · step 3\n\n")
    now = time.monotonic()
    slots.shown = {0: ("a", now - 75, tmp_path / "a.log"), 1: ("b", now, tmp_path / "b.log")}
    first, second = str(slots.board()).splitlines()
    assert first.split() == ["a", "1:15", "epoch", "1/2", "·", "step", "3"]
    assert second.split() == ["b", "0:00"]


def test_a_terminal_is_shown_the_running_jobs() -> None:
    script = """
import sys, time
from pathlib import Path
from ssl_lab.slots import Slots

slots = Slots(1, Path("."))
with slots._live():
    slots.shown = {0: ("job a", time.monotonic() - 75, Path("none"))}
    time.sleep(2.5)
"""
    parent, child = pty.openpty()
    running = subprocess.Popen([sys.executable, "-c", script], stdout=child, stderr=child, cwd=ROOT)
    os.close(child)
    said = b""
    while select.select([parent], [], [], 60)[0]:
        try:
            said += os.read(parent, 4096)
        except OSError:  # it has ended
            break
    assert running.wait(60) == 0
    assert re.search(rb"job a.*1:1[67]", said), said


def test_no_slots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one runs at a time"):
        Slots(0, tmp_path)


def test_fail_fast_leaves_the_rest_unstarted(tmp_path: Path) -> None:
    slots = Slots(1, tmp_path, fail_fast=True)
    outcomes = slots.run([Commands("bad", [WRONG]), Commands("good", [HELP])])
    assert [outcome.code for outcome in outcomes] == [2, None]
    assert report(slots, outcomes) == 1


def test_a_line_is_asked_for_when_those_before_have_succeeded(tmp_path: Path) -> None:
    asked = []

    def lines(first: list[str]) -> Iterator[list[str]]:
        yield first
        asked.append(first)
        yield HELP

    Slots(1, tmp_path).run([Commands("good", lines(HELP)), Commands("bad", lines(WRONG))])
    assert asked == [HELP]


def test_a_slot_has_its_share_and_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    found = [environment(slot, 2) for slot in range(2)]
    assert [kept["CUDA_VISIBLE_DEVICES"] for kept in found] == ["4,5", "6,7"]
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"} & set(found[0])
    assert int(found[0]["OMP_NUM_THREADS"]) >= 1
    assert [slots_for(devices) for devices in (1, 2, 8, "auto")] == [4, 2, 1, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # one device for two slots: they share it
    assert environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert [environment(slot, 4)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["4", "5", "4", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # none, whatever there is
    assert environment(0, 2)["CUDA_VISIBLE_DEVICES"] == ""
    assert slots_for(1) == slots_for("auto") == min(2, os.cpu_count() or 1)


def test_a_failed_job_does_not_stop_the_others(process: Command, tmp_path: Path) -> None:
    arguments = [*TINY, "trainer.max_epochs=1", "paths.out=runs"]
    done = process("train", "--multirun", *arguments, "data.batch_size=64,5000,32,64")  # twice the same is one
    assert done.returncode == 1, done.stderr
    assert "2 of 3 done" in done.stdout
    assert "failed (2)  data.batch_size=5000: error: data.batch_size=5000" in done.stdout
    assert len(list((tmp_path / "runs").rglob("encoder.safetensors"))) == 2
    best, other = re.findall(r"^  simclr-convnet-digits \(batch_size (\d+)\) +([\d.]+)$", done.stdout, re.MULTILINE)
    assert {best[0], other[0]} == {"64", "32"}
    assert float(best[1]) >= float(other[1])
    (page,) = (tmp_path / "runs" / "sweeps").rglob("report.html")
    assert "data.batch_size" in page.read_text()
    assert "<th>while training, knn top-1 %, val</th>" in page.read_text()
    assert "<td>data.batch_size=5000</td><td>error: data.batch_size=5000" in page.read_text()
    again = process("train", "--multirun", *arguments, "data.batch_size=64,5000,32,64", "hydra.launcher.slots=1")
    assert again.returncode == 1, again.stderr
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()  # where the same command goes on
    said = [log.read_text() for log in sorted(folder.rglob("*.log"))]
    assert ["is finished" in text for text in said] == [True, False, True]


def test_a_sweep_is_named_by_its_command() -> None:
    words = ["method=simclr,moco_v2", "seed=0,1"]
    assert sweep_name(words) == sweep_name(list(words)) != sweep_name([*words, "trainer.max_epochs=2"])
    named = [[], ["experiment=demo"], ["experiment=demo,worth"]]
    assert [sweep_name(more).rpartition("-")[0] for more in named] == ["train-sweep", "demo-sweep", "train-sweep"]


def test_wandb_is_offline_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert recipes.compose("train", ["data=digits"])[0]["loggers"]["wandb"]["mode"] == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert recipes.compose("train", ["data=digits"])[0]["loggers"]["wandb"]["mode"] == "online"


def test_the_offline_wandb_runs_of_a_sweep_hold_what_is_promised(process: Command, tmp_path: Path) -> None:
    arguments = [word for word in TINY if word != "logger=none"]
    done = process(
        "train", "--multirun", *arguments, "trainer.max_epochs=1", "paths.out=runs", "method=simclr,inpainting"
    )
    assert done.returncode == 0, done.stderr
    logs = sorted((tmp_path / "runs").glob("train/*/wandb/offline-run-*/*.wandb"))
    methods = ["inpainting", "simclr"]
    assert [log.stem.split("-")[1] for log in logs] == methods
    groups: set[str] = set()
    for log, method in zip(logs, methods, strict=True):
        kept = read_wandb(log)
        (run,) = kept["run"]
        groups.add(run["run_group"])
        assert run["job_type"] == "train"
        assert run["tags"] == [method, "convnet", "digits"]
        assert run["display_name"] == run["run_id"] == log.parents[2].name
        assert kept["config"][0]["update"]["method"]["backbone"]["widths"] == [8, 8]
        axes = {metric.get("glob_name"): metric.get("step_metric") for metric in kept["metric"]}
        assert axes["*"] == "trainer/global_step"
        figures = {name for line in kept["history"] for name in line["item"]}
        own = {"train/pretext_error", "train/pretext_chance"} if method == "inpainting" else set()
        assert {"train/loss", "train/lr", "val/knn_top1", "trainer/global_step"} | own <= figures
        assert {f"health/{name}" for name in HEALTH} <= figures
        ended = {name for line in kept["summary"] for name in line["update"] if name.startswith("final/")}
        assert {"knn_top1", "knn_k", "flops", "images_seen", "views_seen", "seconds"} == {n[6:] for n in ended}
        pictures = {file.name.split("_")[0] for file in log.parent.glob("files/media/images/*.png")}
        assert pictures == {"views", "neighbours"} | ({"previews"} if method == "inpainting" else set())
        (artifact,) = kept["artifact"]
        contents = {entry["path"] for entry in artifact["manifest"]["contents"]}
        assert contents == {"run.json", "config.yaml", "metrics.jsonl"}
        assert kept["exit"][0].get("exit_code", 0) == 0
    assert groups == {folder.name for folder in (tmp_path / "runs" / "sweeps").iterdir()}
    assert len(groups) == 1


def read_wandb(log: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of an offline run, by their type, as W&B's own reader tells them."""
    line = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(log)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    kept: dict[str, list[dict[str, Any]]] = {}
    for text in done.stdout.splitlines():
        record = json.loads(text)
        kept.setdefault(record["type"], []).append(record[record["type"]])
    return kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_that_is_asked_to_end_lets_every_run_save(number: signal.Signals, place: Path) -> None:
    arguments = [*TINY, "trainer.max_epochs=500", "probe=none", "health=none", "paths.out=runs", "seed=0,1,2"]
    line = [sys.executable, "-m", "ssl_lab.train", "--multirun", *arguments]
    sweep = subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: len({file.parent for file in place.rglob("*.ckpt")}) == 2)
    sweep.send_signal(number)
    said, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + number, said
    assert "2 were running and saved, 1 had not started" in said
    for run in (place / "runs" / "train").iterdir():
        assert find_run(run).record["status"] == "running"
        assert list(find_run(run).checkpoints.glob("*.ckpt"))
    logs = [log.read_text() for log in place.rglob("sweeps/*/logs/*.log")]
    assert sum("saved by step" in log for log in logs) == 2


def test_the_jobs_of_a_killed_sweep_save_and_end_with_it(place: Path) -> None:
    """kill -9 gives the sweep no time to pass anything on: the system tells its jobs."""
    arguments = [*TINY, "trainer.max_epochs=500", "probe=none", "health=none", "paths.out=runs", "seed=0,1"]
    line = [sys.executable, "-m", "ssl_lab.train", "--multirun", *arguments, "hydra.launcher.slots=1"]
    sweep = subprocess.Popen(line, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(place.glob("runs/train/*/checkpoints/*.ckpt")))
    sweep.kill()
    sweep.wait()
    (run,) = place.glob("runs/train/*")
    wait_for(lambda: not RunFolder(run).being_written)
    (log,) = place.rglob("sweeps/*/logs/*.log")
    assert "SIGTERM: saved by step" in log.read_text()


def test_a_sweep_runs_the_command_that_was_given(process: Command, tmp_path: Path) -> None:
    done = process("worth", "--multirun", "data.root=nowhere", "worth.draws=1,2")
    assert done.returncode == 1
    assert "what each has said: " in done.stdout
    logs = [log.read_text() for log in tmp_path.glob("outputs/sweeps/*/logs/*.log")]
    assert [("pretraining: started" in text, "no such key" in text) for text in logs] == [(True, False)] * 2


def test_the_jobs_of_a_sweep_run_under_submitit(process: Command, tmp_path: Path) -> None:
    arguments = [*TINY, "trainer.max_steps=2", "probe=none", "health=none", "paths.out=runs", "seed=0,1"]
    done = process("train", "--multirun", *arguments, "hydra/launcher=submitit_local")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs" / "train").rglob("encoder.safetensors"))) == 2
    composed = process("train", *arguments[:-1], "hydra/launcher=slurm", "--cfg", "all")
    assert "submitit_launcher.SlurmLauncher" in composed.stdout, composed.stderr
    assert "timeout_min: 1440" in composed.stdout
    refused = process("train", "--multirun", *arguments, "hydra/launcher=slrm")
    assert (refused.returncode, "submitit_slurm" in refused.stderr) == (2, True)
