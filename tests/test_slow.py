"""What only minutes of training can show."""

import re
from pathlib import Path
from statistics import mean, stdev

import pytest
from conftest import Command

from ssl_lab import recipes
from ssl_lab.records import RunFolder, read_results
from ssl_lab.spec import read_spec


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_simclr_beats_random_weights_on_photos(process: Command, tmp_path: Path) -> None:
    """Five paired seeds of about forty seconds each, kNN on validation: the 95 % interval of the gain excludes zero."""
    gains = []
    for seed in range(5):
        out = tmp_path / f"seed{seed}"
        arguments = ["experiment=demo", "trainer.max_epochs=2", "probe=none", "logger=none", f"paths.out={out}"]
        trained = process("train", *arguments, f"seed={seed}", timeout=400)
        assert trained.returncode == 0, trained.stderr
        measured = ["split=val", "protocol=knn", "protocols.knn.k=200", "baselines=[random_weights]"]
        done = process("evaluate", f"run={out}", *measured, f"paths.out={out}", timeout=200)
        assert done.returncode == 0, done.stderr
        lines = [
            line for file in out.rglob("results.jsonl") for line in read_results(RunFolder(file.parent).results_file)
        ]
        figures = {line["name"]: line["figures"]["top1"] for line in lines}
        gains.append(figures["SimCLR"] - figures["random weights"])
    half_width = 2.776 * stdev(gains) / 5**0.5  # Student's t, 4 degrees of freedom
    assert mean(gains) - half_width > 0, gains


def smoke_rows() -> list[tuple[str, str]]:
    """Every row of every table; of a sweep the first."""
    found = []
    for table in recipes.options()["table"]:
        spec, _ = read_spec(table)
        found += [(table, row) for row in (list(spec["rows"])[:1] if spec.get("sweep") else spec["rows"])]
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("table", "row"), smoke_rows())
def test_every_row_of_every_table_is_planned(
    table: str, row: str, process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a time, without its data, and for processes that share a batch where there is no GPU."""
    monkeypatch.setenv("SSL_LAB_DATA", str(tmp_path))
    words = [f'rows=["{row}"]', "seeds=[0]", "anew=true", "words=[trainer=ddp]"]
    done = process("table", f"name={table}", "--plan", *words, timeout=800)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  train  ")]
    assert re.search(r": (\d+ (h|min|s) ?)+$", line), line
    assert "estimated for a single device" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("table", "row"), smoke_rows())
def test_every_row_of_every_table_trains(table: str, row: str, process: Command) -> None:
    """Twenty steps of its own recipe on a small batch of photographs, at the size that the recipe has."""
    spec, _ = read_spec(table)
    words = [*spec["shared"], *spec["rows"][row]["train"]]
    kept = [word for word in words if not word.startswith(("data=", "data.batch_size=", "method.microbatch="))]
    side = recipes.compose("train", words)[0]["data"]["store_size"]
    few = ["data=photos", "+data.source.train=160", "+data.source.val=16", "+data.source.test=16"]
    small = [*few, f"data.store_size={side}", "data.batch_size=8", "trainer.max_steps=20"]
    done = process("train", *kept, *small, "trainer.max_flops=null", "logger=none", "health=none", timeout=1400)
    assert done.returncode == 0, done.stderr
    assert "finished in" in done.stdout
