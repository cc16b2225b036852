"""The README is true: its commands work as far as they can be checked without running for minutes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from ssl_lab import recipes
from ssl_lab.arguments import parse
from ssl_lab.records import read_ledger, results_markdown
from ssl_lab.search import planned

TEXT = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROTOCOLS = sorted((ROOT / "docs" / "results" / "protocols").glob("*.jsonl"))
COMMANDS = sorted(set(re.findall(r"python -m ssl_lab\.(\w+) ([^\n`]*)", TEXT)))


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_commands_compose(name: str, arguments: str) -> None:
    if name == "search":
        planned(shlex.split(arguments))
        return
    words = [word for word in shlex.split(arguments, comments=True) if word not in ("--help", "--plan")]
    for overrides in parse(words).jobs():
        config, choices = recipes.compose(name, overrides)
        for key, value in (word.split("=", 1) for word in overrides):
            if key == "protocol":
                assert list(config["protocols"]) == re.findall(r"\w+", value)
            elif key in choices:
                assert str(choices[key]) == value
            elif key in config:
                assert config[key] == yaml.safe_load(value)


@pytest.mark.parametrize("ledger", PROTOCOLS, ids=lambda file: file.stem)
def test_the_tables_of_protocols_are_those_of_their_lines(ledger: Path) -> None:
    lines = read_ledger(ledger)
    _, table, _ = results_markdown(lines, lines[0]["title"]).split("\n\n")
    assert table in TEXT


def test_targets_exist() -> None:
    for target in set(re.findall(r"\bmake ([a-z][a-z0-9-]+)", TEXT)):
        if target not in ("targets", "and"):
            assert re.search(rf"^{target}:.*## ", MAKEFILE, re.MULTILINE), target


def test_places_exist() -> None:
    for cell in re.findall(r"^\| `([^|]+)` \|", TEXT, re.MULTILINE):
        for word in re.sub(r"`", "", cell).split():
            parent = "ssl_lab" if cell.startswith("ssl_lab/") and not word.startswith("ssl_lab/") else "."
            if re.fullmatch(r"[\w/]+(\.py|/)?", word) and cell.startswith(("ssl_lab", "conf")):
                place = ROOT / parent / word
                assert place.exists() or place.with_suffix(".py").exists(), word


def test_every_method_has_a_row() -> None:
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|.*arXiv|^\| ((?:`\w+` ?)+)\| ", TEXT, re.MULTILINE)
    named = {name for row in rows for cell in row for name in re.findall(r"`(\w+)`", cell)}
    assert set(recipes.options()["method"]) <= named
