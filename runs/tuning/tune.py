"""Settings chosen by trials: Optuna proposes, a cluster computes, parts of the training part judge.

    hrmas tune ti46 --raw <folder> --hours 8 --partitions "valid-1 valid-2" [--methods gru]

A trial is a run on each partition and seed; it is worth their mean accuracy on the quarter of the *training* part that
valid-<n> sets aside. The test part of the data set is never read. Everything lies in runs/out/tune-<data set>/:

    tune.json             what the study is of: the same command goes on, another one is refused
    journal.log           Optuna's record of all trials
    defaults-*, trial-*   the runs, like any others; `given-up` in the folder of one that was not worth its end
    best.toml             the best settings, for --data
    tuning.png            the trials, and how much each setting matters
"""

import contextlib
import sys
import time
from pathlib import Path

from hrmas_sparse import environment, places
from hrmas_sparse.engine.backends import check_usable
from hrmas_sparse.environment import option
from hrmas_sparse.run.signals import stop_on_signals
from hrmas_sparse.settings.load import override_names
from hrmas_sparse.settings.validators import check_name
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import locked
from runs import cluster, experiment
from runs.comparison.worker import METHODS
from runs.tuning import plans, report
from runs.tuning.plans import DEFAULTS
from runs.worker import GIVEN_UP

TRIALS = 50                 # without --trials and --hours
LOOK_SECONDS = 2.0          # between two looks at the metrics of the trials that run
MOST_FAILURES = 3           # trials in a row
OF_OURS = {"preset": "default", "profile": None, "backend": "auto", "baseline": "counts"}  # options, and their defaults


def run(options):
    """Do what `hrmas tune` asks for; returns the exit status."""
    try:
        from runs.tuning.study import Study
    except ModuleNotFoundError:
        raise InputError(f"tuning needs Optuna: {environment.install('tune')}") from None
    _check(options)
    default = "-".join(["tune", Path(options.dataset).stem, *([options.methods] if options.methods else [])])
    home = places.out() / (options.name or default)
    with locked(home / "lock", str(home)), contextlib.ExitStack() as stack:
        late = _deadline(options.hours)
        plan = (plans.OfMethod if options.methods else plans.OfSearch)(home, options)   # a signal ends that at once
        vain = plan.ranges.in_vain(plan.check)
        for (_, choice), reason in vain.items():
            print(f"{plan.ranges.path}: {choice!r} is not tried: {reason}")
        plan.ranges = plan.ranges.without(vain)
        plans.remember(plan)
        stop = stack.enter_context(stop_on_signals())
        study = Study(home / "journal.log", plan.ranges, options.seeds[0], plan.epochs)
        trials = _Trials(plan, study, lambda: stop() or late())
        trials.run()
        print(report.write(plan, trials.study, trials.defaults), flush=True)
    if stop.signum or late():
        print("stopped; every run is checkpointed, and the same command goes on from here", file=sys.stderr)
    return 128 + stop.signum if stop.signum else int(trials.failures >= MOST_FAILURES)


def _check(options):
    """Refuse a name that is none, and partitions that hold a sample of the official test part."""
    check_name(options.name, option("name"))
    for name in options.partitions:
        if not name.startswith("valid-"):
            raise InputError(f"{option('partitions')}: expected valid-1 or the like, found {name!r}: settings are "
                             "chosen on the training part alone")
    if options.methods and options.methods not in METHODS:
        raise InputError(f"{option('methods')}: expected one of {', '.join(METHODS)}, found {options.methods!r}")
    if options.methods and options.apart:
        raise InputError(f"{option('apart')}: does not go with {option('methods')}, which need a common folder")
    if options.methods:
        _check_of_method(options)
    check_usable(options.backend)


def _check_of_method(options):
    """Refuse what is of our networks alone; another method would be computed as if it had not been given."""
    for name, usual in OF_OURS.items():
        if getattr(options, name) != usual:
            raise InputError(f"{option(name)}: does not go with {option('methods')}: only our networks have it")
    for text in options.set:
        for section, key in override_names(text):
            if section != "data":
                raise InputError(f"{option('set')}: {section}.{key}: does not go with {option('methods')}, which take "
                                 f"the section data alone; {option('ranges')} says what is tried")


def _deadline(hours):
    end = None if hours is None else time.monotonic() + 3600 * hours
    return lambda: end is not None and time.monotonic() > end


