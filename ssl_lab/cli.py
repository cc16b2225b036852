"""From the command line to a checked configuration; torch is not imported before one stands."""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssl_lab.config import PACKAGE, ConfigError, Evaluate, Train, check, near

Run = Callable[[dict[str, Any], dict[str, Any]], None]

COMMANDS = {
    "train": "pretrain an encoder; the same command resumes it, and skips it when finished",
    "evaluate": "measure a finished run under one or more protocols",
}
_SCHEMAS = {"train": Train, "evaluate": Evaluate}


def main() -> None:
    """`ssl-lab COMMAND …`: the same as `python -m ssl_lab.COMMAND …`."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        sys.argv = [f"{sys.argv[0]} {command}", *sys.argv[2:]]
        enter(command, importlib.import_module(f"ssl_lab.{command}").run)
    elif command in ("--help", "-h"):
        _say("usage: ssl-lab COMMAND [group=option …] [key=value …]\n")
        _say("\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items()))
        _say("\nssl-lab COMMAND --help lists its groups and options.")
    else:
        _fail([f"ssl-lab {command}: no such command; {near(command, list(COMMANDS))}"])


def enter(name: str, run: Run) -> None:
    """Compose `conf/<name>.yaml` with the command line, check it, and call `run(config, choices)`.

    Exits with code 2 and one message that lists every problem; nothing has been written then.
    """
    arguments = sys.argv[1:]
    try:
        if "--help" in arguments or "-h" in arguments:
            _say(help_text(name))
        elif any(argument.startswith("-") for argument in arguments):
            _through_hydra(name, run)  # --multirun, --cfg, --info, --config-dir …
        else:
            run(*compose(name, arguments))
    except (ConfigError, ValueError, OSError) as error:
        if not _ours(error):
            raise
        _fail(str(error).splitlines())


def _ours(error: BaseException) -> bool:
    """Whether an error is a message for the user: raised by our own code, to be read without a traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = Path(trace.tb_frame.f_code.co_filename).resolve() if trace else PACKAGE
    return PACKAGE in raised_in.parents


def conf() -> Path:
    """The folder of the yaml files: inside an installed wheel, else beside the package."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


def compose(name: str, overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checked configuration as plain containers, and which option was chosen of each group.

    Raises ConfigError with all problems.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        problems = _override_problems(name, overrides)
        if problems:
            raise ConfigError(problems)
        config = _compose(name, overrides)
        choices = dict(config.hydra.runtime.choices)
        return checked(name, config), choices
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([_plain(str(error) or str(error.__cause__))]) from None


def checked(name: str, config: Any) -> dict[str, Any]:
    """A composed configuration, resolved and checked; `hydra` itself is left out."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        config.pop("hydra", None)
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    problems = check(resolved, _SCHEMAS[name])
    if problems:
        raise ConfigError(problems)
    for key in ("out", "data", "cache"):
        resolved["paths"][key] = os.path.expanduser(resolved["paths"][key])  # noqa: PTH111  # "~" only, kept as text
    return resolved


def _compose(name: str, overrides: list[str]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(conf()), version_base="1.3"):
        return hydra_compose(name, overrides, return_hydra_config=True)


def _override_problems(name: str, overrides: list[str]) -> list[str]:
    """What is wrong with the command line itself: options that do not exist, keys that no part has."""
    groups = options()
    problems, sound = [], []
    for override in overrides:
        match = re.fullmatch(r"(\+{0,2}|~)([\w./@-]+)(?:=(.*))?", override, re.DOTALL)
        if match is None or (match[3] is None and match[1] != "~"):
            problems.append(f"{override}: not of the form key=value; quote values that hold spaces or commas")
        elif match[2] in groups:
            chosen = [v for v in re.split(r"[\[\],\s]+", match[3] or "") if v not in ("", "null")]
            wrong = [v for v in chosen if v not in groups[match[2]]]
            problems += [f"{match[2]}={v}: no such option; {near(v, groups[match[2]])}" for v in wrong]
            sound += [] if wrong else [override]
    values = [o for o in overrides if re.match(r"[\w.]+=", o) and o.split("=", 1)[0] not in groups]
    if not values:
        return problems
    from omegaconf import OmegaConf

    base = _compose(name, sound)
    for override in values:
        key = override.split("=", 1)[0]
        parent, _, leaf = key.rpartition(".")
        holder = OmegaConf.select(base, parent) if parent else base
        if not OmegaConf.is_dict(holder) or leaf not in list(holder):
            known = [*groups, *_keys(base)]
            problems.append(
                f"{key}: no such key; {near(key, known) if near(key, known).startswith('did') else 'see --cfg job'}"
            )
    return problems


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


def options() -> dict[str, list[str]]:
    """The option files of each group in `conf/`."""
    groups: dict[str, list[str]] = {}
    for file in sorted(conf().rglob("*.yaml")):
        if file.parent != conf() and not file.stem.startswith("_"):
            groups.setdefault(file.parent.relative_to(conf()).as_posix(), []).append(file.stem)
    return groups


def help_text(name: str) -> str:
    """Usage, and every group with its options."""
    primary = (conf() / f"{name}.yaml").read_text()
    used = re.findall(r"^  - (\w+):", primary, re.MULTILINE)
    lines = [f"usage: python -m ssl_lab.{name} [group=option …] [key=value …] [--multirun] [--cfg job]", ""]
    lines += [f"  {COMMANDS[name]}", "", "groups and their options:"]
    lines += [f"  {group:11} {' '.join(found)}" for group, found in options().items() if group in used]
    lines += ["", f"every key with its value: python -m ssl_lab.{name} --cfg job"]
    return "\n".join(lines)


def _through_hydra(name: str, run: Run) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    def task(config: Any) -> None:
        run(checked(name, config.copy()), dict(HydraConfig.get().runtime.choices))

    hydra.main(config_path=str(conf()), config_name=name, version_base="1.3")(task)()


def _plain(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(problems: list[str]) -> None:
    sys.stderr.write("".join(f"{'error: ' if i == 0 else '       '}{text}\n" for i, text in enumerate(problems)))
    raise SystemExit(2)


logging.getLogger("hydra").setLevel(logging.WARNING)

if __name__ == "__main__":
    main()
