"""What a command says to its user."""

import difflib
import sys
from collections.abc import Sequence


def say(text: str) -> None:
    """A line to standard output, at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def near(word: str, allowed: Sequence[str], otherwise: str = "") -> str:
    """A clause that offers what `word` may have meant; `otherwise`, or else all there is, when nothing is near."""
    close = difflib.get_close_matches(word, allowed, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"there is: {', '.join(sorted(allowed)) or 'nothing'}"
