"""From a folder of images to an answer: what pretraining on them is worth, at few labels and at all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_lab import recipes
from ssl_lab.arguments import override
from ssl_lab.config import ConfigError
from ssl_lab.figures import per_cent
from ssl_lab.gains import Row, answer, rows_of
from ssl_lab.known import about
from ssl_lab.pages import worth_page
from ssl_lab.records import RunFolder, asked_of, baseline_results, read_ledger, read_results
from ssl_lab.say import say
from ssl_lab.sheet import as_markdown, write
from ssl_lab.slots import Commands, Slots, report

HIDDEN = ("cache", "source", "search", "_target_")  # of a run's data: what its option or the paths say


def verdict(config: dict[str, Any], words: list[str], folder: Path | None = None) -> None:
    """Pretrain on these images, compare at each amount of labels, and say which to use; what stands is not repeated.

    words: what `train` is told. folder: of the user's own options. Results go to the folder `worth` of the run.
    ConfigError for what cannot be compared.
    """
    check(config["worth"])
    own = [] if folder is None else [f"--config-dir={folder}"]
    places = [override(f"paths.{key}", value) for key, value in config["paths"].items()]
    run = pretrained([*own, *words], Path(config["paths"]["out"]))
    labelled = run.record["data"]["classes"] > 0
    jobs = list(comparisons(run, config, places, own) if labelled else looks(run, places))
    say(f"{run.path}: {len(jobs)} evaluations")
    slots = Slots(config["worth"]["at_once"], run.path / "worth")
    if code := report(slots, slots.run(jobs)):
        raise SystemExit(code)
    if labelled:
        tell_gains(run, config["worth"]["amounts"], results(run, config, asked_by(jobs, folder)))
    else:
        say(
            "These images have no labels, so nothing can be said of quality: see the map, the neighbours, the clusters "
            f"and the health figures in\n{run.path / 'report.html'}"
        )


def check(asked: Mapping[str, Any]) -> None:
    """Raises ConfigError with all that nothing can be compared by, before anything is learned."""
    problems = [
        f"worth.amounts holds {amount:g}; allowed: shares of the labels between 0 and 1, such as [0.01,0.1]"
        for amount in asked["amounts"]
        if not 0 < amount < 1
    ]
    if not asked["rates"]:
        problems.append("worth.rates is empty; give at least one, such as worth.rates=[0.01,0.1]")
    if problems:
        raise ConfigError(problems)


def pretrained(words: list[str], out: Path) -> RunFolder:
    """The finished run of these images, made now where there is none."""
    slots = Slots(1, out / "worth" / "logs")
    outcomes = slots.run([Commands("pretraining", [["train", *words]])])
    code = report(slots, outcomes)
    if code or outcomes[0].folder is None:
        raise SystemExit(code or 1)
    return RunFolder(outcomes[0].folder)


def comparisons(run: RunFolder, config: Mapping[str, Any], places: list[str], own: list[str]) -> Iterator[Commands]:
    """The evaluations of an encoder, of random weights beside it, and of weights from a file; the longest first."""
    asked = config["worth"]
    of_run = ["evaluate", override("run", run.path), *places]
    tuned = [*of_run, "protocol=finetune", "baselines=[random_weights]", f"protocols.finetune.rates={asked['rates']}"]
    tuned += [f"protocols.finetune.{key}={asked[key]}" for key in ("epochs", "batch_size", "min_steps")]
    linear = ["protocol=[few_label,logistic]"]
    linear += [f"protocols.few_label.{key}={asked[key]}" for key in ("amounts", "draws")]
    yield Commands("fine-tuning, all labels", [tuned])
    for amount in sorted(asked["amounts"], reverse=True):
        for draw in range(asked["draws"]):
            subset = [f"protocols.finetune.amount={amount}", f"protocols.finetune.draw={draw}"]
            yield Commands(f"fine-tuning, {100 * amount:g} %, draw {draw}", [[*tuned, *subset]])
    beside = "baselines=[raw_pixels,random_weights]"
    looked = [*of_run, "protocol=[gallery,duplicates]"]
    yield Commands("linear", [[*of_run, *linear, beside], looked, ["report", override("run", run.path), *places]])
    if weights := weights_words(asked):
        data = [f"data={run.record['choices']['data']}", *data_words(run.config["data"])]
        kept = f"save={others(run).with_suffix('.md')}"
        yield Commands("other weights", [["evaluate", *own, *weights, *data, *linear, kept, *places]])


def others(run: RunFolder) -> Path:
    """The lines of the weights that others trained."""
    return run.path / "worth" / "weights.jsonl"


def weights_words(asked: Mapping[str, Any]) -> list[str]:
    """What names the weights that others trained, where there are any to compare with."""
    if asked["weights"] is not None:
        return [override("weights", asked["weights"]), f"backbone={asked['weights_backbone']}", "units=imagenet"]
    if asked["timm"] is not None:
        return ["backbone=timm", f"method.backbone.name={asked['timm']}", "method.backbone.pretrained=true"]
    return []


def data_words(node: Mapping[str, Any]) -> list[str]:
    """What a run was told of its data, as words for another command."""
    return [override(f"data.{key}", value) for key, value in node.items() if key not in HIDDEN and value is not None]


def looks(run: RunFolder, places: list[str]) -> Iterator[Commands]:
    """What can be looked at without labels."""
    protocols = "protocol=[health,gallery,duplicates]"
    looked = ["evaluate", override("run", run.path), protocols, "baselines=[random_weights]", *places]
    yield Commands("looking", [looked, ["report", override("run", run.path), *places]])


def asked_by(jobs: Sequence[Commands], folder: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """What the evaluations ask of each protocol, so that results of other settings are left out."""
    commands = [words for job in jobs for command, *words in job.lines if command == "evaluate"]
    told = [[word for word in words if not word.startswith("--")] for words in commands]
    nodes = [node for words in told for node in recipes.compose("evaluate", words, folder)[0]["protocols"].items()]
    return [(protocol, asked_of(node)) for protocol, node in nodes]


def results(run: RunFolder, config: Mapping[str, Any], asked: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What was found on these images: of the run, of baselines, of weights from a file."""
    data = run.record["data"]
    baselines, _ = baseline_results(Path(config["paths"]["out"]))
    found = [line for line in baselines if about(line, {"config": run.config, "data": data})]
    found += read_ledger(others(run)) if weights_words(config["worth"]) else []
    found += [line for line in read_results(run.results_file) if not line["name"].endswith(", recalibrated")]
    mine = [line for line in found if line["split"] == "test" and line["data"] == data]
    return [line for line in mine if (line["protocol"], line["asked"]) in asked]


