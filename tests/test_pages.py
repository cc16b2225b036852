"""Pages to look at: whole, without a network, and whatever the state of the folders."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY, Command
from PIL import Image

from ssl_lab import recipes
from ssl_lab.evaluation import Sets, Subject, gallery
from ssl_lab.evaluation.gallery import contact_sheet
from ssl_lab.pages import ranking, run_page
from ssl_lab.pages.apart import beyond, by_node, flat
from ssl_lab.pages.page import page, table, thinned
from ssl_lab.pages.runs_page import labels, runs_page
from ssl_lab.pages.seen import look
from ssl_lab.pages.table_page import cell
from ssl_lab.records import RunFolder, find_run, identity, run_folders

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
SCRIPT = "<script>alert(1)</script>"


def fake(folder: Path, seed: int, name: str = "SimCLR", status: str = "finished", **changes: Any) -> Path:
    """A run folder as `train` and `evaluate` leave it, without having trained."""
    config, _ = recipes.compose("train", [*TINY, f"seed={seed}"])
    config["method"]["_target_"] = f"ssl_lab.methods.{name}"
    config["method"] |= changes
    run = RunFolder(folder / f"{name.lower()}-convnet-digits-s{seed}-{len(str(changes))}")
    run.start(config, seed=seed, flops=1e12 * (1 + seed), views_seen=1000, seconds=60.0, data={"name": "digits"})
    run.update(status=status)
    lines = [
        {"step": s, "epoch": s // 10, "train/loss": 5 / (s + 1), "val/knn_top1": s / 200, "health/rankme": 9.0}
        for s in range(0, 100, 5)
    ]
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = {"protocol": "knn", "split": "val", "name": name, "figures": {"top1": 0.5 + seed / 10}, "shown": ["top1"]}
    line |= {"settings": {}, "epoch_rule": "last", "precision": "32-true"}
    run.results_file.write_text(json.dumps(line) + "\n")
    return run.path


def add(run: Path, **changes: Any) -> None:
    """One more result of a run."""
    line = json.loads((run / "results.jsonl").read_text().splitlines()[0]) | changes
    with (run / "results.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def console(file: Path, tmp_path: Path) -> tuple[str, str]:
    """What a browser says on its console, and the document as its script has left it."""
    line = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    line += ["--window-size=1200,900", "--enable-logging=stderr", "--v=0", "--dump-dom", f"file://{file}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    return "\n".join(row for row in done.stderr.splitlines() if "CONSOLE" in row), done.stdout


def test_a_run_on_one_page(command: Command, tmp_path: Path) -> None:
    words = [*TINY, "trainer.max_epochs=2", "paths.out=runs", "method=simclr"]
    assert command("train", *words).returncode == 0
    asked = ["run=runs", "protocol=[knn,logistic,gallery]", "protocols.knn.k=50", "protocols.gallery.images=100"]
    shown = command("evaluate", *asked, "baselines=[random_weights]", "paths.out=runs")
    assert shown.returncode == 0, shown.stderr
    written = command("report", "run=runs/train", "paths.out=runs")
    assert written.returncode == 0, written.stderr
    text = (find_run(tmp_path / "runs" / "train").path / "report.html").read_text()
    for part in (
        "Curves",
        "Health",
        "Map of the",
        "Nearest",
        "Confusion",
        "Views",
        "random weights",
        "train/loss",
    ):
        assert part in text
    assert not re.findall(r"(?:src|href)=[\"']?(?!data:)[^\"'>\s]*//", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def shown_run(folder: Path) -> Path:
    """A run with a map of nine test images and a row of figures, and its page."""
    run = RunFolder(fake(folder, 0))
    run.pictures.mkdir()
    Image.new("RGB", (24, 24), "red").save(run.pictures / "gallery_map.jpg")
    spots = [i / 8 for i in range(9)]
    gallery = {"x": spots, "y": spots, "label": [f"class {i % 3}" for i in range(9)], "trustworthiness": 0.9}
    add(run.path, protocol="gallery", figures=gallery, shown=[], settings={"side": 8})
    for protocol in ("knn", "logistic", "linear", "finetune", "stages"):
        add(run.path, protocol=protocol, figures={"top1": 0.5, "top1_low": 0.4, "top1_high": 0.6})
    page = run.path / "report.html"
    page.write_text(run_page(run, []))
    return page


def in_page(file: Path, script: str, tmp_path: Path) -> Any:
    """What a script finds in a page when a browser has drawn it: the value of its `found`."""
    use = f"<script>{{{script}\ndocument.title = JSON.stringify(found);}}</script></body>"
    file.write_text(file.read_text().replace("</body>", use))
    said, document = console(file, tmp_path)
    assert said == ""
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", document)[1]))  # type: ignore[index]  # it is there


@in_a_browser
def test_a_run_is_drawn_in_a_browser(tmp_path: Path) -> None:
    said, document = console(shown_run(tmp_path), tmp_path)
    assert said == ""
    assert document.count("<circle") == 9
    assert document.count("<path") == 3  # loss, probe and a health figure


@in_a_browser
def test_curves_stand_against_what_one_chooses(tmp_path: Path) -> None:
    """Of 96 steps, ten to an epoch; 64 images each, a minute in all."""
    folders = [fake(tmp_path / "runs", seed) for seed in (0, 1)]
    page = tmp_path / "page.html"
    page.write_text(runs_page(folders, page))
    script = """
      const axis = document.querySelector('select[aria-label="against"]'), found = {};
      for (const one of axis.options) {
        axis.value = one.value;
        axis.dispatchEvent(new Event("change"));
        const told = document.querySelectorAll('[data-key="curves"] text[text-anchor="middle"]');
        found[one.text] = [...told].at(-1).textContent;
      }
    """
    last = {name: float(text) for name, text in in_page(page, script, tmp_path).items()}
    ends = {"steps": 95, "epochs": 10, "images seen": 95 * 64, "seconds": 60}
    assert set(last) == set(ends)
    assert all(0.7 * ends[name] <= last[name] <= ends[name] for name in ends), last


@in_a_browser
def test_a_run_fits_the_width_of_a_phone(tmp_path: Path) -> None:
    phone = tmp_path / "phone.html"  # in a frame: a browser's own window is not so narrow
    framed = html.escape(shown_run(tmp_path).read_text())
    phone.write_text(f'<title></title><body><iframe width="400" height="800" srcdoc="{framed}"></iframe></body>')
    script = """
      const found = [], frame = document.querySelector("iframe");
      onload = () => {
        const root = frame.contentDocument.documentElement;
        found.push(frame.contentWindow.innerWidth, root.scrollWidth - root.clientWidth);
        found.push(root.querySelectorAll("svg").length);
        document.title = JSON.stringify(found);
      };
    """
    assert in_page(phone, script, tmp_path) == [400, 0, 4]  # three charts and the map are drawn


@in_a_browser
def test_a_point_of_the_map_shows_its_picture(tmp_path: Path) -> None:
    script = """
      const dots = document.querySelectorAll(".map circle"), tip = document.querySelector(".tip"), found = [];
      const told = () => [tip.hidden, tip.textContent, tip.querySelector("b")?.style.backgroundPosition];
      found.push(told());
      const box = dots[4].getBoundingClientRect();
      dots[4].dispatchEvent(new PointerEvent("pointerenter", { clientX: box.x, clientY: box.y }));
      found.push(told(), tip.querySelector("b").style.backgroundImage.slice(0, 9));
      dots[4].dispatchEvent(new PointerEvent("pointerleave"));
      found.push(tip.hidden);
    """
    before, over, source, after = in_page(shown_run(tmp_path), script, tmp_path)
    assert before[0]
    assert over == [False, "class 1", "-96px -96px"]  # the fifth of three rows of thumbnails, twelve times as wide
    assert source == 'url("data'
    assert after


def test_many_runs_side_by_side(tmp_path: Path) -> None:
    folders = [fake(tmp_path, seed) for seed in range(3)] + [fake(tmp_path, 0, "VICReg", microbatch=8)]
    fake(tmp_path, 1, "VICReg", status="running")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    for folder in folders[:2]:
        add(folder, protocol="logistic")
    (folders[0] / "report.html").write_text("")
    text = runs_page(run_folders(str(tmp_path / "*")), tmp_path / "report.html")
    assert "60.0 ± 10.0</span>" in text  # of all three
    assert "55.0 ± 7.1 (n = 2)</span>" in text
    assert "3 of 3" in text
    assert "has not finished" in text
    assert "damaged: JSONDecodeError" in text
    assert f'href="{folders[0].name}/report.html"' in text
    assert "method.microbatch" in text


def test_the_same_run_twice_is_one_seed(tmp_path: Path) -> None:
    first, again = fake(tmp_path / "a", 0), fake(tmp_path / "b", 0)
    text = runs_page([first, again, fake(tmp_path / "a", 1)], tmp_path / "report.html")
    assert "2 of 2" in text
    assert f"left out: the same run as {first}" in text
    (first / "results.jsonl").unlink()
    assert f"left out: the same run as {again}" in runs_page([first, again], tmp_path / "report.html")
    for run in (first, again):
        RunFolder(run).update(last={"val/knn_top1": 0.5})
    (line,) = ranking([first, again])
    assert "seeds" not in line


def test_a_page_of_many_runs_leads_to_a_page_of_each(command: Command, tmp_path: Path) -> None:
    run = fake(tmp_path / "runs" / "odd #1 100% name", 0)
    damaged = fake(tmp_path / "runs", 1)
    (damaged / "metrics.jsonl").write_text("{\n")
    done = command("report", "runs=runs/*")
    assert done.returncode == 0, done.stderr
    assert "<h1>" in (run / "report.html").read_text()
    assert not (damaged / "report.html").exists()
    text = (tmp_path / "outputs" / "report.html").read_text()
    assert f'href="../runs/odd%20%231%20100%25%20name/{run.name}/report.html"' in text
    before = (run / "report.html").stat().st_mtime_ns
    assert command("report", "runs=runs/*").returncode == 0
    assert (run / "report.html").stat().st_mtime_ns == before  # nothing new to show
    later = (run / "report.html").stat().st_mtime + 5
    os.utime(run / "results.jsonl", (later, later))
    assert command("report", "runs=runs/*").returncode == 0
    assert (run / "report.html").stat().st_mtime_ns != before


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"runs=a\*\*b: .*\*\* for folders"):
        run_folders("a**b")


@pytest.mark.parametrize(
    ("file", "content"),
    [("run.json", "{"), ("metrics.jsonl", "{\n"), ("results.jsonl", "{\n"), ("config.yaml", "a: [")],
)
def test_the_page_of_a_damaged_run_names_the_file(file: str, content: str, tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    (run / file).write_text(content)
    with pytest.raises(ValueError, match=f"damaged: .*in {re.escape(file)}"):
        run_page(RunFolder(run), [])


def test_a_finished_run_that_has_lost_its_log_says_so(tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    RunFolder(run).update(last={"val/knn_top1": 0.5})
    assert look(run).problem == ""
    RunFolder(run).metrics_file.unlink()
    assert look(run).problem == "damaged: metrics.jsonl has lost val/knn_top1"


def test_names_that_are_no_text_stand_on_a_page() -> None:
    assert b"<title>d/bad\\udcff</title>" in page("d/bad\udcff", [], {}).encode()


def test_results_that_are_damaged_are_left_off_a_page_and_counted(tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    for broken in ({"name": None}, {"protocol": None}, {"split": None}, {"figures": None}, {"figures": {"top1": None}}):
        line = {"protocol": "knn", "split": "val", "name": "x", "figures": {"top1": 0.5}} | broken
        with (run / "results.jsonl").open("a") as stream:
            stream.write(json.dumps({key: value for key, value in line.items() if value is not None}) + "\n")
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"step": 5, "train/loss": None}) + "\n")
    text = run_page(RunFolder(run), [{"name": "random weights", "figures": {}, "data": {}}])
    assert re.search(r"results left out, damaged</\w+>\s*<\w+>5<", text)


def test_times_are_sorted_by_their_length() -> None:
    assert cell("time", "1 h 5 min") == '<span data-sort="3900">1 h 5 min</span>'
    assert cell("time", "9 min 26 s") == '<span data-sort="566">9 min 26 s</span>'
    assert cell("method", "a & b") == "a &amp; b"


@in_a_browser
def test_curves_and_costs_of_many_runs_are_drawn_in_a_browser(tmp_path: Path) -> None:
    folders = [fake(tmp_path, seed) for seed in range(3)] + [fake(tmp_path, 0, "VICReg")]
    (tmp_path / "report.html").write_text(runs_page(folders, tmp_path / "report.html"))
    said, document = console(tmp_path / "report.html", tmp_path)
    assert said == ""
    assert document.count("<path") == 4 + 4  # a curve and a health figure of each
    assert document.count("<circle") == 2 * 4  # against FLOPs, and against seconds


@in_a_browser
def test_rows_are_sorted_and_found_in_a_browser(tmp_path: Path) -> None:
    folders = [fake(tmp_path, 0, name) for name in ("SimCLR", "VICReg", "MoCoV2")]
    for folder, score in zip(folders, (0.2, 0.9, 0.5), strict=True):
        line = json.loads((folder / "results.jsonl").read_text()) | {"figures": {"top1": score}}
        (folder / "results.jsonl").write_text(json.dumps(line) + "\n")
    text = runs_page(folders, tmp_path / "report.html")
    (tmp_path / "report.html").write_text(text)
    script = """
      const table = document.querySelector("table.sortable"), found = [];
      const names = () => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent);
      table.tHead.rows[0].cells[2].click(); found.push(names());
      table.tHead.rows[0].cells[2].click(); found.push(names());
      const input = document.querySelector(".find");
      input.value = "VIC"; input.dispatchEvent(new Event("input")); found.push(names());
    """
    found = in_page(tmp_path / "report.html", script, tmp_path)
    down, up, filtered = [[name.split("-")[0] for name in names] for names in found]
    assert (down, up, filtered) == (["vicreg", "mocov2", "simclr"], ["simclr", "mocov2", "vicreg"], ["vicreg"])


def test_of_many_groups_the_values_are_counted(tmp_path: Path) -> None:
    folders = [fake(tmp_path / str(rate), 0, rate=rate, half=rate % 2) for rate in range(13)]
    text = runs_page(folders, tmp_path / "report.html")
    assert "0 (7), 1 (6)" in text
    assert "and 1 more" in text


def test_figures_that_were_measured_otherwise_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    run, other = fake(tmp_path, 0), fake(tmp_path, 1)
    add(run, data={"name": "stl10"}, figures={"top1": 0.123})
    add(run, asked={"k": 5}, figures={"top1": 0.234})
    text = runs_page([run, other], tmp_path / "report.html")
    assert "55.0 ± 7.1" in text  # 50 and 60: neither of the others is among them
    for head in ("knn top-1 %, val, k None, stl10", "knn top-1 %, val, k 5"):
        assert head in text
    changed = RunFolder(other)
    changed.update(data={"name": "digits", "fingerprint": "y"})
    assert "1 of 1" in runs_page([run, other], tmp_path / "report.html")  # other images: no seed of the same


def test_a_result_of_before_is_shown_by_its_accuracy_too(tmp_path: Path) -> None:
    """`stages` once showed its stages alone."""
    runs = [fake(tmp_path, seed) for seed in range(2)]
    stages = {"protocol": "stages", "figures": {"stage1_top1": 0.4, "top1": 0.6}}
    add(runs[0], **stages, shown=["stage1_top1"])
    add(runs[1], **stages | {"figures": {"stage1_top1": 0.5, "top1": 0.8}}, shown=["top1", "stage1_top1"])
    text = runs_page(runs, tmp_path / "report.html")
    assert "stages top-1 %, val" in text
    assert ("70.0 ± 14.1" in text, "45.0 ± 7.1" in text) == (True, True)


def test_odd_folders_do_not_stop_the_page(tmp_path: Path) -> None:
    """Of an older version, cut off, with figures that are none: a row, or what is left."""
    odd = [fake(tmp_path / str(i), 0) for i in range(5)]
    line = {"protocol": "knn", "split": "val", "name": "SimCLR"}
    (odd[0] / "results.jsonl").write_text(json.dumps(line | {"figures": {"top1": 0.5}}) + "\n")
    (odd[1] / "results.jsonl").write_text(json.dumps(line | {"figures": {"top1": None}, "shown": ["top1"]}) + "\n{")
    (odd[2] / "metrics.jsonl").write_text('{"train/loss": 1.0}\n')
    (odd[3] / "metrics.jsonl").write_text('{"step": 0, "train/loss": 1.0}\n{"step": 0, "train/loss": 2.0}\n')
    config = yaml.safe_load((odd[4] / "config.yaml").read_text())
    del config["trainer"]["accumulate_grad_batches"]
    (odd[4] / "config.yaml").write_text(yaml.safe_dump(config))
    text = runs_page(odd, tmp_path / "report.html")
    assert text.count("damaged: KeyError") == 1
    assert "50.0" in text


def lacks(file: Path, key: str) -> None:
    """Take a key out of a file of a run: of its first line, where it has several."""
    if file.suffix == ".yaml":
        config = yaml.safe_load(file.read_text())
        del config[key]
        file.write_text(yaml.safe_dump(config))
    else:
        first, *others = file.read_text().splitlines()
        file.write_text("\n".join([json.dumps({k: v for k, v in json.loads(first).items() if k != key}), *others, ""]))


@pytest.mark.parametrize("key", ["trainer", "data", "seed"])
def test_a_folder_of_an_older_version_says_what_it_lacks(tmp_path: Path, key: str) -> None:
    run = fake(tmp_path, 0)
    lacks(run / "config.yaml", key)
    text = runs_page([run, fake(tmp_path, 1)], tmp_path / "report.html")
    assert f"of an older version: config.yaml has no {key}" in text
    assert "1 of 1" in text


@pytest.mark.parametrize(
    ("file", "key"),
    [("results.jsonl", key) for key in ("name", "split", "protocol", "figures")] + [("metrics.jsonl", "step")],
)
def test_a_line_that_lacks_something_is_a_row(tmp_path: Path, file: str, key: str) -> None:
    run = fake(tmp_path, 0)
    lacks(run / file, key)
    text = runs_page([run, fake(tmp_path, 1)], tmp_path / "report.html")
    assert html.escape(f"damaged: KeyError '{key}', in {file}") in text
    assert "1 of 1" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "many"])
def test_what_is_no_number_is_told_and_counts_nowhere(tmp_path: Path, value: Any) -> None:
    runs = [fake(tmp_path, seed) for seed in range(3)]
    (runs[0] / "results.jsonl").write_text((runs[0] / "results.jsonl").read_text().replace("0.5", json.dumps(value)))
    RunFolder(runs[1]).update(flops=value, seconds=value, views_seen=value)
    line = {"step": 95, "epoch": 9, "train/loss": value, "val/knn_top1": 0.5}
    with (runs[2] / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n" + json.dumps({"step": 100, "epoch": value, "train/loss": 0.1}) + "\n")
    text = runs_page(runs, tmp_path / "report.html")
    for told in (f"knn top1 {value}", f"flops {value}, seconds {value}", f"epoch {value}"):
        assert told in text
    assert (f"train/loss {value}" in text) is not isinstance(value, float)  # a metric may be not-a-number
    assert "3 of 3" in text
    assert "65.0 ± 7.1" in text  # 60 and 70


def test_an_odd_record_or_data_of_a_result_is_a_row(tmp_path: Path) -> None:
    runs = [fake(tmp_path, seed) for seed in range(4)]
    RunFolder(runs[0]).update(data="digits")
    add(runs[1], data="digits")
    add(runs[2], asked=3)
    assert [look(run).problem.split()[0] for run in runs[:3]] == ["damaged:"] * 3
    assert "1 of 1" in runs_page(runs, tmp_path / "report.html")


def test_a_folder_without_record_and_configuration_is_a_row(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "metrics.jsonl").write_text("")
    (tmp_path / "b" / "checkpoints").mkdir()
    folders = run_folders(str(tmp_path))
    assert folders == [tmp_path / "a", tmp_path / "b"]
    assert runs_page(folders, tmp_path / "report.html").count("damaged: no config.yaml, and no run.json") == 2
    with RunFolder(tmp_path / "a").lock():
        assert look(tmp_path / "a").problem.startswith("is running")
    (online := tmp_path / "a" / "wandb" / "run-20261127-x" / "files").mkdir(parents=True)
    (online / "config.yaml").write_text("")  # W&B's own, of a run that is no longer offline
    assert run_folders(str(tmp_path)) == folders


def test_seeds_stay_together_whatever_watches_them(tmp_path: Path) -> None:
    runs = [fake(tmp_path, seed) for seed in range(2)]
    config = RunFolder(runs[1]).config
    config["trainer"] |= {"checkpoint_minutes": 1, "keep_checkpoints": 5, "devices": 2}
    config["data"] |= {"cache": "elsewhere"}
    del config["method"]["microbatch"]  # null in the other, as if of an older version
    (runs[1] / "config.yaml").write_text(yaml.safe_dump(config))
    assert "2 of 2" in runs_page(runs, tmp_path / "report.html")
    for run in runs:
        RunFolder(run).update(last={"val/knn_top1": 0.5})
    assert ranking(runs) == ["  simclr-convnet-digits  50.0 ± 0.0 (2 seeds)"]
    config["trainer"]["max_epochs"] = 7
    (runs[1] / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(ranking(runs)) == 2


def composed(*words: str) -> dict[str, Any]:
    return flat(identity(recipes.compose("train", [*TINY, *words])[0]))


def test_what_differs_beyond_the_compared_axis_is_named() -> None:
    simclr, vicreg = composed("method=simclr"), composed("method=vicreg")
    swapped = ("method.optim.", "method.views.", "method.projector.")
    found = beyond([simclr, vicreg])
    assert {"method.optim.lr", "method.projector.widths", "method.views.policies.second.solarise"} < set(found)
    assert all(key.startswith(swapped) for key in found)  # and neither the loss, nor `apart`, which SimCLR lacks
    alike = {key: value for key, value in vicreg.items() if not key.startswith(swapped)}
    alike |= {key: value for key, value in simclr.items() if key.startswith(swapped)}
    assert beyond([simclr, alike]) == []  # no more than the method, its loss and its parameters
    assert beyond([simclr, alike | {"data.batch_size": 32}]) == ["data.batch_size"]
    assert beyond([simclr, alike | {"method.microbatch": 8}]) == ["method.microbatch"]  # both have it
    assert beyond([simclr, alike, alike | {"method.loss.variance": 1.0}]) == ["method.loss.variance"]


def test_one_key_that_differs_is_the_axis(tmp_path: Path) -> None:
    base = composed()
    sizes = [base | {"data.batch_size": size} for size in (32, 64, 128)]
    assert beyond(sizes) == []
    assert beyond([*sizes, base | {"method.optim.lr": 9.0}]) == ["method.optim.lr", "data.batch_size"]
    assert beyond([base | {"images": "a"}, base | {"images": "b", "data.store_size": 16}]) == []
    found = beyond([base | {"images": "a"}, base | {"images": "b", "data.batch_size": 16}])
    assert found == ["data.batch_size", "images"]
    text = runs_page([fake(tmp_path, 0, note=1), fake(tmp_path / "b", 0, note=2)], tmp_path / "report.html")
    assert "class='flag'" not in text
    text = runs_page([fake(tmp_path, 0, note=1), fake(tmp_path / "b", 0, note=2, rate=3)], tmp_path / "report.html")
    assert "They differ in more than one key: method: note, rate." in text


def test_keys_of_a_node_are_named_together() -> None:
    keys = ["seed", "method.a", "method.optim.lr", *(f"method.views.{i}" for i in range(6)), "data.x.y"]
    assert by_node(keys) == "seed; method.a; method.optim.lr; method.views: 0, 1, 2, 3 and 2 more; data.x.y"


def test_a_run_shows_each_measurement_in_a_column_of_its_own(tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    own = {"name": "digits"}
    add(run, data={"name": "stl10", "fingerprint": "0123456789abcdef"}, figures={"top1": 0.123})
    add(run, data={"name": "stl10", "fingerprint": "fedcba9876543210"}, figures={"top1": 0.234})
    add(run, asked={"k": 5, "seed": 1}, figures={"top1": 0.345}, data=own)
    add(run, asked={"k": 5, "seed": 2}, figures={"top1": 0.456}, data=own)
    add(run, protocol="few_label", figures={"1 %": 0.3, "1 %, std": 0.02}, shown=["1 %"])
    text = run_page(RunFolder(run), [])
    for value in ("50.0", "12.3", "23.4", "34.5", "45.6", "30.0 ± 2.0"):
        assert f"<td>{value}</td>" in text
    for head in (
        "knn top-1 %, val, k None, seed None, stl10, fingerprint 01234567",
        "knn top-1 %, val, k None, seed None, stl10, fingerprint fedcba98",
        "knn top-1 %, val, k 5, seed 1",
        "few_label 1 %, val",
    ):
        assert f"<th>{head}</th>" in text
    assert "deviation over draws" in text


def test_many_classes_show_the_pairs_that_are_confused_most(tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    counts = [[8 * (i == j) for j in range(40)] for i in range(40)]
    counts[3][7], counts[9][2] = 24, 2
    add(run, figures={"top1": 0.5, "confusion": counts}, class_names=[f"c{i}" for i in range(40)])
    text = run_page(RunFolder(run), [])
    assert "40 classes are too many for a matrix" in text
    first, second = (text.index(f"<td>{a}</td><td>{b}</td>") for a, b in (("c3", "c7"), ("c9", "c2")))
    assert first < second
    assert ">75</span>" in text


def test_pages_show_health_with_what_it_may_be_used_for_and_cost_in_seconds(tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    RunFolder(run).update(last={"val/knn_top1": 0.5})
    for text in (run_page(RunFolder(run), []), runs_page([run], tmp_path / "report.html")):
        assert "compares runs of one method" in text
        assert "pooled features" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])  # type: ignore[index]  # it is there
    assert [chart["title"] for chart in data["health"]] == ["health/rankme"]
    assert list(data["curves"]) == ["val/knn_top1", "train/loss"]
    assert {(chart["title"], chart["series"][0]["points"][0][0]) for chart in data["cost"]} == {
        (f"{accuracy}, against {axis}", spent)
        for accuracy in ("while training, knn top-1 %, val", "knn top-1 %, val")
        for axis, spent in (("FLOPs", 1e12), ("seconds", 60.0))
    }


def test_groups_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    same = {"a": 1, "b": 1, "c": 1, "d": 1}
    for rate in (1, 2):
        for views in (1, 2):
            fake(
                tmp_path / f"{rate}{views}",
                0,
                **(same | {"e": views, "f": 7 - views, "g": 3 * views, "h": -views, "z": rate}),
            )
    named = labels([look(folder) for folder in run_folders(str(tmp_path))])
    assert sorted(named.values()) == [f"simclr-convnet-digits (e {e}, z {z})" for e in (1, 2) for z in (1, 2)]


def test_a_run_that_is_being_written_says_so(tmp_path: Path) -> None:
    run = RunFolder(fake(tmp_path, 0, status="running"))
    assert look(run.path).problem == "has not finished"
    with run.lock():
        assert look(run.path).problem == "is running"
    assert look(run.path).problem == "has not finished"


def test_a_failed_run_shows_its_last_message(command: Command, tmp_path: Path) -> None:
    words = [*TINY, "health=default", "callbacks.health.floor=1000", "callbacks.health.patience=1", "paths.out=runs"]
    failed = command("train", *words)
    assert failed.returncode == 2, failed.stderr
    run = find_run(tmp_path / "runs" / "train")
    said = "ValueError: the features have collapsed: after epoch 1"
    assert run.record["last_error"].startswith(said)
    assert look(run.path).problem.startswith(said)
    for written in (runs_page([run.path], tmp_path / "page.html"), run_page(run, [])):
        assert said in html.unescape(written)


def test_a_job_that_was_killed_shows_what_it_said_last(tmp_path: Path) -> None:
    run = fake(tmp_path, 0, status="running")
    page = runs_page([run], tmp_path / "page.html", {str(run): "epoch 3/7", "seed=1": "error: seed=1"})
    assert f"<td>{run}</td><td>has not finished; last: epoch 3/7</td>" in page
    assert "<td>seed=1</td><td>error: seed=1</td>" in page


def test_a_folder_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    run = fake(tmp_path, 0)
    (run / "config.yaml").write_text("method: 3\n")
    assert look(run).problem.startswith("damaged")
    (run / "config.yaml").write_text("\tno yaml")
    assert look(run).problem.startswith("damaged")


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    fake(tmp_path, 0, note=SCRIPT)
    fake(tmp_path, 0, note="other")
    text = runs_page(run_folders(str(tmp_path)), tmp_path / "report.html")
    assert SCRIPT not in text
    assert "alert(1)" in text
    assert SCRIPT not in page(SCRIPT, [(SCRIPT, table([SCRIPT], []))], {"x": SCRIPT})


def test_a_pattern_without_runs_tells_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(ValueError, match=r"cifar/\*: no run there; .*cifar10"):
        run_folders(str(tmp_path / "cifar" / "*"))


def test_a_curve_keeps_its_ends_when_it_is_thinned() -> None:
    points = [(float(i), 0.0) for i in range(1000)]
    assert thinned(points, 10)[0] == (0.0, 0.0)
    assert thinned(points, 10)[-1] == (999.0, 0.0)
    assert len(thinned(points, 10)) == 10
    assert thinned(points[:5], 10) == points[:5]


def test_the_gallery_finds_the_nearest_and_places_its_thumbnails() -> None:
    class Labelled:
        def __init__(self, images: torch.Tensor):
            self.images, self.labels = images, torch.arange(len(images)) % 2

        def __len__(self) -> int:
            return len(self.images)

        def gather(self, index: torch.Tensor) -> torch.Tensor:
            return self.images[index]

        def subset(self, index: torch.Tensor) -> "Labelled":
            return Labelled(self.images[index])

    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sets = Sets(Labelled(images), Labelled(images), Labelled(images), Labelled(images), ["even", "odd"])
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity())
    encoder.forward = lambda x: x.flatten(1).float()  # type: ignore[method-assign]
    found = gallery(Subject(encoder, sets, torch.device("cpu")), images=25, queries=3, neighbours=2, side=8)
    assert len(found.figures["x"]) == 25
    assert 0 <= min(found.figures["y"]) <= max(found.figures["y"]) <= 1
    sheet = found.pictures["neighbours"]
    assert sheet.shape == (3, 3 * 8, 3 * 8)
    for row in range(3):  # the sets are the same images, so each is its own nearest neighbour
        assert torch.equal(sheet[:, 8 * row : 8 * row + 8, :8], sheet[:, 8 * row : 8 * row + 8, 8:16])
    assert torch.equal(contact_sheet(images[:5], 8, 2)[:, 8:16, 8:16], images[3])
