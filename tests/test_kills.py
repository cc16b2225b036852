"""Killed at any moment and started again with the same command, a run ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, Command, wait_for

from ssl_lab import recipes
from ssl_lab.distributed import Place
from ssl_lab.records import HashedCheckpointIO, find_run, read_metrics
from ssl_lab.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MECHANISMS = {
    "two views": ["method=barlow_twins"],
    "queue and teacher": ["method=moco_v2", "method.queue_size=128"],
    "teacher and predictor": ["method=moco_v3"],
    "pretext": ["method=jigsaw"],
    "pixels": ["method=inpainting"],
}


def killed(arguments: list[str], out: Path, kills: int, longest: float) -> None:
    """Start a run again and again, and kill each at a random moment, from its first import to its last write."""
    moments = random.Random(0)
    line = [sys.executable, "-m", "ssl_lab.train", *arguments, f"paths.out={out}"]
    for _ in range(kills):
        process = subprocess.Popen(line, cwd=out.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()


def same_end(one: Path, other: Path) -> None:
    """The same weights, the same tensors in the last checkpoint, the same log."""
    whole, pieces = find_run(one), find_run(other)
    assert whole.record["encoder_sha256"] == pieces.record["encoder_sha256"]
    assert read_metrics(whole.metrics_file) == read_metrics(pieces.metrics_file)
    a, b = (HashedCheckpointIO().load_checkpoint(max(run.checkpoints.glob("*.ckpt"))) for run in (whole, pieces))
    assert all(torch.equal(a["state_dict"][name], tensor) for name, tensor in b["state_dict"].items())
    assert a["global_step"] == b["global_step"]
    assert not [file for file in pieces.path.rglob(".*") if file.is_file()], "something half-written was left"


@pytest.mark.parametrize(("mechanism", "kills"), [("plain", 20), *((name, 5) for name in MECHANISMS)])
def test_killed_at_random_moments(mechanism: str, kills: int, process: Command, tmp_path: Path) -> None:
    arguments = [*TINY, *MECHANISMS.get(mechanism, []), "trainer.max_epochs=3", "trainer.checkpoint_minutes=0.002"]
    began = time.monotonic()
    assert process("train", *arguments, "paths.out=whole").returncode == 0
    killed(arguments, tmp_path / "killed", kills, longest=1.1 * (time.monotonic() - began))
    last = process("train", *arguments, "paths.out=killed")
    assert last.returncode == 0, last.stderr
    same_end(tmp_path / "whole", tmp_path / "killed")


def test_on_one_process_then_two_then_one(process: Command, tmp_path: Path) -> None:
    """Elastic: in float64 the number of processes changes rounding alone."""
    arguments = [*TINY, "method=moco_v2", "method.queue_size=128", "trainer.max_epochs=4", "trainer.precision=64-true"]
    arguments += ["trainer.checkpoint_minutes=0", "probe=none", "health=none"]
    assert process("train", *arguments, "paths.out=whole").returncode == 0
    for words, batches in ([], 25), (["trainer=ddp", "trainer.devices=2"], 50):
        line = [sys.executable, "-m", "ssl_lab.train", *arguments, *words, "paths.out=killed"]
        running = subprocess.Popen(line, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and running.poll() is None:
            if max((int(file.stem) for file in (tmp_path / "killed").rglob("*.ckpt")), default=0) >= batches:
                break
            time.sleep(0.002)
        assert running.poll() is None, "the run ended before it could be killed"
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    last = process("train", *arguments, "paths.out=killed")
    assert last.returncode == 0, last.stderr
    assert "resumes" in last.stdout
    a, b = (
        HashedCheckpointIO().load_checkpoint(max(find_run(tmp_path / out).checkpoints.glob("*.ckpt")))["state_dict"]
        for out in ("whole", "killed")
    )
    for name, tensor in a.items():
        assert (tensor - b[name]).double().norm() <= 1e-10 * max(1.0, float(tensor.double().norm())), name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_all_processes_save_by_the_same_step(
    number: signal.Signals, process: Command, place: Path
) -> None:
    arguments = [*TINY, "trainer.max_epochs=20", "probe=none", "health=none", "paths.out=runs"]
    both = [*arguments, "trainer=ddp", "trainer.devices=2"]
    line = [sys.executable, "-m", "ssl_lab.train", *both]
    running = subprocess.Popen(line, cwd=place, start_new_session=True, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(place.rglob("*.ckpt")))
    os.killpg(running.pid, number)  # as a terminal does: to the parent and to each process, which hear it twice
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert f"{number.name}: saved by step" in said
    assert find_run(place / "runs").record["status"] == "running"
    last = process("train", *arguments)
    assert last.returncode == 0, last.stderr
    assert "resumes" in last.stdout


def test_one_process_of_several_dying_ends_the_others_with_a_message(place: Path) -> None:
    arguments = [*TINY, "trainer.max_epochs=500", "probe=none", "health=none", "trainer=ddp", "trainer.devices=2"]
    line = [sys.executable, "-m", "ssl_lab.train", *arguments, "paths.out=runs"]
    running = subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(place.rglob("*.ckpt")))
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    ranks = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "of 2" in said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{child}").exists() for child in ranks)


def test_what_the_first_process_alone_finds_ends_all(process: Command) -> None:
    arguments = [*TINY, "trainer.max_epochs=3", "probe=none", "trainer=ddp", "trainer.devices=2"]
    ended = process("train", *arguments, "callbacks.health.floor=99", "callbacks.health.patience=1", timeout=100)
    assert ended.returncode == 2
    assert "the features have collapsed" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_sweep_of_six_jobs_of_two_processes_survives_one(process: Command, tmp_path: Path) -> None:
    arguments = [*TINY, "trainer.max_epochs=1", "probe=none", "paths.out=runs"]
    third = Run(*recipes.compose("train", [*arguments, "seed=2"]), Place()).folder
    third.path.mkdir(parents=True)
    third.previews.write_text("in the way of what the first process alone writes")
    words = ["--multirun", *arguments, "seed=0,1,2,3,4,5", "trainer=ddp", "trainer.devices=2", "hydra.launcher.slots=1"]
    done = process("train", *words, timeout=600)
    assert done.returncode == 1
    assert "5 of 6 done" in done.stdout
    assert "seed=2: error: process 0 of 2" in done.stdout
    assert "no ranking: no run has val/knn_top1, which probe=none leaves out" in done.stdout
    assert len(list((tmp_path / "runs" / "train").glob("*/encoder.safetensors"))) == 5


def test_hydras_own_launcher_runs_jobs_of_several_processes_too(process: Command, tmp_path: Path) -> None:
    arguments = [*TINY, "trainer.max_steps=3", "probe=none", "health=none", "paths.out=runs", "seed=0,1"]
    done = process("train", "--multirun", *arguments, "trainer=ddp", "trainer.devices=2", "hydra/launcher=basic")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs" / "train").glob("*/encoder.safetensors"))) == 2
