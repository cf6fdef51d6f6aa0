"""Experiments: rows of runs that differ in what the row names, run side by side and resumed where they were.

    hrmas experiment table3 --data ti46 --raw <folder> --seeds 0-4

An experiment is a file in runs/experiments, see :mod:`runs.plan`. Each of its runs is one like any other, made by
`hrmas search`, in runs/out/<experiment>-<data set>/. What is finished is skipped, what is not is resumed.
"""

import datetime
import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path

from data_prep.load import configured, is_file, prepared
from hrmas_sparse import environment, places
from hrmas_sparse.environment import option
from hrmas_sparse.run.footprint import estimate
from hrmas_sparse.engine.backends import check_usable, on_gpu
from hrmas_sparse.engine.selftest import examine_at_first
from hrmas_sparse.run.signals import stop_on_signals
from hrmas_sparse.settings.validators import check_name
from hrmas_sparse.storage.atomic import write_text
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import locked
from runs import apart, cluster, equal_time
from runs.comparison import compare, jobs, tasks
from runs.comparison.worker import WITH_TORCH
from runs.plan import (
    Planned,
    at_equal_time,
    folder_name,
    plan,
    read,
    record,
    refuse_other_settings,
    refuse_without_search,
    work_done,
    work_of,
)
from runs.report import ranking
from runs.worker import Task

NOT_FINISHED = "the run that it waits for has not finished"
HRMAS = (sys.executable, "-m", "hrmas_sparse")


def build_caches(runs, options, say):
    """The spike caches of all runs, built before the first of them starts; dict data section -> cache."""
    caches = {}
    for planned in runs:
        if planned.settings.data not in caches:
            raw = options.raw or (planned.dataset if is_file(planned.dataset) else None)
            caches[planned.settings.data] = prepared(planned.settings, raw, options.strict,
                                                     lambda line: print(line, file=say, flush=True))
    return caches


def _raw(options):
    return [*(["--raw", str(options.raw)] if options.raw else []), *(["--strict"] if options.strict else [])]


def _settings(planned):
    """The words that make a run's settings of its data set's."""
    overrides = [word for text in planned.overrides if text for word in ("--set", text)]
    return ["--preset", planned.settings.preset, "--profile", planned.settings.profile, *overrides]


def command(planned, options, dataset=None, raw=None, out=None):
    """The words that make a run; another data set, recordings and place for one that is sent away."""
    if planned.method:
        return _method_command(planned, options)
    return ["search", dataset or planned.dataset, *(["--raw", raw] if raw else _raw(options)), "--seeds",
            str(planned.seed), "--out", out or str(planned.folder.parent), "--name", planned.folder.name, "--backend",
            options.backend, "--baseline", options.baseline, *_settings(planned)]


def _method_command(planned, options):
    """The words for a method of `hrmas compare`, which takes settings of the data alone."""
    usual, own = configured(planned.dataset).data, planned.settings.data
    changed = [f"data.{field.name}={json.dumps(getattr(own, field.name))}" for field in fields(own)
               if field.name != "partition" and getattr(own, field.name) != getattr(usual, field.name)]
    peer = ["--peer-python", options.peer_python] if options.peer_python else []
    return ["compare", planned.dataset, *_raw(options), "--methods", planned.method, "--partitions", planned.partition,
            "--seeds", str(planned.seed), "--name", planned.folder.parent.name, *peer,
            *[word for text in changed for word in ("--set", text)]]


def job_of(planned, cache):
    """The job of a method, see :func:`runs.comparison.jobs.planned`; its folder is the run's."""
    one, = jobs.planned([planned.method], {planned.partition: cache}, [planned.seed], planned.settings.data,
                        planned.folder.parent.absolute(), environment.commit()[0])
    return one


def _python(options, method):
    """The Python that computes a method."""
    return (options.peer_python or str(compare.PYTHON)) if method in WITH_TORCH else sys.executable


def task(planned, cache, options, threads):
    """The :class:`runs.worker.Task` of a run."""
    if planned.method:
        return tasks.task(planned.run.name, tasks.MethodJob(job_of(planned, cache), planned.partition),
                          _python(options, planned.method), threads, work_of(planned, _samples(cache)))
    folder = planned.folder.absolute()
    named = {".toml": apart.SETTINGS, ".h5": apart.CACHE, ".hdf5": apart.CACHE}.get(Path(planned.dataset).suffix)
    sent = ["-m", "hrmas_sparse", *command(planned, options, named, apart.CACHE, apart.OUT), "--end-with-stdin"]
    return Task(planned.run.name, [*HRMAS, *command(planned, options), "--end-with-stdin"], folder, Path.cwd(),
                folder.parent / "logs" / f"{folder.name}.log", threads, work_of(planned, _samples(cache)),
                sum(estimate(planned.settings, cache, threads).values()), cache.path.absolute(), sent,
                Path(planned.dataset) if named == apart.SETTINGS else None,
                _manifest_raw(planned, options))


