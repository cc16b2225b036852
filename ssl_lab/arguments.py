"""The command line taken apart: Hydra's flags, the user's own folder of options, and what is left to compose."""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from ssl_lab.config import ConfigError
from ssl_lab.say import near

# What Hydra's own flags take: nothing, or a word.
_FLAGS = {
    "--help": 0, "-h": 0, "--multirun": 0, "-m": 0, "--resolve": 0,
    "--cfg": 1, "-c": 1, "--package": 1, "-p": 1, "--info": 1, "-i": 1, "--config-dir": 1, "-cd": 1,
}  # fmt: skip


class Line(NamedTuple):
    """A command line taken apart."""

    overrides: list[str]
    flags: list[str]  # Hydra's, with their words; not the folder of recipes
    folder: Path | None  # `--config-dir`: the user's own options, beside ours

    def jobs(self) -> Iterator[list[str]]:
        """The overrides of one job, then of one for each further value of a sweep: enough to meet every value once."""
        if not {"--multirun", "-m"} & set(self.flags):
            yield self.overrides
            return
        parsed = [_parse_override(text) for text in self.overrides]
        values = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [text]
            for o, text in zip(parsed, self.overrides, strict=True)
        ]
        for job in zip_longest(*values):
            yield [value or first for value, (first, *_) in zip(job, values, strict=True)]


class Range(NamedTuple):
    """All numbers between two, of a search; the whole ones alone where both are of type int."""

    low: float
    high: float
    log: bool  # evenly spaced by powers, not by amounts


def is_swept(override: str) -> bool:
    """Whether an override holds several values."""
    return bool(_parse_override(override).is_sweep_override())


def axis(override: str) -> list[str] | Range:
    """The values of an override as words, or the range, whole where its ends are. Raises ConfigError for neither."""
    parsed = _parse_override(override)
    if not parsed.is_interval_sweep():
        return [str(value) for value in parsed.sweep_string_iterator()]
    value = parsed.value()
    low, high, log = float(value.start), float(value.end), "log" in value.tags
    if not low < high or (log and low <= 0):
        raise ConfigError([f"{override}: a range goes up, and one over powers begins above 0"])
    whole = low.is_integer() and high.is_integer()
    return Range(int(low), int(high), log) if whole else Range(low, high, log)


def _parse_override(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError([f"{text}: not of the form key=value,value ({error}); quote what holds brackets"]) from None


def _each_set(override: str) -> list[str]:
    """`sets=[a,b]` as Hydra says it: the option `a` of the group `data`, placed at `sets.a`, and `b` likewise."""
    named = re.fullmatch(r"sets=\[?([\w,\s]+)\]?", override)
    return [f"+data@sets.{name}={name}" for name in re.findall(r"\w+", named[1])] if named else [override]


def _at_home(override: str) -> str:
    """`key=~/…` with the home folder: not every shell writes it there, and Hydra does not know the sign."""
    key, given, value = override.partition("=")
    return f"{key}={Path(value).expanduser()}" if given and re.match(r"~(/|$)", value) else override


def parse(arguments: Sequence[str]) -> Line:
    """Overrides, flags and folder of a command line. Raises ConfigError for a flag that does not exist."""
    overrides, flags, folder = [], [], None
    rest = iter(arguments)
    for argument in rest:
        flag, given, word = argument.partition("=")
        if not argument.startswith("-"):
            overrides += _each_set(_at_home(argument))
            continue
        if flag not in _FLAGS:
            raise ConfigError([f"{argument}: no such flag; {near(flag, list(_FLAGS))}"])
        words = ([word] if given else [next(rest, "")]) if _FLAGS[flag] else []
        if flag in ("--config-dir", "-cd"):
            folder = Path(words[0]).absolute()
            if not words[0] or not folder.is_dir():
                raise ConfigError(
                    [f"--config-dir={words[0]}: no such folder; give one that holds experiment/<name>.yaml"]
                )
        else:
            flags += ["--help" if flag == "-h" else flag, *words]
    one_of = [flag for flag in flags if flag in ("--multirun", "-m", "--cfg", "-c", "--info", "-i")]
    if len(one_of) > 1:
        raise ConfigError([f"{' '.join(one_of)}: give one of them; a sweep is shown job by job without --multirun"])
    return Line(overrides, flags, folder)


def override(key: str, value: Any) -> str:
    """`key=value` as a command takes it; text is quoted, since paths and patterns may hold commas and brackets."""
    return f"{key}=" + ("'" + str(value).replace("'", "\\'") + "'" if isinstance(value, str | Path) else str(value))