def tell_gains(run: RunFolder, amounts: list[float], lines: list[dict[str, Any]]) -> None:
    """The table, the page with its plot, and the answer in words."""
    rows = rows_of(lines, amounts, int(run.record["data"]["train"]))
    said = [*answer(rows), *warnings(lines)]
    cells = table(rows)
    text = "\n\n".join([as_markdown(cells), *said]) + "\n"
    write(run.path / "worth" / "worth", cells, text)
    page = run.path / "worth" / "worth.html"
    page.write_text(worth_page(run, rows, said))
    say(f"\n{text}\n{page}: open it in a browser")


def table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A line a row, a column an amount of labels: per cent, and the deviation over draws."""
    lines = []
    for row in rows:
        cells = {"encoder": row.name}
        for point in row.points:
            deviation = point.deviation if point.draws > 1 else None
            cells[f"{point.share} ({point.labels:,} labels)"] = per_cent(point.accuracy, deviation)
        lines.append(cells)
    return lines


def warnings(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader should know of the set before believing the figures."""
    said = []
    foreign = next((line for line in lines if "preprocessing" in line["trained_by"]), None)
    if foreign:
        said.append(
            f"{foreign['name']} saw the pictures as all rows did, at {foreign['data']['store_size']} px: weights that "
            "were trained on larger ones know more of larger ones, see data.store_size"
        )
    twins = next((line for line in reversed(lines) if line["protocol"] == "duplicates"), None)
    if twins and twins["figures"]["count"]:
        figures = twins["figures"]
        said.append(
            f"{figures['count']:,} test images ({100 * figures['share']:.1f} %) have a near-duplicate among the "
            "training images, which flatters every row: if your pictures come in series, divide them by group, with "
            "data.group_by=<regular expression on the names>"
        )
    counted = next((line for line in reversed(lines) if line["figures"].get("confusion")), None)
    if counted:
        sizes = [sum(row) for row in counted["figures"]["confusion"]]
        if max(sizes) >= 3 * max(1, min(sizes)):
            said.append(
                f"The classes are uneven: the largest has {max(sizes)} test images, the smallest {min(sizes)}; look at "
                "macro-F1 and the figures of each class in the report"
            )
    return said
