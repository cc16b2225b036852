"""`python -m ssl_lab.table`: make the runs a table needs, and print it."""

import sys
from typing import Any


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands."""
    from ssl_lab.arguments import parse
    from ssl_lab.tabulate import tabulate

    tabulate(config, parse(sys.argv[1:]).folder)


if __name__ == "__main__":
    from ssl_lab import cli

    sys.argv = ["plan=true" if word == "--plan" else word for word in sys.argv]
    cli.enter("table", run)
