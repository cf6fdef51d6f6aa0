"""One run a seed, each in a folder of its own: one after the other, or together where the backend can do that."""

import contextlib
import functools
import sys

from hrmas_sparse.run import folder as rundir
from hrmas_sparse.engine import lockstep as together
from hrmas_sparse.storage.errors import Diverged
from hrmas_sparse.run.job import Job
from hrmas_sparse.run.summary import summary
from hrmas_sparse.run.loop import ALONE, Place, Stopped, stop_requests


def execute(seeds, paths, settings, cache, backend, facts, baseline, given=None, fresh=False):
    """Start or resume the runs, and go to their ends; one that diverges does not keep the others from it.

    Parameters
    ----------
    seeds, paths : the runs
    settings : :class:`hrmas_sparse.settings.schema.Config`
    cache : :class:`hrmas_sparse.data.dataset.Dataset`
    backend : see :mod:`hrmas_sparse.engine.backends`
    facts : dict, for the manifests
    baseline, given : as of :class:`hrmas_sparse.run.job.Job`
    fresh : set old runs aside first

    Returns
    -------
    int, the worst exit status: 0, 1 for a diverged run, 128 + n after signal n
    """
    pairs, baseline, worst = list(zip(seeds, paths)), functools.cache(baseline), 0
    several = backend.together(settings.training.batch) > 1
    for group in [pairs] if several else [[pair] for pair in pairs]:
        waiting = sum(fresh or not rundir.RunDir(path).finished for _, path in group)
        if waiting:
            backend.require(settings, cache, waiting)
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(_folder(path, fresh)) for _, path in group]
            jobs = []
            for (seed, _), run in zip(group, runs):
                if _start(run, settings, seed, cache, facts):
                    place = Place(len(jobs), f"s{seed} ") if len(group) > 1 else ALONE
                    jobs.append(Job(run, settings, seed, cache, backend, given, baseline, place))
            try:
                status = _run(jobs, backend.notice) if jobs else 0
            finally:  # those that ended have something to say, whatever became of the others
                for run in runs:
                    if run.finished:
                        print("\n".join(summary(run, run.result())))
        worst = max(worst, status)
        if status >= 128:
            break
    return worst


@contextlib.contextmanager
def _folder(path, fresh):
    """The folder of a run, ours alone while the block runs; an old one set aside if wanted."""
    run = rundir.RunDir(path)
    if fresh and run.manifest_path.exists():
        with run.working():
            print(f"{run.path}: set aside as {run.set_aside()}")
    with run.working():
        yield run


def _start(run, settings, seed, cache, facts):
    """Write a run's manifest or check the one that is there; returns whether there is anything left to do."""
    there = rundir.start(run, settings, seed, cache, facts)
    if run.finished:
        print(f"{run.path}: finished before; --fresh (FRESH=1) starts over")
        return False
    print(f"{run.path}: {'resuming' if there else 'starting'}, seed {seed}, profile {settings.profile}, "
          f"preset {settings.preset}", flush=True)
    return True


def _run(jobs, notice):
    """Run jobs to their ends, several of them together; returns the worst exit status."""
    if notice:
        print(notice, flush=True)
    with stop_requests() as asked:
        if len(jobs) == 1:
            return _one(jobs[0], asked)
        return max(together.run([functools.partial(_one_of_several, job, asked) for job in jobs]))


def _one(job, asked):
    run = job.run
    try:
        job.execute(asked)
    except Stopped as stop:
        print(f"{run.path}: stopped and checkpointed; the same command goes on from here", file=sys.stderr)
        return 128 + stop.signum
    except Diverged as error:
        print(f"hrmas: {run.path}: training diverged: {error}; {run.checkpoint_path.name} holds the state before. "
              "Try, under another --name, a smaller training.lr or network.slope_cap, or a larger network.v_th",
              file=sys.stderr)
        return 1
    return 0


def _one_of_several(job, asked):
    """As :func:`_one`; what ends a run alone is said at once, and raised when the others have ended."""
    try:
        return _one(job, asked)
    except Exception as error:
        print(f"{job.run.path}: failed: {error or type(error).__name__}; the others go on", file=sys.stderr)
        raise
