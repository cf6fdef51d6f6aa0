"""One run a seed, each in a folder of its own: one after the other, or together where the backend can do that."""

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from hrmas_sparse.engine import lockstep
from hrmas_sparse.environment import option
from hrmas_sparse.run import folder
from hrmas_sparse.run.footprint import require
from hrmas_sparse.run.job import Job
from hrmas_sparse.run.phases import Context
from hrmas_sparse.run.progress import Reporter
from hrmas_sparse.run.stop import Stopped, never
from hrmas_sparse.run.store import FolderStore, MemoryStore
from hrmas_sparse.run.summary import summary
from hrmas_sparse.run.watch import Watch
from hrmas_sparse.storage.errors import Diverged, InputError, printable


class Task(NamedTuple):
    """What is done on every seed.

    settings : :class:`hrmas_sparse.settings.schema.Config`
    data : :class:`hrmas_sparse.data.dataset.Dataset`
    backend : see :mod:`hrmas_sparse.engine.backends`
    origin : dict, further facts for the manifests
    given, baseline : as of :class:`hrmas_sparse.run.job.Job`
    """

    settings: Any
    data: Any
    backend: Any
    origin: dict
    given: list | None = None
    baseline: Callable | None = None

    def job(self, run, seed, reporter=None, backend=None):
        """The :class:`Job` of a seed: in a folder whose manifest is written, or, where ``run`` is None, in memory.

        ``backend`` : another than the task's
        """
        check = Watch(self.data).check if self.data.path else lambda: None
        context = Context(self.settings, seed, self.data, backend or self.backend, check)
        store = MemoryStore() if run is None else FolderStore(run, self.data, seed)
        return Job(store, context, self.given, self.baseline, reporter)


def execute(seeds, paths, task, stop=never, fresh=False):
    """Start or resume the runs, and go to their ends; one that diverges does not keep the others from it.

    Parameters
    ----------
    seeds, paths : the runs
    task : :class:`Task`
    stop : :class:`hrmas_sparse.run.stop.StopRequest`, or a function () -> bool
    fresh : set old runs aside first

    Returns
    -------
    int, the worst exit status: 0, 1 for a diverged run, 128 + n after signal n
    """
    pairs, worst = list(zip(seeds, paths)), 0
    if task.baseline:
        task = task._replace(baseline=functools.cache(task.baseline))
    several = task.backend.networks(task.settings.training.batch) > 1
    for group in [pairs] if several else [[pair] for pair in pairs]:
        waiting = sum(fresh or not folder.RunDir(path).finished for _, path in group)
        if waiting:
            require(task.backend, task.settings, task.data, waiting)
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(_opened(path, fresh)) for _, path in group]
            jobs = []
            for (seed, _), run in zip(group, runs):
                if _start(run, task, seed):
                    reporter = Reporter(f"s{seed} ", len(jobs)) if len(group) > 1 else Reporter()
                    jobs.append(functools.partial(task.job, run, seed, reporter))
            try:
                status = _run(jobs, stop, task.backend) if jobs else 0
            finally:  # those that ended have something to say, whatever became of the others
                for run in runs:
                    if run.finished:
                        print("\n".join(summary(run, run.result())))
        worst = max(worst, status)
        if status >= 128:
            break
    return worst


@contextlib.contextmanager
def _opened(path, fresh):
    """The folder of a run, ours alone while the block runs; an old one set aside if wanted."""
    run = folder.RunDir(path)
    if fresh and run.manifest_path.exists():
        with run.working():
            print(printable(f"{run.path}: set aside as {run.set_aside()}"))
    with working(run):
        yield run


@contextlib.contextmanager
def working(run):
    """Work on a run alone; a folder in which nothing was begun, because the run is refused, goes again."""
    with run.working():
        try:
            yield
        except InputError:
            run.remove_if_empty()
            raise


def _start(run, task, seed):
    """Write a run's manifest or check the one that is there; returns whether there is anything left to do."""
    there = folder.start(run, task.settings, seed, task.data, task.origin)
    if run.finished:
        print(f"{printable(run.path)}: finished before; {option('fresh')} starts over")
        return False
    print(f"{printable(run.path)}: {'resuming' if there else 'starting'}, seed {seed}, "
          f"profile {task.settings.profile}, preset {task.settings.preset}", flush=True)
    return True


def _run(jobs, stop, backend):
    """Run jobs, functions (backend) -> :class:`Job`, to their ends; returns the worst exit status."""
    if backend.notice:
        print(backend.notice, flush=True)
    if len(jobs) == 1:
        return _one(jobs[0](backend), stop)
    return max(lockstep.run(backend, [functools.partial(_one_of_several, job, stop) for job in jobs]))


def _one(job, stop):
    run = job.store.run
    try:
        job.execute(stop)
    except Stopped:
        print(f"{printable(run.path)}: stopped and checkpointed; the same command goes on from here", file=sys.stderr)
        return 128 + (getattr(stop, "signum", None) or 0)
    except Diverged as error:
        print(f"hrmas: {printable(run.path)}: training diverged: {error}; "
              f"{run.checkpoint_path.name} holds the state before. "
              "Try, under another --name, a smaller training.lr or network.slope_cap, or a larger network.v_th",
              file=sys.stderr)
        return 1
    return 0


def _one_of_several(job, stop, backend):
    """As :func:`_one`; what ends a run alone is said at once, and raised when the others have ended."""
    job = job(backend)
    try:
        return _one(job, stop)
    except Exception as error:
        print(f"{printable(job.store.run.path)}: failed: {printable(error) or type(error).__name__}; the others go on",
              file=sys.stderr)
        raise
