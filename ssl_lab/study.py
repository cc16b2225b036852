"""Trials of a search: each a training run in a process of its own, watched while it runs."""

import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_lab.arguments import Range, override
from ssl_lab.figures import markdown
from ssl_lab.records import RunFolder, read_metrics
from ssl_lab.say import say
from ssl_lab.slots import Outcome, Processes, folder_named

POLL = 1.0  # seconds between looks at what a run has logged
Axes = Mapping[str, list[str] | Range]


def study(config: Mapping[str, Any], words: Sequence[str], axes: Axes) -> None:
    """Run trials until there are enough, and rank them; what stands in the study's folder is gone on with.

    words: what every run is told beside its own values.
    """
    asked = config["search"]
    folder = Path(config["paths"]["out"]) / "search" / asked["name"]
    with RunFolder(folder).lock():  # two at once would take each other's trials for stopped ones
        made = opened(asked, folder, words, axes)
        Search(made, folder, asked, [*words, override("paths.out", folder)], axes).run()


def opened(asked: Mapping[str, Any], folder: Path, words: Sequence[str], axes: Axes) -> Any:
    """The study of a folder, as optuna has it; trials that were stopped in the middle come first again.

    Values are chosen by TPE (Bergstra et al. 2011). A trial is stopped when its figure falls below the median of what
    others had at the same number of looks. Raises ValueError where the folder holds a search of other settings.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ValueError("search needs optuna: pip install 'ssl_lab[search]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = JournalFileBackend(str(folder / "trials.log"))
    made = optuna.create_study(
        study_name=asked["name"],
        storage=optuna.storages.JournalStorage(backend),
        sampler=optuna.samplers.TPESampler(seed=asked["seed"]),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=asked["startup"], n_warmup_steps=0),
        direction="maximize",
        load_if_exists=True,
    )
    given = {"words": sorted(words), "axes": {key: str(choices) for key, choices in axes.items()}}
    if made.user_attrs.get("given", given) != given:
        raise ValueError(
            f"search.name={asked['name']}: {folder} holds a search of other settings ({made.user_attrs['given']}): "
            "give this one another name, search.name=…"
        )
    made.set_user_attr("given", given)
    for trial in made.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # stopped in the middle, with us
        made.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        made.enqueue_trial(trial.params)
    return made


class Search:
    """The trials of one study, `at_once` at a time."""

    def __init__(self, made: Any, folder: Path, asked: Mapping[str, Any], words: list[str], axes: Axes):
        self.study, self.folder, self.asked, self.words, self.axes = made, folder, asked, words, axes
        self.without = False  # whether a run came to its end and had not logged the figure
        self._processes = Processes(asked["at_once"])
        self._lock = threading.Lock()

    @property
    def stopped(self) -> int:
        """The signal that has stopped the search."""
        return self._processes.asked

    def run(self) -> None:
        """All trials that are still to be made, then the ranking. Exits with 128 and the signal when it was stopped."""
        done = [trial for trial in self.study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
        self._processes.each(self.trial, range(self.asked["trials"] - len(done)))
        self.rank()
        if self.stopped:
            say("the running trials have saved: the same command goes on from there")
            raise SystemExit(128 + self.stopped)
        if self.without:
            raise ValueError(
                f"search.figure={self.asked['figure']}: a run came to its end without it, so no trial will have it; "
                "choose one that its metrics.jsonl holds"
            )
        if not any(trial.state.name == "COMPLETE" for trial in self.study.trials):
            raise SystemExit(1)

    def trial(self, slot: int, _: int) -> None:
        """Choose values, train with them, and tell how it went."""
        import optuna

        if self.stopped or self.without:
            return
        with self._lock:
            trial = self.study.ask()
            own = [f"{key}={suggest(trial, key, choices)}" for key, choices in self.axes.items()]
        while self._twin_runs(trial) and not self.stopped:  # the same run: it will be finished, and is read then
            time.sleep(POLL)
        log = self.folder / "logs" / f"{trial.number:03d}.log"
        log.parent.mkdir(exist_ok=True)
        say(f"  trial {trial.number}: {' '.join(own)}")
        code, pruned = self._train(slot, trial, log, [*self.words, *own])
        figures = figures_of(log, self.asked["figure"])
        if self.stopped:  # stays as running, and is gone on with
            return
        states = optuna.trial.TrialState
        if pruned and code:  # a run that came to its end all the same is a whole trial
            self.study.tell(trial, state=states.PRUNED)
            say(f"  trial {trial.number}: stopped at {figures[-1]:.4f}, below the median of the others")
        elif code or not figures:
            self.study.tell(trial, state=states.FAIL)
            self.without = self.without or not code
            why = Outcome("", code, log, 0.0).last_line if code else f"logged no {self.asked['figure']}"
            say(f"  trial {trial.number}: failed ({code}), see {log}: {why}")
        else:
            self.study.tell(trial, figures[-1])
            say(f"  trial {trial.number}: {figures[-1]:.4f}")

    def _twin_runs(self, trial: Any) -> bool:
        """Whether an earlier trial runs with the same values."""
        others = [other for other in self.study.get_trials(deepcopy=False) if other.number < trial.number]
        return any(other.state.name == "RUNNING" and other.params == trial.params for other in others)

    def _train(self, slot: int, trial: Any, log: Path, words: list[str]) -> tuple[int, bool]:
        """Its exit code, and whether it was stopped because others do better."""
        looks, pruned = 0, False
        with log.open("wb") as stream, self._processes.started(slot, "train", words, stream) as process:
            if process is None:
                return 128 + self.stopped, False
            while process.poll() is None:
                time.sleep(POLL)
                for value in figures_of(log, self.asked["figure"])[looks:]:
                    trial.report(value, looks)
                    looks += 1
                    if not pruned and trial.should_prune():
                        pruned = True
                        process.terminate()
        return process.returncode, pruned

    def rank(self) -> None:
        """The trials from best to worst, on the screen and in `search.md`."""
        done = [trial for trial in self.study.trials if trial.state.name == "COMPLETE"]
        stopped, failed = (sum(t.state.name == state for t in self.study.trials) for state in ("PRUNED", "FAIL"))
        best = sorted(done, key=lambda trial: -trial.value)
        columns = [self.asked["figure"], *self.axes]
        rows = [[f"{trial.value:.4f}", *(str(trial.params.get(key, "")) for key in self.axes)] for trial in best]
        counts = f"{len(done)} trials to their end, {stopped} stopped before, {failed} failed or begun anew"
        text = "\n".join([markdown([columns, *rows]), "", counts])
        if best:
            chosen = [f"{key}={best[0].params[key]}" for key in self.axes]
            words = [word for word in self.words if not word.startswith("paths.out=")]
            text += f"\nbest: python -m ssl_lab.train {shlex.join([*words, *chosen])}"
        (self.folder / "search.md").write_text(f"{text}\n")
        say(text)


def suggest(trial: Any, key: str, choices: list[str] | Range) -> Any:
    """A value out of a list or a range."""
    if isinstance(choices, Range) and isinstance(choices.low, int):
        return trial.suggest_int(key, choices.low, choices.high, log=choices.log)
    if isinstance(choices, Range):
        return trial.suggest_float(key, choices.low, choices.high, log=choices.log)
    return trial.suggest_categorical(key, choices)


def figures_of(log: Path, figure: str) -> list[float]:
    """What a run has logged of a figure so far; its folder is what its log names first."""
    folder = folder_named(log)
    lines = read_metrics(folder / "metrics.jsonl") if folder else []
    return [float(line[figure]) for line in lines if figure in line]