def _manifest_raw(planned, options):
    """What a run made here says of its recordings."""
    raw = options.raw or (planned.dataset if is_file(planned.dataset) else None)
    return environment.printable(raw) if raw else None


def _samples(cache):
    """How much there is to simulate in the training set, in a unit that all data sets share."""
    return len(cache.train) * cache.meta.steps / 1e6


def outcome(planned):
    """A finished run in a few words."""
    result = jobs.read(planned.folder / "result.json") if planned.method else planned.run.result()
    took = datetime.timedelta(seconds=round(sum(result["seconds"].values())))
    return f"{100 * result['test']['accuracy']:.2f} % in {took}"


def check_options(experiment, options):
    """Refuse options that do not fit the experiment or each other."""
    if options.rows == []:
        raise InputError(f"{option('rows')}: expected some of {', '.join(experiment.rows)}, found none")
    for row in options.rows or []:
        if row not in experiment.rows:
            raise InputError(f"{option('rows')}: {experiment.name} has the rows {', '.join(experiment.rows)}, "
                             f"found {row!r}")
    if options.neurons and not experiment.neurons:
        raise InputError(f"{option('neurons')}: {experiment.name} has no list of layer sizes; use "
                         f'{option("set")} "network.neurons=..."')
    if options.raw and len(options.data or experiment.data) > 1:
        raise InputError(f"{option('raw')}: goes with one data set; name it with {option('data')}")
    check_name(options.name, option("name"))
    methods = [row for row in options.rows or experiment.rows if experiment.rows[row].method]
    if options.apart and methods:
        raise InputError(f"{option('apart')}: does not go with the rows {', '.join(methods)}, which need a common "
                         "folder")
    if options.detach and (options.apart or (options.cluster or ".toml").endswith(".toml")):
        raise InputError(f"{option('detach')}: goes with {option('cluster')} tcp://... or scheduler.json, which go "
                         "on without us, and with a folder that all machines share")


def jobs_for(options):
    """Runs at a time: as asked for, else one where they would share a GPU, which is tested first, else one a core."""
    if not options.cluster:
        examine_at_first(options.backend)
    return options.jobs or (1 if on_gpu(options.backend) else environment.cores())


def run(options):
    """Run the experiment that the options of `hrmas experiment` name; returns the exit status."""
    experiment = read(options.experiment)
    check_options(experiment, options)
    check_usable(options.backend)
    left = {}
    for dataset in options.data or experiment.data:
        left |= {planned.run.name: (planned, cache) for planned, cache in _unfinished(experiment, dataset, options)}
    waiting, failed = Waiting(options, left), {}
    waiting.settle(failed)
    if options.list:
        ready = [planned for planned, _ in left.values() if not planned.waits]
        print("\n".join(shlex.join(["hrmas", *command(planned, options)]) for planned in ready))
        waiting.say_later(sys.stderr)
        _say_failed(failed)
        return 0
    for method in dict.fromkeys(planned.method for planned, _ in left.values() if planned.method in WITH_TORCH):
        compare.check_python(_python(options, method), method)
    at_a_time = jobs_for(options)
    threads = cluster.threads_for(len(left), at_a_time)
    todo = [task(planned, cache, options, threads) for planned, cache in left.values() if not planned.waits]
    with stop_on_signals() as stop, cluster.connected(options.cluster, at_a_time) as client:
        failed |= cluster.run_all(
            todo, client, stop, lambda one: done(*left[one.name]), lambda one: outcome(left[one.name][0]),
            cluster.How.of(options), None if options.detach or not waiting.names else
            lambda failed, say: waiting.ready(failed, threads), len(waiting.names))
    if options.detach:
        waiting.say_later(sys.stdout)
        _say_failed(failed)
        return _left(experiment, options, len(todo)) or int(bool(failed))
    if not stop.signum:
        failed |= dict.fromkeys(waiting.names, NOT_FINISHED)
    return _goodbye(experiment, options, failed, stop.signum)


