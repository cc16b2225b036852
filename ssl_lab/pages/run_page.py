"""One run on one page."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ssl_lab.figures import per_cent
from ssl_lab.pages.columns import Columns, as_read
from ssl_lab.pages.page import address, escape, facts, page, picture, place, table, thinned
from ssl_lab.pages.seen import UNREADABLE, reading
from ssl_lab.records import RunFolder, describe, duration, is_number, read_metrics, read_results

MOST_CLASSES = 30  # that a confusion matrix is drawn for
MOST_PAIRS = 20  # of classes, where there are more
HEALTH = {  # what each figure may be used for; see `ssl_lab.evaluation.health`
    "rankme": "the effective rank; compares runs of one method, not methods",
    "lidar": "the effective rank of what tells images apart, seen against their views",
    "alpha_req": "how fast the eigenvalues of the covariance fall",
    "alignment, uniformity": "describe the features that a contrastive loss works on",
    "deviation": "not near zero, it says that features have not collapsed, and no more",
}


def run_page(run: RunFolder, baselines: Iterable[Mapping[str, Any]]) -> str:
    """Curves, figures, health, the map and neighbours, confusions, views and previews of a run.

    baselines: evaluations of encoders that nobody trained; those on the same data stand beside the run's own.
    Raises ValueError naming the file that cannot be read.
    """
    with reading("run.json"):
        own = dict(run.record.get("data") or {})
    with reading("metrics.jsonl"):
        lines = read_metrics(run.metrics_file)
    with reading("results.jsonl"):
        all_results = read_results(run.results_file)
        results = [line for line in all_results if can_be_shown(line, own)]
    beside = [line for line in baselines if line["data"] == own]
    curves = charts(lines, ("train/", "val/"))
    health = charts(lines, ("health/",))
    seen = newest(results, "gallery")
    data: dict[str, Any] = {"curves": curves, "health": health}
    if seen and (run.pictures / "gallery_map.jpg").is_file():
        keys = ("x", "y", "label")
        data["map"] = {key: seen["figures"][key] for key in keys} | {
            "side": seen["settings"]["side"], "sheet": address(run.pictures / "gallery_map.jpg"),
        }  # fmt: skip
    previews = sorted(run.previews.glob("epoch_*.png"))
    sections = [
        ("Run", facts([*about(run), ("results left out, damaged", len(all_results) - len(results) or None)])),
        ("Figures", figures([*beside, *results], own)),
        ("Curves", place("curves", "charts") if curves else ""),
        ("Health, without labels", health_section() if health else ""),
        ("Map of the images", map_section(seen) if "map" in data else ""),
        ("Nearest neighbours", neighbours(run, seen)),
        ("Clusters", clusters(run, seen)),
        ("Confusion", confusion(results)),
        ("Views", picture(run.previews / "views.png", "each image and its views")),
        (
            "Answers",
            "".join(picture(file, file.stem) for file in dict.fromkeys((previews[0], previews[-1])))
            if previews
            else "",
        ),
        (
            "Configuration",
            f"<details><summary>all keys</summary><pre>{escape(yaml.safe_dump(run.config))}</pre></details>",
        ),
    ]
    return page(run.path.name, sections, data)


def write_pages(folders: Iterable[Path], baselines: Sequence[Mapping[str, Any]]) -> None:
    """Write the page of each finished run that has none since its last figure; one that is damaged goes without."""
    for folder in folders:
        run, to = RunFolder(folder), folder / "report.html"
        with suppress(*UNREADABLE):  # the page of many runs says what is wrong with it
            files = [file for file in (folder / "run.json", run.results_file) if file.exists()]
            newest_figure = max((file.stat().st_mtime for file in files), default=0.0)
            if run.finished and not (to.exists() and to.stat().st_mtime >= newest_figure):
                to.write_text(run_page(run, baselines))


def can_be_shown(line: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether a result is whole."""
    try:
        told = as_read(line, own)
    except UNREADABLE:
        return False
    return all(is_number(told["figures"][name]) for name in told["shown"])


def about(run: RunFolder) -> list[tuple[str, object]]:
    """What a run was, and what it took."""
    with reading("config.yaml"):
        record, config = run.record, run.config
        method, backbone = config["method"]["_target_"], config["method"]["backbone"]["_target_"]
    data = record.get("data", {})
    return [
        ("status", record.get("status")),
        ("last error", record.get("last_error") if record.get("status") != "finished" else None),
        ("method", method.rpartition(".")[2]),
        ("backbone", backbone.rpartition(".")[2]),
        ("data", f"{data.get('name')}, {data.get('pretrain', 0):,} images of {data.get('store_size')} px"),
        ("seed", record.get("seed")),
        ("time", duration(record["seconds"]) if "seconds" in record else None),
        ("views seen", f"{record['views_seen']:,}" if "views_seen" in record else None),
        ("FLOPs", f"{record['flops']:.3g}" if "flops" in record else None),
        ("commit", f"{record.get('commit')}{' with changes' if record.get('dirty') else ''}"),
        ("hardware", ", ".join(f"{key} {value}" for key, value in record.get("hardware", {}).items() if value)),
        ("command", shlex.join(record.get("command", []))),
    ]


