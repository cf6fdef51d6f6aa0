"""Optuna's part in tuning: which settings to try next, and which trials are worse than others were."""

import contextlib
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError
from runs.tuning.ranges import Ranges

POINTS = 50                 # of a run's metrics that the study is told, at most
RUN = 1_000_000             # of the steps: those of the second run of a trial begin here
STARTUP, WARMUP = 8, 1 / 3  # trials, and the part of each run, that are never given up
MOST_INVALID = 100          # proposals in a row that do not go together

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """The trials of a folder.

    Parameters
    ----------
    path : of the journal; made if it is not there, else the study goes on
    ranges : what is tried
    seed : of what is proposed
    epochs : of a run
    """

    def __init__(self, path: Path, ranges: Ranges, seed: int, epochs: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut(path)
        backend = JournalFileBackend(str(path))
        self._ranges, self._open = ranges, {}
        self._distributions = {one.name: one.distribution() for one in ranges.ranges}
        self.study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="hrmas",
                                         direction="maximize", load_if_exists=True)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed + len(self.study.trials), multivariate=True)
        self._every, self._warmup = max(1, epochs // POINTS), int(epochs * WARMUP)
        self.study.pruner = optuna.pruners.PercentilePruner(100.0 - ranges.prune, STARTUP, self._warmup) \
            if ranges.prune else optuna.pruners.NopPruner()

    def count(self) -> int:
        """Return how many trials there are, those that did not go together apart."""
        return sum("invalid" not in trial.user_attrs for trial in self.study.get_trials(deepcopy=False))

    def best(self):
        """Return the best finished trial, or None."""
        found = self.finished()
        return max(found, key=lambda trial: trial.value) if found else None

    def finished(self):
        """Return the trials with a result."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def overrides(self, trial) -> tuple[str, ...]:
        """Return the settings of a trial as ``--set`` takes them."""
        return self._ranges.overrides(trial.params)

    def unfinished(self):
        """Yield (name, settings) of the trials that were begun and have not ended."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if len(trial.params) < len(self._distributions):        # killed between two words
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            self._open[_name(trial.number)] = (optuna.trial.Trial(self.study, trial._trial_id),
                                                set(trial.intermediate_values))
            yield _name(trial.number), self.overrides(trial)

    def ask(self, check):
        """Return (name, settings) of a new trial.

        Parameters
        ----------
        check : function (settings) that raises InputError where they do not go together; such a trial is passed over
        """
        for attempt in range(MOST_INVALID):
            trial = self.study.ask(self._distributions)
            overrides = self.overrides(trial)
            try:
                check(overrides)
            except InputError as error:
                trial.set_user_attr("invalid", str(error))
                self.study.tell(trial, state=TrialState.FAIL)
                if attempt == MOST_INVALID - 1:
                    raise InputError(f"{self._ranges.path}: the last {MOST_INVALID} proposals do not go together: "
                                     f"{error}") from error
                continue
            trial.set_user_attr("set", " ".join(overrides))
            self._open[_name(trial.number)] = trial, set()
            return _name(trial.number), overrides

    def report(self, name, run, lines, known) -> bool:
        """Tell of lines of metrics, ``known`` of which were told before; whether the trial is to be given up.

        ``run`` is the number of the run within the trial. Only the same epochs of the same run are compared.
        """
        trial, told = self._open[name]
        for epoch, line in enumerate(lines[known:], start=known + 1):
            step = run * RUN + epoch
            if epoch % self._every == 0 and step not in told:
                told.add(step)
                trial.report(line.get("valid_accuracy", line["accuracy"]), step)
        return len(lines) > self._warmup and trial.should_prune()

    def tell(self, name, accuracy, failed) -> None:
        """End a trial; without an accuracy it was given up, or has failed."""
        trial, _ = self._open.pop(name)
        state = TrialState.COMPLETE if accuracy is not None else TrialState.FAIL if failed else TrialState.PRUNED
        self.study.tell(trial, accuracy, state)


def _name(number: int) -> str:
    return f"trial-{number:04d}"


def _cut(path: Path) -> None:
    """Take back a last line that was cut off when the disk was full: Optuna would read no further."""
    if path.exists():
        with contextlib.closing(files.appended(path)) as file:
            content = files.read(path)
            file.truncate(content.rfind(b"\n") + 1)
