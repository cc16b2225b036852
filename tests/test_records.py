"""The run folder: what stands there after anything."""

import io
import json
import os
import random
import re
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from ssl_lab.nn import ConvNet, Encoder
from ssl_lab.records import (
    HashedCheckpointIO,
    MetricsLog,
    RunFolder,
    check_trusted,
    find_run,
    load_encoder,
    newest_intact,
    read_metrics,
    results_markdown,
    results_table,
    save_encoder,
)
from ssl_lab.records.checkpoints import intact, sha256
from ssl_lab.records.provenance import command

# What every checkpoint of a run holds.
RUN = {"state_dict": {}, "optimizer_states": [], "loops": {}, "callbacks": {}, "ImageData": {}}
BACKBONE = {"_target_": "ssl_lab.nn.ConvNet", "widths": [8, 8]}


def test_a_checkpoint_is_hashed_and_holds_no_code(tmp_path: Path) -> None:
    file = tmp_path / "000000001.ckpt"
    HashedCheckpointIO().save_checkpoint(RUN | {"weight": torch.arange(3)}, file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000001.ckpt", "000000001.ckpt.sha256"]
    assert intact(file)
    assert torch.equal(HashedCheckpointIO().load_checkpoint(file)["weight"], torch.arange(3))


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "000000001.ckpt"
    HashedCheckpointIO().save_checkpoint(RUN | {"weight": torch.arange(100)}, file)
    whole, said = file.read_bytes(), list[str]()
    draw = random.Random(0)
    for _ in range(200):
        broken = bytearray(whole)
        broken[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(broken)
        with pytest.raises(ValueError, match="SHA-256"):
            HashedCheckpointIO().load_checkpoint(file)
    assert newest_intact(tmp_path, said.append) is None
    assert "damaged" in said[0]


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "000000001.ckpt"
    io = HashedCheckpointIO()
    io.save_checkpoint(RUN | {"weight": torch.arange(3)}, file)
    with pytest.raises(Exception, match=r"pickle|local"):
        io.save_checkpoint(RUN | {"weight": lambda: None}, file)
    assert intact(file)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_is_no_checkpoint_of_ours_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch " + str(tmp_path / "ran"),)

    file = tmp_path / "000000001.ckpt"
    torch.save({"weight": Payload()}, file)
    with pytest.raises(ValueError, match="not a checkpoint of ours"):
        HashedCheckpointIO().load_checkpoint(file)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "000000001.ckpt"
    HashedCheckpointIO().save_checkpoint({"model": torch.arange(3)}, file)
    with pytest.raises(ValueError, match="holds no ImageData, callbacks, loops, optimizer_states"):
        HashedCheckpointIO().load_checkpoint(file)
    file.write_bytes(b"not even an archive")
    file.with_name(file.name + ".sha256").write_text(f"{sha256(file)}  {file.name}\n")
    with pytest.raises(ValueError, match="not a checkpoint of ours"):
        HashedCheckpointIO().load_checkpoint(file)


def test_a_full_disk_leaves_the_old_checkpoint_and_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io, big = HashedCheckpointIO(), RUN | {"weight": torch.zeros(2**18)}
    io.save_checkpoint(RUN, tmp_path / "000000001.ckpt")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))  # a write beyond fails, as on a full disk
        with pytest.raises(OSError, match=r"Make room for 1 MiB and give the same command again"):
            io.save_checkpoint(big, tmp_path / "000000002.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30, 2**19))
    with pytest.raises(OSError, match="the disk has 0 MiB left"):
        io.save_checkpoint(big, tmp_path / "000000002.ckpt")
    assert newest_intact(tmp_path, print) == tmp_path / "000000001.ckpt"
    assert len(list(tmp_path.iterdir())) == 2


def test_metrics_are_cut_back_to_where_a_checkpoint_stood(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.log_metrics({"loss": 1.0}, 0)
    position = log.position
    log.log_metrics({"loss": 2.0}, 1)
    log.cut_back(position)
    log.log_metrics({"loss": 3.0}, 1)
    assert [line["loss"] for line in read_metrics(log.file)] == [1.0, 3.0]


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"st')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 0}]


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ConvNet([8, 8]), mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2], crop=16).eval()


