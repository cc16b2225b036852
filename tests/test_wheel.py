"""The wheel: built, installed beside, and run from somewhere else."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, TINY


def test_the_installed_wheel_trains(tmp_path: Path, cache: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    beside = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(beside), str(wheel)], check=True, capture_output=True)
    for file in ("ssl_lab/pages/page.js", "ssl_lab/pages/page.css", "hydra_plugins/ssl_lab_process/launcher.py"):
        assert (beside / file).is_file()
    environment = {**os.environ, "PYTHONPATH": str(beside), "SSL_LAB_CACHE": str(cache)}
    where = [sys.executable, "-c", "import ssl_lab; print(ssl_lab.__file__)"]
    found = subprocess.run(where, cwd="/", env=environment, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(beside))
    line = [sys.executable, "-m", "ssl_lab.train", *TINY, "trainer.max_epochs=1", f"paths.out={tmp_path / 'runs'}"]
    done = subprocess.run(line, cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").rglob("encoder.safetensors"))
