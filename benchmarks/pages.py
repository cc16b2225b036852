"""The page that compares runs: how long it is made, and how long a browser takes to open it."""

import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.rows import Row

SEEDS, STEPS = 3, 200  # of a group; logged steps of a run
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def measure() -> list[Row]:
    """Rows of `make bench`."""
    from ssl_lab.pages import runs_page, write_pages

    rows = []
    for count in (3, 60, 600):
        with tempfile.TemporaryDirectory() as place:
            folders = [generate(Path(place), number) for number in range(count)]
            began = time.perf_counter()
            write_pages(folders, [])
            rows.append(Row(f"page of each of {count} runs: made in", time.perf_counter() - began, "s"))
            page, began = Path(place) / "report.html", time.perf_counter()
            page.write_text(runs_page(folders, page))
            rows.append(Row(f"page of {count} runs: made in", time.perf_counter() - began, "s"))
            rows.append(Row("... its size", page.stat().st_size / 2**20, "MiB"))
            if BROWSER:
                rows.append(Row("... opened by Chromium, beyond an empty page", opened(page), "s", "<= 3"))
                rows += [Row(f"... {what}", took, "s") for what, took in used(page, groups=-(-count // SEEDS)).items()]
    return rows


def generate(place: Path, number: int) -> Path:
    """A finished run as `train` and `evaluate` leave it, without having trained."""
    from ssl_lab import recipes
    from ssl_lab.records import RunFolder

    group, seed = divmod(number, SEEDS)
    config, _ = recipes.compose("train", ["data=digits", f"seed={seed}", f"method.optim.lr={0.01 + group / 1000}"])
    run = RunFolder(place / f"simclr-resnet18-digits-s{seed}-{number:08x}")
    data = {"name": "digits", "fingerprint": "x"}
    run.start(config, seed=seed, flops=1e12 * (1 + group), views_seen=1000, seconds=60.0, data=data)
    run.update(status="finished")
    figures = {"train/loss": 1.0, "train/lr": 0.1, "val/knn_top1": 0.5, "health/rankme": 10.0, "health/lidar": 5.0}
    lines = [{"step": s, "epoch": s // 20, **{k: v * s / STEPS for k, v in figures.items()}} for s in range(STEPS)]
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for protocol in ("knn", "logistic"):
        line = {"protocol": protocol, "split": "val", "name": "SimCLR", "figures": {"top1": 0.5 + group / 1000}}
        with run.results_file.open("a") as stream:
            stream.write(json.dumps(line | {"shown": ["top1"], "data": data}) + "\n")
    return run.path


def opened(page: Path) -> float:
    """Median seconds until a headless browser has run the page's script and written its document."""
    empty = page.with_name("empty.html")
    empty.write_text("<!doctype html><title>empty</title>")
    return median(seconds(page) for _ in range(3)) - median(seconds(empty) for _ in range(3))


USE = """<script>addEventListener("load", () => {
  const rows = () => [...document.querySelectorAll("table.sortable tbody tr")].filter(row => !row.hidden);
  const took = act => {
    const began = performance.now();
    act();
    rows().map(row => row.offsetTop);  // so that the browser has laid them out
    return performance.now() - began;
  };
  const head = document.querySelector("table.sortable thead th:nth-child(3)");
  const find = document.querySelector(".find");
  const sorted = took(() => head.click());
  const values = rows().map(row => parseFloat(row.cells[2].textContent));
  const inOrder = values.every((v, i) => i === 0 || values[i - 1] >= v);
  const name = rows()[0].cells[0].textContent;
  const filtered = took(() => { find.value = name; find.dispatchEvent(new Event("input")); });
  document.title = JSON.stringify([sorted, filtered, values.length, inOrder, rows().length]);
});</script>"""


def used(page: Path, groups: int) -> dict[str, float]:
    """Seconds that the page's table takes to be sorted and to be filtered; checks that it was."""
    copy = page.with_name("used.html")
    copy.write_text(page.read_text() + USE)
    with tempfile.TemporaryDirectory() as profile:
        title = re.search(r"<title>(\[.*?\])</title>", dumped(copy, profile))
    if title is None:
        raise RuntimeError(f"{copy}: its table was not sorted")
    sorted_in, filtered_in, count, in_order, left = json.loads(title[1])
    if not (count == groups and in_order and 0 < left < max(count, 2)):  # a name of one of several hides others
        raise RuntimeError(f"{copy}: {count} rows of {groups}, in order: {in_order}, left by the filter: {left}")
    return {"its table sorted": sorted_in / 1000, "its table filtered": filtered_in / 1000}


def seconds(page: Path) -> float:
    """Of one headless browser, from its start to its end."""
    with tempfile.TemporaryDirectory() as profile:
        began = time.perf_counter()
        dumped(page, profile)
        return time.perf_counter() - began


def dumped(page: Path, profile: str) -> str:
    """The document as a headless browser leaves it."""
    line = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
    shown = subprocess.run([*line, f"file://{page.resolve()}"], check=True, capture_output=True, timeout=120)
    return shown.stdout.decode()
