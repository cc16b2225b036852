"""From the command line to a checked configuration; torch is not imported before one stands."""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_lab.arguments import Line, parse
from ssl_lab.config import ConfigError
from ssl_lab.follow import follow
from ssl_lab.recipes import checked, compose, conf, options, override_problems, plainly, refuse
from ssl_lab.say import near, say
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
            say(help_text(name, line.folder))
        elif line.flags:
            with plainly():
                for overrides in line.jobs():
                    refuse(override_problems(name, overrides, line.folder))
            _through_hydra(name, run, line)
        else:
            run(*compose(name, line.overrides, line.folder))


@contextmanager
def messages() -> Iterator[None]:
    """What is raised for the user ends the process with code 2 and the message alone.

    That is what our own code raises, and what the system says of a file. HYDRA_FULL_ERROR=1 shows where it came from.
    """
    try:
        yield
    except (ConfigError, ValueError, OSError) as error:
        of_a_file = isinstance(error, OSError) and error.filename is not None
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or not (of_a_file or _ours(error)):
            raise
        _fail(str(error).splitlines())


def _ours(error: BaseException) -> bool:
    """Whether an error is a message for the user: raised by our own code, to be read without a traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = Path(trace.tb_frame.f_code.co_filename).resolve() if trace else PACKAGE
    return PACKAGE in raised_in.parents


def help_text(name: str, folder: Path | None = None) -> str:
    """Usage, and every group with its options, the user's own among them."""
    used = groups_of(name)
    lines = [
        f"usage: python -m ssl_lab.{name} [group=option …] [key=value …] [--multirun] [--cfg job] [--config-dir=DIR]",
        "",
    ]
    lines += [f"  {COMMANDS[name]}", "", "groups and their options:"]
    lines += [f"  {group:11} {' '.join(found)}" for group, found in options(folder).items() if group in used]
    lines += ["", f"every key with its value: python -m ssl_lab.{name} --cfg job"]
    return "\n".join(lines)


def groups_of(name: str) -> list[str]:
    """The groups of a contents page, and of the page that it begins with."""
    page = (conf() / f"{name}.yaml").read_text()
    inside = [group for other in re.findall(r"^  - (?!_)(\w+)$", page, re.MULTILINE) for group in groups_of(other)]
    return [*inside, *re.findall(r"^  - (\w+):", page, re.MULTILINE)]


def _through_hydra(name: str, run: Run, line: Line) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    def task(config: Any) -> None:
        run(checked(name, config.copy()), dict(HydraConfig.get().runtime.choices))

    also = [] if line.folder is None else ["--config-dir", str(line.folder)]
    sys.argv = [sys.argv[0], *line.flags, *also, *line.overrides]
    hydra.main(config_path=str(conf()), config_name=name, version_base="1.3")(task)()


def _fail(problems: list[str]) -> None:
    sys.stderr.write("".join(f"{'error: ' if i == 0 else '       '}{text}\n" for i, text in enumerate(problems)))
    raise SystemExit(2)


logging.getLogger("hydra").setLevel(logging.WARNING)

if __name__ == "__main__":
    main()