class Waiting:
    """Runs whose settings follow from what other runs of the same experiment measure; see equal_time.py.

    Parameters
    ----------
    left : dict name -> (:class:`runs.plan.Planned`, its spike cache), of all runs that have not ended; what has waited
        is put into it as soon as its settings are known

    Raises
    ------
    InputError
        A run waits for one that has not finished and is not among them.
    """

    def __init__(self, options, left):
        self._options, self._left = options, left
        self.names = [name for name, (planned, _) in left.items() if planned.waits]
        for name in self.names:
            other = left[name][0].waits
            if other.name not in left and not other.finished:
                raise InputError(f"{name}: has as many candidates as fit into the search of {other.name}, which has "
                                 f"not finished; {option('rows')}: add its row, or make that run first")

    def settle(self, failed):
        """Return the names of runs that wait no longer; of those that cannot be made ``failed`` is told why."""
        settled = []
        for name in list(self.names):
            planned, cache = self._left[name]
            if planned.waits.finished:
                try:
                    equal_time.check(planned.waits)
                    self._left[name] = at_equal_time(planned, planned.waits), cache
                    settled.append(name)
                except InputError as error:         # the others have nothing to do with it
                    failed[name] = str(error)
            elif planned.waits.name in failed:
                failed[name] = NOT_FINISHED
            else:
                continue
            self.names.remove(name)
        return settled

    def ready(self, failed, threads):
        """Return the tasks of runs that wait no longer, see :meth:`settle`; None once there will be no more."""
        ready = [task(*self._left[name], self._options, threads) for name in self.settle(failed)]
        return ready if ready or self.names else None

    def say_later(self, to):
        """Say of runs that they are left out so far."""
        if self.names:
            words = "1 run starts when the run whose search it is compared with has ended" if len(self.names) == 1 \
                else f"{len(self.names)} runs start when those whose searches they are compared with have ended"
            print(f"{words}; the same command lists {'it' if len(self.names) == 1 else 'them'} then", file=to)


def done(planned: Planned, cache) -> float:
    """Return how much of a run's work is done, in the unit of :class:`runs.worker.Task`."""
    return work_done(planned, _samples(cache))


def _unfinished(experiment, dataset, options):
    """The runs of an experiment on a data set that have not ended, each with its spike cache; recorded in the folder.

    Several programs may do this for one folder at a time: each of its runs has a lock of its own.
    """
    say = sys.stderr if options.list else sys.stdout
    refuse_without_search(experiment, dataset, options, options.profile)
    runs = plan(experiment, dataset, options, options.profile)
    home = runs[0].folder.parent
    with locked(home / "lock", str(home), wait=True):
        caches = build_caches(runs, options, say)
        if options.profile is None and any(cache.meta.provenance != "real" for cache in caches.values()):
            runs = plan(experiment, dataset, options, "demo")
            caches |= build_caches([one for one in runs if one.settings.data not in caches], options, say)
        refuse_other_settings(experiment, dataset, options, runs)
        for planned in runs:
            if planned.method and planned.run.finished:     # one of other settings or recordings is refused
                jobs.result(job_of(planned, caches[planned.settings.data]))
        record(experiment, runs)
    unfinished = [planned for planned in runs if not planned.run.finished]
    print(f"{home}: {_runs(len(runs))}, {len(runs) - len(unfinished)} finished before", file=say, flush=True)
    return [(planned, caches[planned.settings.data]) for planned in unfinished]


def _left(experiment, options, count):
    """Say that runs are left to the cluster; the exit status."""
    print(f"{_runs(count)} {'is' if count == 1 else 'are'} left to the cluster, and this shows how far:")
    for dataset in options.data or experiment.data:
        name = folder_name(experiment, dataset, options)
        print(environment.command(f"status {name}", f"status NAME={name}"))
    return 0


def _ranking(experiment, options):
    """The tables of what has finished, which are written, too."""
    homes = [places.out() / folder_name(experiment, dataset, options) for dataset in options.data or experiment.data]
    text, path = ranking.text(homes), places.out() / f"{options.name or experiment.name}.md"
    write_text(path, text)
    return f"{text}\n{path}"


def _runs(count):
    """"1 run", "2 runs" """
    return f"{count} run{'' if count == 1 else 's'}"


def _say_failed(failed):
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)


def _goodbye(experiment, options, failed, signum):
    """Say how it ended, as tables where other methods take part; the exit status."""
    if any(row.method for row in experiment.rows.values()):
        print(_ranking(experiment, options))
    _say_failed(failed)
    if signum:
        print("stopped; every run is checkpointed, and the same command goes on from here", file=sys.stderr)
        return 128 + signum
    if failed:
        print(f"{_runs(len(failed))} failed; the same command tries again, and leaves the "
              "others as they are", file=sys.stderr)
        return 1
    for dataset in options.data or experiment.data:
        name = folder_name(experiment, dataset, options)
        print(f"all finished; {environment.command(f'report {name}', f'report NAME={name}')} shows what came out")
    return 0
