"""`python -m ssl_lab.table`: make the runs a table needs, and print it."""

import re
import sys
from collections.abc import Sequence
from typing import Any

from ssl_lab import cli


def main(words: Sequence[str]) -> None:
    """As other commands; `--plan` is short for plan=true, and words=[trainer=ddp] needs no further quotes."""
    sys.argv[1:] = ["plan=true" if word == "--plan" else quoted(word) for word in words]
    cli.enter("table", run)


def quoted(word: str) -> str:
    """`words=[a=b,c=d]` as Hydra has it: each of the words a text."""
    plain = re.fullmatch(r"words=\[([^\[\]'\"]+)\]", word)
    return word if plain is None else "words=[{}]".format(",".join(f'"{one.strip()}"' for one in plain[1].split(",")))


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands."""
    from ssl_lab.arguments import parse
    from ssl_lab.tabulate import tabulate

    tabulate(config, parse(sys.argv[1:]).folder)


if __name__ == "__main__":
    main(sys.argv[1:])
