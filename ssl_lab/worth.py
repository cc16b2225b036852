"""`python -m ssl_lab.worth data.root=…`: is pretraining worth it on these images?"""

from typing import Any


def run(config: dict[str, Any], _choices: dict[str, Any]) -> None:
    """Called once the configuration stands; torch comes in here, so that an error before needs no second."""
    import sys

    from ssl_lab.arguments import parse
    from ssl_lab.verdict import verdict

    line = parse(sys.argv[1:])
    words = [word for word in line.overrides if not word.startswith("worth.")]
    recipe = [] if any(word.startswith("experiment=") for word in words) else ["experiment=worth"]
    verdict(config, [*recipe, *words], line.folder)


if __name__ == "__main__":
    from ssl_lab import cli

    cli.enter("worth", run)
