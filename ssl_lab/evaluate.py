"""`python -m ssl_lab.evaluate`: measure a finished run, and baselines beside it."""

from typing import Any


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands; torch comes in here, so that an error before needs no second."""
    from ssl_lab.measure import measure

    measure(config)


if __name__ == "__main__":
    from ssl_lab import cli

    cli.enter("evaluate", run)
