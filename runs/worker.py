"""What a worker of a cluster does: it starts runs, each in a process of its own, and sees them to their ends.

This module needs no Dask.
"""

import contextlib
import math
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hrmas_sparse import __version__
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.storage import files, locks
from hrmas_sparse.storage.errors import InputError

POLL_SECONDS = 0.2
LOOK_SECONDS, RENEW_SECONDS = 1.0, 5.0
DETACHED = "detached"    # .stop-detached in an experiment's folder ends what was left running for it
GIVEN_UP = "given-up"    # a file in a run's folder: the run is not to go on
JOB = "job.json"         # in the folder of a method of `hrmas compare`: what is to be computed
LEASE_SECONDS = 60.0     # a run whose worker has not renewed its lease for so long goes to another one
# Every library that may bring a pool of threads to linear algebra; NUMBA_NUM_THREADS is set apart.
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Task:
    """A run to make, on any machine that sees its folder.

    Attributes
    ----------
    name : of the run, for messages
    command : list of words; the process must stop, resumable, when its standard input ends
    folder : of the run; home : the working directory; log : file its output is appended to
    threads : of Numba
    work : how much there is to do, in a unit all tasks share; the longest starts first
    memory : bytes it takes at its peak
    cache, sent, settings, raw : for workers that share no folder with us, see :mod:`runs.apart`: the spike cache, the
        command there, the settings file it names or None, and what the manifest says of the recordings
    """

    name: str
    command: list[str]
    folder: Path
    home: Path
    log: Path
    threads: int
    work: float
    memory: int
    cache: Path | None = None
    sent: list[str] = field(default_factory=list)
    settings: Path | None = None
    raw: str | None = None


def facts() -> dict[str, str]:
    """Return what must be the same on every machine, and the processor, of which the last digits depend."""
    return {"hrmas_sparse": __version__, "processor": processor()}


def processor() -> str:
    """Return the model of this machine's processor."""
    try:
        lines = files.read_system("/proc/cpuinfo").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def carry_out(task: Task, stop: Path) -> str:
    """Make a run, or go on with it; on whatever machine this is called.

    Parameters
    ----------
    task : the run
    stop : a file; once it is there the run is asked to stop, with a checkpoint; so does ``GIVEN_UP`` in its folder

    Returns
    -------
    str, why it failed; empty if it has ended, or was asked to stop
    """
    run = RunDir(task.folder)
    while not _stopped(task, stop):
        if run.finished:
            return ""
        if _free(run):
            status, last = one_process(task, lambda: _stopped(task, stop))
            if status == 0 or _stopped(task, stop):
                return ""
            if not locks.held(run.lock_path) and not run.finished:       # else somebody else was quicker
                return f"{described(status, last)} (all of it: {task.log})"
        time.sleep(LOOK_SECONDS)
    return ""


def _stopped(task: Task, stop: Path) -> bool:
    return stop.exists() or (task.folder / GIVEN_UP).exists()


def _lease(run: RunDir) -> Path:
    return run.path / "lease"


def _free(run: RunDir) -> bool:
    """Whether nobody works on a run; one whose lease has run out is taken away from whoever holds it."""
    if not locks.held(run.lock_path):
        return True
    try:
        age = time.time() - _lease(run).stat().st_mtime
    except OSError:                                 # started by hand: it ends when it ends
        return False
    if age > LEASE_SECONDS:
        run.lock_path.unlink(missing_ok=True)       # its holder sees that and writes no more, see locks.check
        return True
    return False


def described(status: int, last: str) -> str:
    """Return why a process ended, by its exit status and its last line."""
    return f"{f'killed by {signal.Signals(-status).name}' if status < 0 else f'exit status {status}'}: {last}"


def one_process(task: Task, stopped: Callable[[], bool]) -> tuple[int, str]:
    """Run the command once; its exit status, minus the signal that killed it, and its last line.

    It is asked to end, with a checkpoint, once ``stopped`` says so.
    """
    task.log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {name: "1" for name in BLAS_THREADS} | {"NUMBA_NUM_THREADS": str(task.threads)}
    lease = _lease(RunDir(task.folder))
    with files.appended(task.log) as log:
        before = log.seek(0, os.SEEK_END)
        # A session of its own: Ctrl-C on a terminal is for the client, which asks each run to stop once.
        process = subprocess.Popen(task.command, env=environment, cwd=task.home, stdin=subprocess.PIPE, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    looked = renewed = -math.inf
    while process.poll() is None:       # often, for it costs nothing; a folder that others share is asked less often
        now = time.monotonic()
        if now - renewed > RENEW_SECONDS and task.folder.is_dir():
            renewed = now
            with contextlib.suppress(OSError, InputError):      # the folder was replaced: the run sees to it
                files.touch(lease)
        if now - looked > LOOK_SECONDS and process.stdin and not process.stdin.closed:
            looked = now
            if stopped():
                process.stdin.close()
        time.sleep(POLL_SECONDS)
    lines = files.read(task.log)[before:].decode(errors="replace").replace("\r", "\n").split("\n")
    return process.returncode, next((line for line in reversed(lines) if line.strip()), "no output")
