"""Files of one JSON value a line."""

import json
from pathlib import Path
from typing import Any


def read_lines(file: Path, text: str, remedy: str) -> list[dict[str, Any]]:
    """What each line of a file's text holds. ValueError names the file, the line and what to do about a damaged one."""
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}, line {number} is damaged ({error}): {remedy}") from None
    return lines
