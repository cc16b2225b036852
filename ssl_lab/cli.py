"""From the command line to a checked configuration; torch is not imported before one stands."""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_lab.arguments import Line, parse
from ssl_lab.config import ConfigError, check, near
from ssl_lab.follow import follow
from ssl_lab.say import say
from ssl_lab.schemas import SCHEMAS
from ssl_lab.signatures import PACKAGE

Run = Callable[[dict[str, Any], dict[str, Any]], None]

COMMANDS = {
    "train": "pretrain an encoder; the same command resumes it, and skips it when finished",
    "resume": "go on with an interrupted run, from its folder alone",
    "evaluate": "measure a finished run under one or more protocols",
    "table": "make the runs that a table needs, and print it; --plan lists what is missing",
    "worth": "pretrain on your images, and say what that is worth at few labels and at all",
    "report": "write a page to look at, of one run or of many",
    "search": "look for the settings that do best on validation; hopeless trials are stopped",
    "sync": "push the W&B runs that were written offline",
    "dashboard": "make a W&B workspace that compares the methods",
    "shard": "write pictures into tar files, for sets larger than memory",
    "export": "write an encoder for torchvision, timm, transformers or ONNX, tried by them before it is kept",
}


def main() -> None:
    """`ssl-lab COMMAND …`: the same as `python -m ssl_lab.COMMAND …`."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        sys.argv = [f"{sys.argv[0]} {command}", *sys.argv[2:]]
        module = importlib.import_module(f"ssl_lab.{command}")
        if hasattr(module, "main"):  # takes words that are no overrides
            with messages():
                module.main(sys.argv[1:])
        else:
            enter(command, module.run)
    elif command in ("--help", "-h"):
        say("usage: ssl-lab COMMAND [group=option …] [key=value …]\n")
        say("\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items()))
        say("\nssl-lab COMMAND --help lists its groups and options.")
    else:
        _fail([f"ssl-lab {command}: no such command; {near(command, list(COMMANDS))}"])


def enter(name: str, run: Run) -> None:
    """Compose `conf/<name>.yaml` with the command line, check it, and call `run(config, choices)`.

    Exits with code 2 and one message that lists every problem; nothing has been written then.
    """
    follow()
    with messages():
        line = parse(sys.argv[1:])
        if "--help" in line.flags:
            say(help_text(name))
        elif line.flags:
            with _plainly():
                for overrides in line.jobs():
                    _refuse(override_problems(name, overrides, line.folder))
            _through_hydra(name, run, line)
        else:
            run(*compose(name, line.overrides, line.folder))


@contextmanager
def messages() -> Iterator[None]:
    """What our own code raises for the user ends the process with code 2 and the message alone."""
    try:
        yield
    except (ConfigError, ValueError, OSError) as error:
        if not _ours(error):
            raise
        _fail(str(error).splitlines())


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(problems)


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


def compose(name: str, overrides: list[str], folder: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checked configuration as plain containers, and which option was chosen of each group.

    folder: of the user's own options, beside those of `conf/`. Raises ConfigError with all problems.
    """
    try:
        with _plainly():
            config = _compose(name, overrides, folder)
            choices = dict(config.hydra.runtime.choices)
            return checked(name, config), choices
    except ConfigError:
        _refuse(override_problems(name, overrides, folder))  # Hydra names the first alone, and nothing near it
        raise


@contextmanager
def _plainly() -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise into one line of ours."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([_plain(str(error) or str(error.__cause__))]) from None


def checked(name: str, config: Any) -> dict[str, Any]:
    """A composed configuration, resolved and checked; `hydra` itself is left out."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        config.pop("hydra", None)
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]  # a mapping
    _refuse(check(resolved, SCHEMAS[name]))
    for key in ("out", "data", "cache"):
        resolved["paths"][key] = os.path.expanduser(resolved["paths"][key])  # noqa: PTH111  # "~" only, kept as text
    return resolved


def _compose(name: str, overrides: list[str], folder: Path | None) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    also = [] if folder is None else [f"hydra.searchpath=[file://{folder}]"]
    with initialize_config_dir(str(conf()), version_base="1.3"):
        return hydra_compose(name, [*overrides, *also], return_hydra_config=True)


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
        with _plainly():
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


def options(folder: Path | None = None) -> dict[str, list[str]]:
    """The option files of each group in `conf/`, and in the user's folder where there is one."""
    groups: dict[str, list[str]] = {}
    for place in (conf(), *([] if folder is None else [folder])):
        for file in sorted(place.rglob("*.yaml")):
            if file.parent != place and not file.stem.startswith("_"):
                groups.setdefault(file.parent.relative_to(place).as_posix(), []).append(file.stem)
    return {group: found for group, found in groups.items() if not group.startswith("hydra/")}  # which has more itself


def help_text(name: str) -> str:
    """Usage, and every group with its options."""
    primary = (conf() / f"{name}.yaml").read_text()
    used = re.findall(r"^  - (\w+):", primary, re.MULTILINE)
    lines = [
        f"usage: python -m ssl_lab.{name} [group=option …] [key=value …] [--multirun] [--cfg job] [--config-dir=DIR]",
        "",
    ]
    lines += [f"  {COMMANDS[name]}", "", "groups and their options:"]
    lines += [f"  {group:11} {' '.join(found)}" for group, found in options().items() if group in used]
    lines += ["", f"every key with its value: python -m ssl_lab.{name} --cfg job"]
    return "\n".join(lines)


def _through_hydra(name: str, run: Run, line: Line) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    def task(config: Any) -> None:
        run(checked(name, config.copy()), dict(HydraConfig.get().runtime.choices))

    also = [] if line.folder is None else ["--config-dir", str(line.folder)]
    sys.argv = [sys.argv[0], *line.flags, *also, *line.overrides]
    hydra.main(config_path=str(conf()), config_name=name, version_base="1.3")(task)()


def _plain(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _fail(problems: list[str]) -> None:
    sys.stderr.write("".join(f"{'error: ' if i == 0 else '       '}{text}\n" for i, text in enumerate(problems)))
    raise SystemExit(2)


logging.getLogger("hydra").setLevel(logging.WARNING)

if __name__ == "__main__":
    main()
