"""`python -m ssl_lab.export`: an encoder's weights by the names that other libraries read."""

from typing import Any


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands; torch comes in here, so that an error before needs no second."""
    from ssl_lab.handover import handover

    handover(config)


if __name__ == "__main__":
    from ssl_lab import cli

    cli.enter("export", run)