class _Trials:
    """The trials that run now, and where the next ones come from."""

    def __init__(self, plan, study, stopping):
        self._plan, self.study, self._stopping = plan, study, stopping
        options = plan.options
        self._most = options.trials or (None if options.hours else TRIALS)
        self._running = {}              # trial's name -> its runs
        self._begun = {}                # run's name -> run, also when its trial has ended
        self._lines = {}                # run's folder -> lines of its metrics that the study knows
        self._looked = 0.0
        self.failures = 0               # trials in a row that failed
        self.defaults = None            # accuracy of the settings as they are

    def run(self):
        """Compute trials until there are enough or a stop is asked for."""
        options = self._plan.options
        jobs = experiment.jobs_for(options)
        with cluster.connected(options.cluster, jobs) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            self._slots = options.jobs or max(1, sum(one["nthreads"] for one in workers))
            self._threads = 1 if options.cluster else cluster.threads_for(self._slots, jobs)
            tasks = self._begin(DEFAULTS, ())
            for name, overrides in self.study.unfinished(self._plan.check):
                tasks += self._begin(name, overrides)
            tasks += self._more({}, print) or []
            cluster.run_all(tasks, client, self._stopping, self._done, self._said,
                            cluster.How.of(options), self._more)
        self._looked = 0.0
        self._more({}, print)           # what ended while we were stopping

    def _begin(self, name, overrides):
        """The tasks of a trial."""
        self._running[name] = self._plan.runs(name, overrides)
        self._begun |= {one.run.name: one for one in self._running[name]}
        return [self._plan.task(one, self._threads) for one in self._running[name] if not _over(one)]

    def _more(self, failed, say):
        """End the trials that are over, then ask for others; their tasks, or None if there will be no more."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return []
        self._looked, tasks = time.monotonic(), []
        for name in list(self._running):
            self._look(name, failed, say)
        while self._wanted():
            tasks += self._begin(*self.study.ask(self._plan.check))
        return tasks if self._running and not self._stopping() else None

    def _wanted(self):
        """Whether there is room for one more trial."""
        left = sum(not _over(one) for runs in self._running.values() for one in runs)
        return (left < self._slots and self.failures < MOST_FAILURES and not self._stopping()
                and (self._most is None or self.study.count() < self._most))

    def _look(self, name, failed, say):
        """End a trial if it is over, or see that it is given up."""
        runs = self._running[name]
        reasons = [failed[one.run.name] for one in runs if one.run.name in failed]
        if all(one.run.finished for one in runs):
            accuracy = sum(one.run.result()["test"]["accuracy"] for one in runs) / len(runs)
            self._end(name, accuracy, f"{100 * accuracy:.2f} %", say)
        elif cluster.LOST in reasons:
            del self._running[name]     # the same command goes on with it
            self.failures = MOST_FAILURES
        elif reasons:
            if name != DEFAULTS:        # these are tried again: all else is compared with them
                _give_up(runs)
            diverged = "diverged" in reasons[0]
            self._end(name, None, "diverged" if diverged else "failed", say, failed=not diverged)
        elif any((one.folder / GIVEN_UP).exists() for one in runs) or self._hopeless(name, runs):
            _give_up(runs)
            self._end(name, None, "given up", say)

    def _hopeless(self, name, runs):
        """Tell the study of new lines of metrics; whether the trial is worse than others were."""
        found = False
        for number, planned in enumerate(runs):
            lines, known = planned.run.metrics(), self._lines.get(planned.folder, 0)
            if name != DEFAULTS and len(lines) > known:
                self._lines[planned.folder] = len(lines)
                found = self.study.report(name, number, lines, known) or found
        return found

    def _end(self, name, accuracy, text, say, failed=False):
        del self._running[name]
        self.failures = self.failures + 1 if failed else 0
        if name == DEFAULTS:
            self.defaults = accuracy
        else:
            self.study.tell(name, accuracy, failed)
        best = self.study.best()
        say(f"{name}: {text}" + (f"; best so far {100 * best.value:.2f} %, trial {best.number}" if best else ""))

    def _done(self, task):
        return self._plan.work_done(self._begun[task.name])

    def _said(self, task):
        planned = self._begun[task.name]
        return experiment.outcome(planned) if planned.run.finished else "given up"


def _over(planned):
    return planned.run.finished or (planned.folder / GIVEN_UP).exists()


def _give_up(runs):
    """Leave word for the workers that runs are not to go on."""
    for one in runs:
        if not one.run.finished:
            one.folder.mkdir(parents=True, exist_ok=True)
            files.touch(one.folder / GIVEN_UP)
