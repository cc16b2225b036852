"""From the options of `conf/` and a command line to a checked configuration; torch is not imported for it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_lab.config import ConfigError, check
from ssl_lab.say import near
from ssl_lab.schemas import SCHEMAS
from ssl_lab.signatures import PACKAGE


def conf() -> Path:
    """The folder of the yaml files: inside an installed wheel, else beside the package."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


def options(folder: Path | None = None) -> dict[str, list[str]]:
    """The option files of each group in `conf/`, and in the user's folder where there is one."""
    groups: dict[str, list[str]] = {}
    for place in (conf(), *([] if folder is None else [folder])):
        for file in sorted(place.rglob("*.yaml")):
            if file.parent != place and not file.stem.startswith("_"):
                groups.setdefault(file.parent.relative_to(place).as_posix(), []).append(file.stem)
    return {group: found for group, found in groups.items() if not group.startswith("hydra/")}  # which has more itself


def compose(name: str, overrides: list[str], folder: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checked configuration as plain containers, and which option was chosen of each group.

    folder: of the user's own options, beside those of `conf/`. Raises ConfigError with all problems.
    """
    try:
        with plainly():
            config = _compose(name, overrides, folder)
            choices = dict(config.hydra.runtime.choices)
            return checked(name, config), choices
    except ConfigError:
        refuse(override_problems(name, overrides, folder))  # Hydra names the first alone, and nothing near it
        raise


def checked(name: str, config: Any) -> dict[str, Any]:
    """A composed configuration, resolved and checked; `hydra` itself is left out."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        config.pop("hydra", None)
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]  # a mapping
    refuse(check(resolved, SCHEMAS[name]))
    for key in ("out", "data", "cache"):
        resolved["paths"][key] = os.path.expanduser(resolved["paths"][key])  # noqa: PTH111  # "~" only, kept as text
    return resolved


def override_problems(name: str, overrides: list[str], folder: Path | None = None) -> list[str]:
    """What is wrong with the command line itself: options that do not exist, keys that no part has."""
    groups = options(folder)
    problems, choices, values = [], [], []
    for override in overrides:
        match = re.fullmatch(r"(\+{0,2}|~)([\w./@-]+)(?:=(.*))?", override, re.DOTALL)
        if match is None or (match[3] is None and match[1] != "~"):
            problems.append(f"{override}: not of the form key=value; quote values that hold spaces or commas")
        elif re.match(r"[^'\"{[]+\{", re.sub(r"\$\{[^}]*\}", "", match[3] or "")):
            problems.append(
                f"{override}: braces want quotes twice, for the shell and for Hydra: '{match[2]}=\"{match[3]}\"'"
            )
        elif match[2].startswith("hydra/"):
            choices += [override]  # Hydra's own groups, and those of its plugins: it says itself what is wrong
        elif (group := match[2].partition("@")[0]) in groups:  # "@" says where the option is to stand
            chosen = [v for v in re.split(r"[\[\],\s]+", match[3] or "") if v not in ("", "null")]
            wrong = [v for v in chosen if v not in groups[group]]
            problems += [f"{group}={v}: no such option; {near(v, groups[group])}" for v in wrong]
            choices += [] if wrong else [override]
        elif not match[1]:
            values.append(match[2])
    if values:
        with plainly():
            problems += _key_problems(_compose(name, choices, folder), values, list(groups))
    return problems


def _key_problems(base: Any, keys: list[str], groups: list[str]) -> Iterator[str]:
    from omegaconf import OmegaConf

    for key in keys:
        parent, _, leaf = key.rpartition(".")
        holder = OmegaConf.select(base, parent) if parent else base
        if not OmegaConf.is_dict(holder) or leaf not in list(holder):
            yield f"{key}: no such key; {near(key, [*groups, *_keys(base)], otherwise='see --cfg job')}"


def _keys(config: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration, Hydra's own left out."""
    found = []
    for key in config:
        if f"{prefix}{key}" == "hydra":
            continue
        found.append(f"{prefix}{key}")
        node = config._get_node(key)
        if hasattr(node, "keys") and not node._is_none() and not node._is_interpolation():
            found += _keys(node, f"{prefix}{key}.")
    return found


def _compose(name: str, overrides: list[str], folder: Path | None) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    also = [] if folder is None else [f"hydra.searchpath=[file://{folder}]"]
    with initialize_config_dir(str(conf()), version_base="1.3"):
        return hydra_compose(name, [*overrides, *also], return_hydra_config=True)


@contextmanager
def plainly() -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise into one line of ours."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([_plain(str(error) or str(error.__cause__))]) from None


def _plain(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(problems)
