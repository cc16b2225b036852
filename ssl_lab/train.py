"""`python -m ssl_lab.train`: pretrain an encoder; the same command resumes it, and skips it when finished."""

from typing import Any


def run(config: dict[str, Any], choices: dict[str, Any]) -> None:
    """Called once the configuration stands; torch comes in here, so that an error before needs no second."""
    from ssl_lab.pretrain import pretrain

    pretrain(config, choices)


if __name__ == "__main__":
    from ssl_lab import cli

    cli.enter("train", run)
