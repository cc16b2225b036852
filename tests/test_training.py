"""Whole runs, as a user gives them: train, kill, resume, skip, evaluate."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command
from test_data_masks import make as make_masks

from ssl_lab import recipes, resume
from ssl_lab.config import ConfigError
from ssl_lab.data import ImageSet, datamodule
from ssl_lab.measure import measure
from ssl_lab.nn import ConvNet, ResNet
from ssl_lab.pretrain import pretrain
from ssl_lab.records import HashedCheckpointIO, find_run, read_ledger, read_metrics, read_results

METHODS = recipes.options()["method"]


def train(out: Path, *overrides: str) -> dict[str, Any]:
    """A run in this process; its record."""
    pretrain(*recipes.compose("train", [*TINY, "trainer.max_epochs=1", f"paths.out={out}", *overrides]))
    return find_run(out).record


def test_a_limit_of_compute_ends_every_method_at_the_same_cost(tmp_path: Path) -> None:
    for method in ("simclr", "rotation"):
        record = train(tmp_path / method, f"method={method}", "trainer.max_flops=2e10", "probe=none")
        assert 0.8 * 2e10 < record["flops"] <= 2e10
        assert record["images_seen"] % 64 == 0
    with pytest.raises(ValueError, match="max_flops"):
        train(tmp_path / "none", "trainer.max_flops=1e6")


def test_weights_of_others_are_measured_under_the_same_protocols(command: Command, tmp_path: Path) -> None:
    tensors = {f"module.{name}": tensor for name, tensor in ResNet(width=0.125).state_dict().items()}
    torch.save({"state_dict": tensors}, tmp_path / "x.pth")
    given = ("weights=x.pth", "backbone=resnet18", "data=digits", "protocol=[knn]", "protocols.knn.k=50")
    shown = command("evaluate", *given, "method.backbone.width=0.125", "baselines=[random_weights]")
    assert shown.returncode == 0, shown.stderr
    assert "120 of 120 tensors matched below 'module.'" in shown.stdout
    assert {"random weights", "x.pth"} <= {row.split("│")[1].strip() for row in shown.stdout.splitlines() if "│" in row}
    wider = command("evaluate", *given)
    assert (wider.returncode, "allow_partial=true" in wider.stderr) == (2, True)
    for words in ([], ["weights=x.pth"], ["weights=x.pth", "data=digits"]):
        with pytest.raises(ValueError, match="run: missing"):
            measure(recipes.compose("evaluate", words)[0])


def test_weights_of_others_are_told_apart_by_what_they_expect(command: Command, tmp_path: Path) -> None:
    tensors = ConvNet([8, 8]).state_dict()
    torch.save(dict(list(tensors.items())[1:]), tmp_path / "x.pth")  # a tensor short
    given = ["weights=x.pth", "backbone=convnet", "method.backbone.widths=[8,8]", "allow_partial=true"]
    given += ["data=digits", "protocol=[knn]", "protocols.knn.k=50", "paths.out=runs"]

    def lines() -> list[dict[str, Any]]:
        return [line for file in (tmp_path / "runs" / "weights").rglob("results.jsonl") for line in read_results(file)]

    first = command("evaluate", *given)
    assert first.returncode == 0, first.stderr
    assert f"random   {next(iter(tensors))}\n" in first.stdout
    assert re.search(r"units    mean \[0\.\d+", first.stdout)
    assert "stands   x.pth, knn" in command("evaluate", *given).stdout  # what is random is the same each time
    assert len(lines()) == 1
    command("evaluate", *given, "force=true")
    assert [line["epoch_rule"] for line in lines()] == ["as given"] * 2
    other = command("evaluate", *given, "units=imagenet")
    assert "units    mean [0.485, 0.456, 0.406]" in other.stdout
    assert sorted(line["trained_by"]["preprocessing"]["mean"][0] == 0.485 for line in lines()) == [False, False, True]
    command("evaluate", *given, "recalibrate=true")
    (again,) = (line for line in lines() if line["name"] == "x.pth, recalibrated")
    assert again["trained_by"]["recalibrated"]["num_images"] == 5000
    nothing = command("evaluate", "backbone=timm", "method.backbone.name=resnet18", "data=digits", "paths.out=runs")
    assert (nothing.returncode, "weights: missing" in nothing.stderr) == (2, True)


def test_one_command_measures_on_several_sets(command: Command, tmp_path: Path) -> None:
    """Classes on one, pixels on another: what a set cannot answer is said, what was measured before stays."""
    torch.save(ConvNet([8, 8]).state_dict(), tmp_path / "x.pth")
    make_masks(tmp_path / "streets", "train", 12)
    make_masks(tmp_path / "streets", "test", 4)
    weights = ("weights=x.pth", "backbone=convnet", "method.backbone.widths=[8,8]", "paths.out=runs")
    knn = ("protocol=knn", "protocols.knn.k=10")
    photos = ("sets=[digits,photos]", "sets.photos.store_size=16")
    done = command("evaluate", *weights, *knn, *photos, "save=tables/two.md")
    assert done.returncode == 0, done.stderr
    saved = (tmp_path / "tables/two.md").read_text()
    assert [line for line in saved.splitlines() if line.startswith("| encoder")] == ["| encoder | x.pth |"] * 2
    lines = read_ledger(tmp_path / "tables/two.jsonl")
    assert [f"| knn top-1 % | {100 * line['figures']['top1']:.1f} (" in saved for line in lines] == [True, True]
    assert all(line["title"] in saved for line in lines)
    assert "digits, 32 px, 10 classes" in done.stdout
    assert "photos, 16 px, 8 classes" in done.stdout
    masks = ("sets.masks.root=streets", "sets.masks.source.classes=[sky,ground]", "sets.masks.store_size=16")
    quick = ("protocol=segment", "protocols.segment.epochs=1", "protocols.segment.rates=[0.01]")
    done = command("evaluate", *weights, *quick, "sets=[masks]", *masks)
    assert done.returncode == 0, done.stderr
    assert "segment miou %" in done.stdout
    done = command("evaluate", *weights, *knn, "sets=[masks]", *masks)
    assert (done.returncode, "needs labels" in done.stderr) == (2, True)
    done = command("evaluate", *weights, "data=digits", "sets=[photos]")
    assert (done.returncode, "given both" in done.stderr) == (2, True)


def test_both_figures_are_shown_where_batch_norm_saw_parts(command: Command, tmp_path: Path) -> None:
    trained = command("train", *TINY, "method=context", "trainer.max_epochs=1", "probe=none", "paths.out=runs")
    assert trained.returncode == 0, trained.stderr
    measured = ("run=runs", "protocol=[knn]", "protocols.knn.k=50", "paths.out=runs")
    shown = command("evaluate", *measured)
    assert "ContextPrediction, recalibrated" in shown.stdout, shown.stderr
    results = read_results(find_run(tmp_path / "runs").results_file)
    assert [line["name"] for line in results] == ["ContextPrediction", "ContextPrediction, recalibrated"]
    assert "recalibrated" not in command("evaluate", *measured, "recalibrate=false").stdout


def test_from_one_command_to_a_figure(command: Command, tmp_path: Path) -> None:
    """Train; the same command again skips; evaluate; evaluating again repeats nothing; the results say how."""
    arguments = [*TINY, "trainer.max_epochs=2", "paths.out=runs"]
    first = command("train", *arguments)
    assert first.returncode == 0, first.stderr
    run = find_run(tmp_path / "runs")
    assert f"run={run.path.relative_to(tmp_path)}" in first.stdout.splitlines()[-1]
    again = command("train", *arguments)
    assert again.returncode == 0, again.stderr
    assert "is finished" in again.stdout
    record = run.record
    assert record["status"] == "finished"
    assert record["images_seen"] == 2 * 20 * 64
    assert record["views_seen"] == 2 * record["images_seen"]
    assert record["flops"] > 0
    assert {"command", "commit", "dirty", "versions", "hardware", "seed", "data"} <= set(record)
    assert [line["epoch"] for line in read_metrics(run.metrics_file) if "val/knn_top1" in line] == [0, 1]

    measured = [
        "run=runs",
        "protocol=[knn,logistic,stages]",
        "protocols.knn.k=50",
        "baselines=[raw_pixels,random_weights]",
    ]
    shown = command("evaluate", *measured, "paths.out=runs")
    assert shown.returncode == 0, shown.stderr
    for row in ("raw pixels", "random weights", "SimCLR", "knn: k 50"):
        assert row in shown.stdout
    results = read_results(run.results_file)
    assert [line["protocol"] for line in results] == ["knn", "logistic", "stages"]
    pixels = next(row for row in shown.stdout.splitlines() if "raw pixels" in row)
    assert pixels.rstrip("│ ").endswith("-")  # which have no stages, and go without
    for line in results:
        assert line["split"] == "test"
        assert line["encoder"] == record["encoder_sha256"]
        assert line["data"]["fingerprint"] == record["data"]["fingerprint"]
        assert 0 < line["figures"]["top1"] <= 1
    repeated = command("evaluate", *measured, "paths.out=runs").stdout
    assert repeated.endswith(shown.stdout)
    stands = re.findall(r"^stands   (.+?), (\w+): measured on", repeated, re.MULTILINE)
    assert stands == [
        (name, p) for name in ("raw pixels", "random weights", "SimCLR") for p in ("knn", "logistic", "stages")
    ]
    assert read_results(run.results_file) == results


def test_the_test_split_is_for_finished_runs(command: Command, tmp_path: Path) -> None:
    record = train(tmp_path / "runs")
    run = find_run(tmp_path / "runs")
    run.update(status="running")
    refused = command("evaluate", "run=runs")
    assert refused.returncode == 2
    assert "has not finished" in refused.stderr
    run.update(status="finished")
    other = ["evaluate", "run=runs", f"data={run.record['choices']['data']}", "data.split_seed=7", "protocol=knn"]
    refused = command(*other)  # some of what is then the test split was learned from
    assert (refused.returncode, "split_seed 7, then 0" in refused.stderr) == (2, True)
    run.update(status="running")
    allowed = command("evaluate", "run=runs", "split=val", "protocol=knn", "protocols.knn.k=20")
    assert allowed.returncode == 0, allowed.stderr
    assert record["status"] == "finished"


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "ssl_lab.train", *arguments]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_at(batches: int, arguments: list[str], out: Path) -> None:
    """Start a run and kill it as soon as the checkpoint after so many batches stands."""
    process = start(arguments, out.parent)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        done = [int(file.stem) for file in out.rglob("checkpoints/*.ckpt")]
        if max(done, default=0) >= batches:
            break
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_in_mid_epoch_and_resumed_a_run_is_bit_identical(command: Command, tmp_path: Path) -> None:
    arguments = [*TINY, "trainer.max_epochs=4", "trainer.log_every_n_steps=1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command("train", *arguments, f"paths.out={whole}").returncode == 0
    often = [*arguments, f"paths.out={killed}", "trainer.checkpoint_minutes=0"]
    kill_at(27, often, killed)
    assert find_run(killed).record["status"] == "running"
    resumed = command("train", *often)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumes" in resumed.stdout
    one, other = find_run(whole), find_run(killed)
    assert one.record["encoder_sha256"] == other.record["encoder_sha256"]
    assert one.record["images_seen"] == other.record["images_seen"]
    assert read_metrics(one.metrics_file) == read_metrics(other.metrics_file)
    last = [HashedCheckpointIO().load_checkpoint(max(run.checkpoints.glob("*.ckpt"))) for run in (one, other)]
    flat = [{**saved["state_dict"], **_tensors(saved["optimizer_states"])} for saved in last]
    assert flat[0].keys() == flat[1].keys()
    assert all(torch.equal(flat[0][name], flat[1][name]) for name in flat[0])


def _tensors(states: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {
        f"{i}.{key}": value for i, state in states[0]["state"].items() for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_a_run_saves_first_and_goes_on_to_the_same_bits(
    number: signal.Signals, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    arguments = [*TINY, "trainer.max_epochs=6", "trainer.log_every_n_steps=1", "probe=none", f"paths.out={out}"]
    line = [sys.executable, "-m", "ssl_lab.train", *arguments]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(out.rglob("checkpoints/*.ckpt")):
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)  # so that it does not end while the second tries
    second = command("train", *arguments)
    assert (second.returncode, "is being written by another process" in second.stderr) == (2, True)
    process.send_signal(signal.SIGCONT)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"{number.name}: saved by step" in printed
    run = find_run(out)
    steps = [entry["step"] for entry in read_metrics(run.metrics_file)]
    saved = HashedCheckpointIO().load_checkpoint(max(run.checkpoints.glob("*.ckpt")))
    assert saved["global_step"] == steps[-1]  # nothing that was done is lost
    assert "resumes" in command("train", *arguments).stdout
    assert train(tmp_path / "whole", *arguments[len(TINY) :][:-1])["encoder_sha256"] == run.record["encoder_sha256"]


def test_a_run_resumes_from_its_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning.pytorch import Callback

    from ssl_lab import pretrain as module

    whole = train(tmp_path / "whole", "trainer.max_epochs=2")
    make_trainer = module.make_trainer

    class Stop(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            raise KeyError("stopped here")

    def stopping(*given: Any) -> Any:
        trainer = make_trainer(*given)
        trainer.callbacks.append(Stop())  # type: ignore[attr-defined]
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_trainer", stopping)
        with pytest.raises(KeyError):
            train(tmp_path / "stopped", "trainer.max_epochs=2")
    run = find_run(tmp_path / "stopped")
    moved = run.path.rename(tmp_path / run.path.name)  # wherever it lies now
    with pytest.raises(ConfigError) as refused:
        resume.main([str(moved), "method.optim.lr=1", "seed=3", "trainer.device=2", "trainer.max_epochs=3"])
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "method.optim.lr=1", "seed=3", "trainer.device=2", "trainer.max_epochs=3",
    ]  # fmt: skip
    assert "did you mean devices" in refused.value.problems[2]
    with pytest.raises(ConfigError, match="no run there"):
        resume.main([str(tmp_path)])
    capsys.readouterr()
    resume.main([str(moved), "trainer.checkpoint_minutes=9"])
    assert "resumes" in capsys.readouterr().out
    assert find_run(moved).record["encoder_sha256"] == whole["encoder_sha256"]


def test_a_run_that_ended_before_its_first_checkpoint_begins_its_log_anew(tmp_path: Path) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HashedCheckpointIO, "save_checkpoint", full)
        with pytest.raises(OSError, match="full"):
            train(tmp_path)
    logged = read_metrics(find_run(tmp_path).metrics_file)
    assert logged
    train(tmp_path)
    assert read_metrics(find_run(tmp_path).metrics_file) == logged


def test_the_probe_looks_at_the_end_that_a_limit_of_steps_makes(tmp_path: Path) -> None:
    words = ["callbacks.probe.every_n_epochs=5", "trainer.max_epochs=9", "trainer.max_steps=25", "health=none"]
    record = train(tmp_path, *words)
    looked = [line["step"] for line in read_metrics(find_run(tmp_path).metrics_file) if "val/knn_top1" in line]
    assert (looked, "val/knn_top1" in record["last"]) == ([25], True)


def test_paths_may_change_when_a_run_goes_on() -> None:
    config, _ = recipes.compose("train", [*TINY])
    changed = resume.changed(config, ["paths.data=there", "paths.cache=~/kept"])
    assert (changed["data"]["search"], changed["data"]["cache"]) == ("there", "~/kept")


def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = [*TINY, "trainer.max_epochs=3", "trainer.checkpoint_minutes=0", f"paths.out={out}"]
    kill_at(30, arguments, out)
    newest = max(out.rglob("*.ckpt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resumed = command("train", *arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(rf"damaged .*{newest.name}", resumed.stdout)


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_labels_change_nothing(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LAB_CACHE", str(tmp_path / "cache"))
    photos = ["data=photos", "trainer.max_steps=10"]
    straight = train(tmp_path / "straight", f"method={method}", *photos)
    carve = datamodule.carve

    def shuffled(*arguments: Any) -> Any:
        splits = carve(*arguments)
        return splits._replace(**{k: _shuffle(getattr(splits, k)) for k in ("train", "val", "test")})

    monkeypatch.setattr(datamodule, "carve", shuffled)
    blind = train(tmp_path / "shuffled", f"method={method}", *photos)
    assert blind["last"]["val/knn_top1"] != straight["last"]["val/knn_top1"]  # the labels did change
    assert blind["encoder_sha256"] == straight["encoder_sha256"]


def _shuffle(images: ImageSet) -> ImageSet:
    from dataclasses import replace

    assert images.labels is not None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return replace(images, labels=images.labels[order])


def test_probes_loggers_and_workers_do_not_change_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_LAB_CACHE", str(tmp_path / "cache"))
    with_probe = train(tmp_path / "probe")
    without = train(tmp_path / "none", "probe=none", "trainer.log_every_n_steps=3")
    assert with_probe["encoder_sha256"] == without["encoder_sha256"]
    assert find_run(tmp_path / "probe").path.name == find_run(tmp_path / "none").path.name


def test_any_logger_may_be_added(tmp_path: Path) -> None:
    train(
        tmp_path, "+loggers.table._target_=lightning.pytorch.loggers.CSVLogger", "trainer.max_steps=10", "logger=none"
    )
    (table,) = find_run(tmp_path).path.rglob("metrics.csv")
    assert "train/loss" in table.read_text()


@pytest.mark.parametrize(
    "change", ["seed=1", "trainer.max_epochs=2", "data.batch_size=32", "method.loss.temperature=0.1"]
)
def test_what_changes_the_result_changes_the_folder(tmp_path: Path, cache: Path, change: str) -> None:
    from ssl_lab.run import run_folder

    def folder(*overrides: str) -> Path:
        config, choices = recipes.compose("train", [*TINY, f"paths.cache={cache}", *overrides])
        from ssl_lab.build import build

        data = build(config["data"], seed=config["seed"])
        data.open()
        return run_folder(config, choices, data, "32-true").path

    assert folder() == folder("trainer.keep_checkpoints=5", "probe=none", "data.max_unreadable=0.5")
    assert folder() != folder(change)


@pytest.mark.parametrize("every", [1, 100])
def test_a_loss_that_is_no_number_ends_the_run_and_saves_nothing(tmp_path: Path, cache: Path, every: int) -> None:
    diverging = ["optim=sgd", "method.optim.lr=1e9", "method.optim.warmup_epochs=0", "loss=vicreg"]
    with pytest.raises(ValueError, match=r"no finite number.*set method\.optim\.lr to less"):
        train(tmp_path, *diverging, f"trainer.log_every_n_steps={every}", f"paths.cache={cache}")
    assert find_run(tmp_path).record["status"] == "running"
    assert not list(tmp_path.rglob("*.ckpt"))


def test_unlabelled_pictures_train_without_probes(command: Command, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "my pictures"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(40):
        pixels = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    arguments = ["data=folder", f"data.root={folder}", "data.batch_size=16", "trainer.max_epochs=1", "logger=none"]
    done = command("train", *arguments, "backbone=convnet", "method.backbone.widths=[8,8]", "paths.out=runs")
    assert done.returncode == 0, done.stderr
    assert "no labels" in done.stdout
    assert "protocol=[health,gallery,duplicates]" in done.stdout.splitlines()[-1]
    evaluated = command("evaluate", "run=runs")
    assert evaluated.returncode == 2
    assert "needs labels" in evaluated.stderr
    looked_at = command(
        "evaluate", "run=runs", "protocol=[health,gallery]", "protocols.gallery.queries=2", "paths.out=runs"
    )
    assert looked_at.returncode == 0, looked_at.stderr
    assert "SimCLR, health: rankme" in looked_at.stdout
    health, gallery = read_results(find_run(tmp_path / "runs").results_file)
    assert 1 <= health["figures"]["rankme"] <= 8
    assert set(gallery["figures"]["label"]) <= {f"cluster {i}" for i in range(1, 9)}
    assert command("report", "run=runs", "paths.out=runs").returncode == 0
    page = (find_run(tmp_path / "runs").path / "report.html").read_text()
    assert "A row a cluster" in page


def test_bad_data_is_refused_before_a_run_folder_stands(command: Command, tmp_path: Path) -> None:
    for arguments, said in (
        (("data=folder", "data.root=nowhere"), "nowhere"),
        (("data=digits", "data.batch_size=5000"), "data.batch_size"),
        (("data=digits", "data.eval_size=64"), "data.eval_size"),
        (("data=photos", "data.root=x"), "data.root"),
        (("data=digits", "trainer.accelerator=mps"), "trainer.accelerator"),
        (("data=digits", "backbone=timm", "method.backbone.name=resnet_of_ours"), "resnet_of_ours"),
        (("data=digits", "backbone=convnet", "data.batch_size=64", "paths.out=/proc/1/none"), "set paths.out=<folder>"),
    ):
        done = command("train", *arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert said in done.stderr
        assert not (tmp_path / "outputs").exists()


class Reader:
    """Notes which stored pictures anybody reads, and which of them are of the test split."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.read: set[tuple[int, int]] = set()
        self.opened: list[datamodule.ImageData] = []
        gather, opens = ImageSet.gather, datamodule.ImageData.open

        def noting(images: ImageSet, index: torch.Tensor) -> torch.Tensor:
            self.read |= self.keys(images, images.rows[index])
            return gather(images, index)

        def opening(data: datamodule.ImageData) -> None:
            opens(data)
            self.opened.append(data)
            self.read.clear()  # reading the files themselves is no use of them

        monkeypatch.setattr(ImageSet, "gather", noting)
        monkeypatch.setattr(datamodule.ImageData, "open", opening)

    def keys(self, images: ImageSet, rows: torch.Tensor) -> set[tuple[int, int]]:
        return {(id(images.storage), row) for row in rows.tolist()}

    def of(self, split: str) -> int:
        """How many pictures of a split were read."""
        images = getattr(self.opened[-1], split)
        return len(self.read & self.keys(images, images.rows))


def test_training_and_its_probes_read_nothing_of_the_test_split(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*TINY, "trainer.max_epochs=1", "paths.out=runs"]
    reader = Reader(monkeypatch)
    assert command("train", *words).returncode == 0
    data = reader.opened[-1]
    assert reader.of("val") == len(data.val or ())
    assert reader.of("train") > 0.9 * len(data.train)
    assert reader.of("test") == 0
    # A planted leak: the pictures to watch are those of the test split.
    monkeypatch.setattr(datamodule.ImageData, "to_watch", lambda data, n: datamodule.evenly(data.test, n))
    assert command("train", *words, "seed=1").returncode == 0
    assert reader.of("test") > 0
