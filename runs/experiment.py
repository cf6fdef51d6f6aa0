"""Experiments: rows of runs that differ in what the row names, run side by side and resumed where they were.

    hrmas experiment table3 --data ti46 --raw <folder> --seeds 0-4

An experiment is a file in runs/experiments, see :mod:`runs.plan`. Each of its runs is one like any other, made by
`hrmas search`, in runs/out/<experiment>-<data set>/. What is finished is skipped, what is not is resumed.
"""

import contextlib
import datetime
import functools
import subprocess
import sys

from hrmas_sparse import environment
from hrmas_sparse.data.cache import open_cache
from hrmas_sparse.run.footprint import estimate
from hrmas_sparse.engine.backends import check_usable, on_gpu
from hrmas_sparse.settings.validators import plain
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import held, locked
from runs import pool
from runs.plan import folder_name, plan, read, record, refuse_other_settings, work, work_done

HRMAS = (sys.executable, "-m", "hrmas_sparse")


def build_caches(runs, options):
    """The spike caches of all runs, built before the first of them starts; dict data section -> cache."""
    caches = {}
    for planned in runs:
        if planned.settings.data in caches:
            continue
        made = subprocess.run([*HRMAS, "data", "build", planned.dataset, *_raw(options), *_settings(planned)],
                              stdout=subprocess.PIPE, text=True)
        if made.returncode:
            raise SystemExit(made.returncode if made.returncode > 0 else 128 - made.returncode)  # it has said why
        *lines, path = made.stdout.splitlines()
        print("\n".join(lines), flush=True)
        caches[planned.settings.data] = open_cache(path)
    return caches


def _raw(options):
    return [*(["--raw", str(options.raw)] if options.raw else []), *(["--strict"] if options.strict else [])]


def _settings(planned):
    """The words that make a run's settings of its data set's."""
    overrides = [word for text in planned.overrides if text for word in ("--set", text)]
    return ["--preset", planned.settings.preset, "--profile", planned.settings.profile, *overrides]


def task(planned, cache, options, threads):
    """The :class:`pool.Task` of a run."""
    samples = len(cache.train) * cache.meta.steps / 1e6
    command = [*HRMAS, "search", planned.dataset, *_raw(options), "--seeds", str(planned.seed),
               "--out", str(planned.folder.parent), "--name", planned.folder.name, "--backend", options.backend,
               "--end-with-stdin", *_settings(planned)]
    return pool.Task(planned.run.name, command, planned.folder.parent / "logs" / f"{planned.folder.name}.log",
                     work(planned.settings, samples), functools.partial(work_done, planned, samples),
                     lambda: not held(planned.run.lock_path),
                     sum(estimate(planned.settings, cache, threads).values()))


def outcome(planned):
    """A finished run in a few words."""
    result = planned.run.result()
    took = datetime.timedelta(seconds=round(sum(result["seconds"].values())))
    return f"{100 * result['test']['accuracy']:.2f} % in {took}"


def check_options(experiment, options):
    """Refuse options that do not fit the experiment or each other."""
    for row in options.rows or []:
        if row not in experiment.rows:
            raise InputError(f"--rows (ROWS=): {experiment.name} has the rows {', '.join(experiment.rows)}, "
                             f"found {row!r}")
    if options.neurons and not experiment.neurons:
        raise InputError(f"--neurons (NEURONS=): {experiment.name} has no list of layer sizes; use "
                         '--set (SET=) "network.neurons=..."')
    if options.raw and len(options.data or experiment.data) > 1:
        raise InputError("--raw (RAW=): goes with one data set; name it with --data (DATA=)")
    if options.name is not None and not plain(options.name):
        raise InputError(f"--name (NAME=): expected a plain name, found {options.name!r}")
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs (JOBS=): expected at least 1, found {options.jobs}")


def jobs_for(options):
    """Runs at a time: as asked for, else one where they would share a GPU, else one a core."""
    return options.jobs or (1 if on_gpu(options.backend) else environment.cores())


def run(options):
    """Run the experiment that the options of `hrmas experiment` name; returns the exit status."""
    experiment = read(options.experiment)
    check_options(experiment, options)
    check_usable(options.backend)
    with contextlib.ExitStack() as stack:
        left = {}
        for dataset in options.data or experiment.data:
            runs = plan(experiment, dataset, options, options.profile)
            stack.enter_context(locked(runs[0].folder.parent / "lock", str(runs[0].folder.parent)))
            caches = build_caches(runs, options)
            if options.profile is None and any(cache.meta.provenance != "real" for cache in caches.values()):
                runs = plan(experiment, dataset, options, "demo")
                caches |= build_caches([one for one in runs if one.settings.data not in caches], options)
            refuse_other_settings(experiment, dataset, options, runs)
            record(experiment, runs)
            unfinished = [planned for planned in runs if not planned.run.finished]
            print(f"{runs[0].folder.parent}: {len(runs)} runs, {len(runs) - len(unfinished)} finished before",
                  flush=True)
            left |= {planned.run.name: (planned, caches[planned.settings.data]) for planned in unfinished}
        jobs = jobs_for(options)
        threads = pool.threads_for(0, max(1, len(left)), jobs)
        tasks = [task(planned, cache, options, threads) for planned, cache in left.values()]
        failed, signum = pool.run_all(tasks, jobs, lambda task: outcome(left[task.name][0]))
    return _goodbye(experiment, options, failed, signum)


def _goodbye(experiment, options, failed, signum):
    """Say how it ended; the exit status."""
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if signum:
        print("stopped; every run is checkpointed, and the same command goes on from here", file=sys.stderr)
        return 128 + signum
    if failed:
        print(f"{len(failed)} runs failed; the same command tries them again and leaves the others as they are",
              file=sys.stderr)
        return 1
    for dataset in options.data or experiment.data:
        print(f"all finished; make report NAME={folder_name(experiment, dataset, options)} shows what came out")
    return 0
