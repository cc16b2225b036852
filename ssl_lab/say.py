"""What a command says to its user."""

import sys


def say(text: str) -> None:
    """A line to standard output, at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
