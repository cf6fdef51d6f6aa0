"""Optuna's part in tuning: which settings to try next, and which trials are worse than others were."""

import contextlib
import warnings
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hrmas_sparse.environment import option
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError
from runs.tuning.ranges import Ranges

POINTS = 50                 # of a run's metrics that the study is told, at most
RUN = 1_000_000             # of the steps: those of the second run of a trial begin here
STARTUP, WARMUP = 8, 1 / 3  # trials, and the part of each run, that are never given up
COMPARED = 10               # trials at least, the best of all, say which settings matter
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
        self._refuse_others(path)
        self._every, self._warmup = max(1, epochs // POINTS), int(epochs * WARMUP)
        self.study.pruner = optuna.pruners.PercentilePruner(100.0 - ranges.prune, STARTUP, self._warmup) \
            if ranges.prune else optuna.pruners.NopPruner()

    def _refuse_others(self, path: Path) -> None:
        """Refuse trials that were chosen from other choices, or from a number where there are choices now."""
        for trial in self.study.get_trials(deepcopy=False):
            for name in trial.distributions.keys() & self._distributions.keys():
                try:
                    optuna.distributions.check_distribution_compatibility(trial.distributions[name],
                                                                          self._distributions[name])
                except ValueError:
                    raise InputError(f"{path}: holds another study: {name} was chosen from other values. Give another "
                                     f"{option('name')}") from None

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

    def importance(self) -> dict[str, float]:
        """Return how much each setting matters for being among the best of the finished trials; the sum is 1."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # of few trials there is not much to be said
            return optuna.importance.get_param_importances(self.study, evaluator=self._evaluator())

    def _evaluator(self):
        """What compares the best trials with all: the best tenth, but no fewer than a few: of two, chance decides.

        Without it Optuna before 5 would take one that needs scikit-learn.
        """
        share = min(0.5, max(0.1, COMPARED / len(self.finished())))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator
        try:
            return evaluator(target_quantile=share)
        except TypeError:                           # its name before Optuna 5
            return evaluator(baseline_quantile=share)

    def overrides(self, trial) -> tuple[str, ...]:
        """Return the settings of a trial as ``--set`` takes them."""
        return self._ranges.overrides(trial.params)

    def unfinished(self, check):
        """Yield (name, settings) of the trials that were begun and have not ended; for ``check`` see :meth:`ask`."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            # Killed between two words: of the proposal, or before it was found that it does not go together.
            if len(trial.params) < len(self._distributions) or self._invalid(trial, check):
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
        for _ in range(MOST_INVALID):
            trial = self.study.ask(self._distributions)
            overrides = self.overrides(trial)
            if reason := self._invalid(trial, check):
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("set", " ".join(overrides))
            self._open[_name(trial.number)] = trial, set()
            return _name(trial.number), overrides
        raise InputError(f"{self._ranges.path}: the last {MOST_INVALID} proposals do not go together: {reason}")

    def _invalid(self, trial, check) -> str:
        """Why the settings of a trial do not go together, which is noted; empty if they do."""
        try:
            check(self.overrides(trial))
        except InputError as error:
            self.study._storage.set_trial_user_attr(trial._trial_id, "invalid", str(error))
            return str(error)
        return ""

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
