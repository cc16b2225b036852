"""`python -m ssl_lab.search key=value,value 'key=interval(low,high)' …`: settings that do best on validation."""

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import reduce
from operator import getitem
from typing import Any

from ssl_lab import cli, recipes
from ssl_lab.arguments import Range, axis, is_swept, parse
from ssl_lab.config import ConfigError, check
from ssl_lab.schemas import SCHEMAS

USAGE = """usage: ssl-lab search [group=option …] [key=value …] key=a,b,c 'key=interval(low,high)' … [search.trials=20]

  Trains with values out of these lists and ranges, chosen by what did well before, stops those below the median of the
  others, and ranks them by a figure of validation. 'tag(log, interval(1e-4,1e-2))' is a range over powers of ten;
  of a key that must be whole, such as data.batch_size, a range between whole numbers holds these alone.
  The same command goes on where it was stopped. Needs optuna: pip install 'ssl_lab[search]'.
"""


def main(words: Sequence[str]) -> None:
    """Search over the words that hold several values. Raises ConfigError with all that is wrong."""
    if {"--help", "-h"} & set(words):
        sys.stdout.write(USAGE)
        return
    config, told, axes = planned(words)

    from ssl_lab.study import study

    study(config, told, axes)


def planned(words: Sequence[str]) -> tuple[dict[str, Any], list[str], dict[str, list[str] | Range]]:
    """The checked configuration with the first of the values, what every run is told, and what is searched."""
    line = parse(words)
    if line.flags:
        raise ConfigError([f"{' '.join(line.flags)}: search takes no flags; lists of values are searched as they are"])
    swept = [word for word in line.overrides if is_swept(word)]
    fixed = [word for word in line.overrides if word not in swept]
    if not swept:
        raise ConfigError(["nothing to search: give a key several values, as in method.optim.lr=1e-3,1e-2"])
    axes = {word.partition("=")[0]: axis(word) for word in swept}
    example = [f"{key}={choices[0] if isinstance(choices, list) else choices.low}" for key, choices in axes.items()]
    if own := [key for key in axes if key.startswith("search.")]:
        raise ConfigError([f"{key}: says how to search, and takes one value" for key in own])
    config = recipes.compose("search", [*fixed, *example], line.folder)[0]
    problems: list[str] = []
    for place, (key, choices) in enumerate(axes.items()):
        for choice in choices[1:] if isinstance(choices, list) else []:
            other = [*example[:place], f"{key}={choice}", *example[place + 1 :]]
            try:
                recipes.compose("search", [*fixed, *other], line.folder)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    for key, choices in axes.items():
        if isinstance(choices, Range) and takes_fractions(key, config):
            axes[key] = choices._replace(low=float(choices.low), high=float(choices.high))
    where = [] if line.folder is None else [f"--config-dir={line.folder}"]
    return config, [*where, *(word for word in fixed if not word.startswith("search."))], axes


def takes_fractions(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a key may hold a number that is not whole, which the check of a configuration knows."""
    changed = deepcopy(dict(config))
    *parents, leaf = key.lstrip("+").split(".")
    reduce(getitem, parents, changed)[leaf] = 0.5
    return not check(changed, SCHEMAS["search"])


if __name__ == "__main__":
    with cli.messages():
        main(sys.argv[1:])
