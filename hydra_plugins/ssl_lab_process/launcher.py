"""Hydra's launcher `process`: each job of a sweep is a fresh process, and a failed one does not stop the rest."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf


@dataclass
class ProcessLauncherConf:
    """`hydra.launcher.<key>`; see `ProcessLauncher`."""

    _target_: str = "hydra_plugins.ssl_lab_process.launcher.ProcessLauncher"
    slots: int | None = None
    fail_fast: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="process", node=ProcessLauncherConf, provider="ssl_lab")


def sweep_name(words: Sequence[str]) -> str:
    """A sweep's folder, and so its group in W&B: the same when the same command goes on with it."""
    chosen = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    experiment = chosen[-1] if chosen and "," not in chosen[-1] else "train"
    return f"{experiment}-sweep-{hashlib.sha256(repr(list(words)).encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)


class ProcessLauncher(Launcher):
    """Runs the jobs of `--multirun` side by side, and compares them; exits with 1 and the list when some have failed.

    slots: jobs at a time; null for as many as the GPUs allow, or two for want of any. fail_fast: whether the jobs that
    have not started stay so once one has failed. The same command goes on where an interrupted sweep stood.
    """

    def __init__(self, slots: int | None = None, fail_fast: bool = False):
        self.slots, self.fail_fast = slots, fail_fast
        self.config: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ssl_lab.say import say  # only now: Hydra imports all plugins, and this one is to be quick
        from ssl_lab.slots import Commands, Slots, report, slots_for

        searched = [f"--config-dir={path}" for path in user_folders(self.config)]
        command = str(self.config.hydra.job.config_name)  # commands are called as their contents pages
        once = list(dict.fromkeys(map(tuple, job_overrides)))  # seed=0,0 asks for one run
        jobs = [Commands(name_of(words, once), [[command, *searched, *words]]) for words in once]
        folder = Path(str(self.config.hydra.sweep.dir))
        count = slots_for(self.config.trainer.devices) if self.slots is None else self.slots
        slots = Slots(count, folder / "logs", fail_fast=self.fail_fast)
        os.environ.setdefault("WANDB_RUN_GROUP", folder.name)
        outcomes = slots.run(jobs)
        code = report(slots, outcomes)
        if not slots.asked and command == "train":
            compare(outcomes, folder)
        elif not slots.asked:
            say(f"what each has said: {slots.logs}")
        if code:
            raise SystemExit(code)
        return [JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=None) for words in job_overrides]


def compare(outcomes: Sequence[Any], to: Path) -> None:
    """Say which settings did best on validation, and write the page of the sweep, where there is a run to show."""
    folders = [outcome.folder for outcome in outcomes if outcome.folder]
    failed = {str(outcome.folder or outcome.name): outcome.last_line for outcome in outcomes if outcome.code}
    if not folders:
        return
    from ssl_lab.pages import ranking, runs_page, write_pages
    from ssl_lab.records import baseline_results
    from ssl_lab.say import say

    if lines := ranking(folders):
        say("\n".join(["kNN on validation, %:", *lines]))
    else:
        say("no ranking: no run has val/knn_top1, which probe=none leaves out")
    write_pages(folders, baseline_results(folders[0].parent.parent)[0])
    (to / "report.html").write_text(runs_page(folders, to / "report.html", failed))
    say(f"page  {to / 'report.html'}")


def name_of(words: Sequence[str], jobs: Sequence[Sequence[str]]) -> str:
    """What tells a job from the others of its sweep."""
    own = [word for word in words if not all(word in other for other in jobs)]
    return " ".join(own) or " ".join(words) or "as configured"


def user_folders(config: Any) -> list[str]:
    """The folders that the user gave with `--config-dir`."""
    return [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
