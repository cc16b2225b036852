"""`python -m ssl_lab.resume RUN [key=value …]`: go on with an interrupted run, from its folder alone."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_lab import cli
from ssl_lab.config import ConfigError, check
from ssl_lab.say import near
from ssl_lab.schemas import Train

USAGE = """usage: ssl-lab resume RUN [key=value …]

  Goes on with an interrupted run from its newest whole checkpoint. Keys that do not change the result may be given:
  trainer.devices, trainer.launcher, trainer.accelerator, trainer.checkpoint_minutes, paths.data, callbacks, loggers …
"""
FREE = re.compile(
    r"trainer\.(accelerator|devices|launcher|memory_format|log_every_n_steps|checkpoint_minutes|keep_checkpoints)"
    r"|paths\.(data|cache)|data\.(root|search|cache|max_unreadable)|callbacks(\..*)?|loggers(\..*)?"
)
PLACES = {"paths.data": "search", "paths.cache": "cache"}


def main(words: Sequence[str]) -> None:
    """Resume the run that the first word names. Raises ConfigError and ValueError with what is wrong."""
    if not words or {"--help", "-h"} & set(words):
        sys.stdout.write(USAGE)
        return
    path, *changes = words
    folder = Path(path.removeprefix("run="))
    if not (folder / "run.json").exists():
        raise ConfigError([f"{folder}: no run there; give the folder that `ssl-lab train` printed"])
    config = changed(yaml.safe_load((folder / "config.yaml").read_text()), changes)
    config["paths"]["out"] = str(folder.parent.parent)

    from ssl_lab.pretrain import resume  # torch comes in here, when the command line stands

    resume(config, folder)


def changed(config: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The configuration with some keys set. Raises ConfigError listing those that would make it another run."""
    problems = []
    for change in changes:
        key, given, value = change.partition("=")
        *groups, leaf = key.split(".")
        holder: Any = config
        for group in groups:
            holder = holder.get(group) if isinstance(holder, dict) else None
        if not given or not isinstance(holder, dict) or leaf not in holder:
            known = list(holder) if isinstance(holder, dict) else list(config)
            problems.append(f"{change}: no such key; {near(leaf, known)}")
        elif not FREE.fullmatch(key):
            problems.append(f"{change}: would make it another run; start one with `python -m ssl_lab.train …`")
        else:
            holder[leaf] = yaml.safe_load(value)
            if key in PLACES:  # the data's own, which was resolved when the run began
                config["data"][PLACES[key]] = holder[leaf]
    if problems := problems or check(config, Train):
        raise ConfigError(problems)
    return config


if __name__ == "__main__":
    with cli.messages():
        main(sys.argv[1:])