def test_an_encoder_comes_back_as_it_was(tmp_path: Path) -> None:
    before = encoder()
    digest = save_encoder(before, BACKBONE, tmp_path)
    after, again = load_encoder(tmp_path)
    images = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    assert digest == again
    assert torch.equal(before(images), after(images))


def test_an_encoder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_encoder(encoder(), BACKBONE, tmp_path)
    recipe = json.loads((tmp_path / "encoder.json").read_text())
    for change, said in (
        ({"backbone": {"_target_": "os.system", "command": "true"}}, "os.system"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"backbone": {**BACKBONE, "widths": [8, 4]}}, "size mismatch"),
        ({"backbone": {**BACKBONE, "widths": [8, 8, 8]}}, "Missing key"),
    ):
        (tmp_path / "encoder.json").write_text(json.dumps(recipe | change))
        with pytest.raises((ValueError, RuntimeError), match=said):
            load_encoder(tmp_path)


def test_an_encoder_of_ones_own_is_built_again_when_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("from ssl_lab.nn import ConvNet\n\nclass Net(ConvNet):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    backbone = {"_target_": "mine.Net", "widths": [8, 8]}
    save_encoder(encoder(), backbone, tmp_path)
    with pytest.raises(ValueError, match=r"builds mine\.Net.*export SSL_LAB_TRUST=mine"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match=r"method\.backbone: builds mine\.Net"):
        check_trusted(backbone, "method.backbone")
    monkeypatch.setenv("SSL_LAB_TRUST", "theirs,mine")
    assert type(load_encoder(tmp_path)[0].backbone).__name__ == "Net"


def test_a_command_is_kept_as_it_is_typed() -> None:
    assert command(["/x/ssl_lab/train.py", "seed=1"]) == ["python", "-m", "ssl_lab.train", "seed=1"]
    assert command(["/x/bin/ssl-lab train", "seed=1"]) == ["ssl-lab", "train", "seed=1"]


def test_a_run_is_found_below_a_folder_and_several_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 0 runs"):
        find_run(tmp_path)
    RunFolder(tmp_path / "a" / "one").start({"seed": 0})
    assert find_run(tmp_path).path == tmp_path / "a" / "one"
    RunFolder(tmp_path / "b" / "two").start({"seed": 0})
    with pytest.raises(ValueError, match=r"holds 2 runs(.|\n)*one(.|\n)*two"):
        find_run(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        find_run(tmp_path / "none")


def test_a_resumed_run_keeps_its_first_facts(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.start({"seed": 0}, commit="first")
    run.start({"seed": 0}, commit="second")
    assert run.record == {"status": "running", "commit": "first"}
    assert not run.finished


def result(name: str, protocol: str, **figures: float) -> dict[str, Any]:
    shown = [figure for figure in figures if not figure.endswith(("std", "_low", "_high"))]
    facts = {"settings": {"draws": 3}, "split": "test", "epoch_rule": "last", "precision": "32-true"}
    return {"name": name, "protocol": protocol, "figures": figures, "shown": shown} | facts


def shown_on_a_terminal(lines: list[dict[str, Any]]) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(results_table(lines, "digits"))
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO


def test_results_of_many_figures_are_a_row_a_figure() -> None:
    few = [
        result("raw pixels", "knn", top1=0.5, top1_low=0.49, top1_high=0.51),
        result("raw pixels", "few_label", **{"1 %": 0.25, "1 %, std": 0.01}),
    ]
    assert results_markdown(few, "digits").splitlines()[2:6] == [
        "| encoder | raw pixels |",
        "| --- | --- |",
        "| knn top-1 % | 50.0 (49.0 to 51.0) |",
        "| few_label 1 % | 25.0 ± 1.0 |",
    ]
    told = shown_on_a_terminal(few)
    assert re.search(r"encoder .* knn top-1 % .* few_label 1 %", told)
    assert "49.0 to" not in told
    many = [result(name, f"p{i}", top1=0.1 * i) for name in ("raw pixels", "SimCLR") for i in range(8)]
    many.append(result("SimCLR", "retrieval", map=0.125))
    told = shown_on_a_terminal(many)
    assert re.search(r"encoder .* raw pixels .* SimCLR", told)
    assert re.search(r"retrieval map % .* - .* 12.5", told)
