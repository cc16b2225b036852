"""What only minutes of training can show."""

from pathlib import Path
from statistics import mean, stdev

import pytest
from conftest import Command

from ssl_lab.records import RunFolder, read_results


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