def charts(lines: list[dict[str, Any]], prefixes: tuple[str, ...]) -> list[dict[str, Any]]:
    """One chart a metric: its points by step."""
    names = dict.fromkeys(name for line in lines for name in line if name.startswith(prefixes) and name != "val/knn_k")
    made = []
    for name in names:
        points = [(line["step"], line[name]) for line in lines if is_number(line.get(name))]
        if len(points) > 1:
            made.append({"title": name, "x": "step", "series": [{"name": name, "points": thinned(points, 400)}]})
    return made


def health_section() -> str:
    """What health figures read and what each may be used for, and the place of their charts."""
    note = "All read the backbone's pooled features, in evaluation mode and without labels. None of them is accuracy."
    return f"<p>{escape(note)}</p>{facts(HEALTH.items())}{place('health', 'charts')}"


def figures(results: list[Mapping[str, Any]], own: Mapping[str, Any]) -> str:
    """A row an encoder, a column a figure, and the settings that made them; 95 % intervals over the images.

    own: the data of the run; figures of other data, or of other settings, stand in columns of their own.
    """
    lines = [as_read(line, own) for line in results if line["figures"]]
    columns = Columns(lines)
    cells = {
        (line["name"], columns.of(line, name)): figure(line["figures"], name)
        for line in lines
        for name in line["shown"]
    }
    heads = list(dict.fromkeys(column for _, column in cells))
    rows = [
        [escape(encoder), *(cells.get((encoder, column), "") for column in heads)]
        for encoder in dict.fromkeys(line["name"] for line in lines)
    ]
    note = "Small: the 95 % interval over the images. ±: the standard deviation over draws of the labels."
    settings = "".join(f"<li>{escape(line)}</li>" for line in dict.fromkeys(map(describe, lines)))
    below = f"<p>{escape(note)}</p><details><summary>settings</summary><ul>{settings}</ul></details>"
    return table(["encoder", *map(str, heads)], rows) + below if rows else ""


def figure(found: Mapping[str, Any], name: str) -> str:
    """A figure in per cent, with its interval and its deviation over draws where there are some."""
    value, deviation = found.get(name), found.get(f"{name}, std")
    if value is None:
        return ""
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    interval = f" <small>{per_cent(low)} to {per_cent(high)}</small>" if low is not None and high is not None else ""
    return per_cent(value, deviation or None) + interval


def newest(results: list[dict[str, Any]], protocol: str) -> dict[str, Any] | None:
    """The last evaluation under a protocol."""
    return next((line for line in reversed(results) if line["protocol"] == protocol and line["figures"]), None)


def named(line: Mapping[str, Any]) -> str:
    """Of which encoder and which images a result is."""
    data = line.get("data") or {}  # older lines lack it
    return ", ".join([line["name"], *([data["name"]] if "name" in data else []), f"{line['split']} split; "])


def map_section(seen: Mapping[str, Any] | None) -> str:
    trust = seen["figures"]["trustworthiness"] if seen else 0
    note = f"t-SNE; hover for the picture. Trustworthiness {trust:.2f}; distances between groups say nothing."
    return f"<p>{escape(named(seen) if seen else '')}{escape(note)}</p>" + place("map", "map")


def neighbours(run: RunFolder, seen: Mapping[str, Any] | None) -> str:
    shown = picture(run.pictures / "gallery_neighbours.jpg", "test images and their nearest training images")
    return f"<p>Left a test image, then its nearest training images.</p>{shown}" if seen and shown else ""


def clusters(run: RunFolder, seen: Mapping[str, Any] | None) -> str:
    shown = picture(run.pictures / "gallery_clusters.jpg", "test images nearest to the middle of each cluster")
    return f"<p>A row a cluster of the test images: those nearest to its middle.</p>{shown}" if seen and shown else ""


def confusion(results: list[dict[str, Any]]) -> str:
    """The newest classification: a row a class, shares of it in per cent; of many classes the most confused pairs."""
    line = next((line for line in reversed(results) if line["figures"].get("confusion")), None)
    if line is None:
        return ""
    counted = line["figures"]["confusion"]
    names = line.get("class_names") or [str(i) for i in range(len(counted))]
    shares = [[100 * count / max(1, sum(counts)) for count in counts] for counts in counted]
    of = f"{line['protocol']}; {named(line)}"
    if len(names) > MOST_CLASSES:
        return of_many_classes(names, shares, of)
    rows = [[escape(name), *map(heat, own)] for name, own in zip(names, shares, strict=True)]
    return f"<p>{escape(of)}row: the class, column: what was said, in %.</p>" + table(["", *names], rows)


def of_many_classes(names: list[str], shares: list[list[float]], of: str) -> str:
    """The pairs of classes that are confused most, one way."""
    pairs = [(share, i, j) for i, own in enumerate(shares) for j, share in enumerate(own) if i != j and share > 0]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:MOST_PAIRS]
    note = f"{of}{len(names)} classes are too many for a matrix: the pairs that are confused most, in % of the class."
    rows = [[escape(names[i]), escape(names[j]), heat(share)] for share, i, j in worst]
    return f"<p>{escape(note)}</p>" + table(["class", "what was said", "%"], rows)


def heat(share: float) -> str:
    """Per cent on a ground as dark as it is much."""
    return f'<span class="heat" style="--share:{share / 100:.3f}">{share:.0f}</span>'
