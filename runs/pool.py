"""Many runs at once, each a process of its own that stops when we do, however we end."""

import contextlib
import datetime
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from hrmas_sparse import environment
from hrmas_sparse.storage import files, memory
from hrmas_sparse.run.signals import stop_on_signals

POLL_SECONDS, PROGRESS_SECONDS = 0.2, 2.0
# Every library that may bring a pool of threads to linear algebra; NUMBA_NUM_THREADS is set apart.
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Task:
    """A command to run.

    name : for messages
    command : list of words; its process must end, resumable, when its standard input does
    log : file its output is appended to
    work : how much there is to do, in a unit all tasks share; the longest starts first
    done : function () -> how much of it is done
    ready : function () -> whether it can start now; one that cannot is asked again later
    memory : bytes it takes at its peak
    """

    name: str
    command: list
    log: Path
    work: float
    done: Callable
    ready: Callable
    memory: int


def threads_for(running, left, jobs):
    """Threads of a process that starts now, so that all cores are busy once the others have started.

    Parameters
    ----------
    running : processes that run; left : tasks that have not started, this one among them; jobs : most at a time
    """
    return max(1, environment.cores() // min(jobs, running + left))


class _Process:
    """One running task."""

    def __init__(self, task, threads):
        self.task = task
        task.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {name: "1" for name in BLAS_THREADS} | {"NUMBA_NUM_THREADS": str(threads)}
        with files.appended(task.log) as log:
            self._before = log.seek(0, os.SEEK_END)
            # A session of its own: Ctrl-C on the terminal is for us, and we ask each to stop once.
            self._popen = subprocess.Popen(task.command, env=environment, stdin=subprocess.PIPE, stdout=log,
                                           stderr=subprocess.STDOUT, start_new_session=True)

    def ask_to_stop(self):
        """End its standard input."""
        self._popen.stdin.close()

    def status(self):
        """Exit status, minus the signal that killed it, or None while it runs."""
        return self._popen.poll()

    def reason(self):
        """Why it failed: status and last line."""
        status = self.status()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        with files.opened(self.task.log, own=True) as log:
            log.seek(self._before)
            lines = log.read().decode(errors="replace").replace("\r", "\n").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        return f"{how}: {last} (all of it: {self.task.log})"


class _Pool:
    """Which tasks wait, which run."""

    def __init__(self, tasks, jobs):
        self.waiting, self.running = sorted(tasks, key=lambda task: -task.work), []
        self._tasks, self._jobs, self._memory = tasks, jobs, memory.available()
        self._stopped = self._told = False

    def start(self, say):
        """Start what there is room for."""
        while len(self.running) < self._jobs:
            free = self._memory - sum(process.task.memory for process in self.running)
            task = next((task for task in self.waiting if task.ready() and (task.memory <= free or not self.running)),
                        None)
            if task is None:
                break
            self.running.append(_Process(task, threads_for(len(self.running), len(self.waiting), self._jobs)))
            self.waiting.remove(task)
        if self.waiting and not self.running and not self._told:
            self._told = True
            say(f"another process works on {', '.join(task.name for task in self.waiting)}: waiting for it")

    def stop(self):
        """Ask every process to stop, once: asked twice it would leave without a checkpoint."""
        if not self._stopped:
            self._stopped = True
            for process in self.running:
                process.ask_to_stop()

    def over(self):
        """Take out the processes that have ended."""
        over = [process for process in self.running if process.status() is not None]
        self.running = [process for process in self.running if process not in over]
        return over

    def count(self):
        """How many have ended, as text."""
        return f"{len(self._tasks) - len(self.waiting) - len(self.running)} of {len(self._tasks)}"


class _Progress:
    """One line for all tasks, the time left judged by what was done since we began; a bar on a terminal only."""

    def __init__(self, tasks):
        self._tasks, self._began, self._at_first, self._looked = tasks, time.monotonic(), 0.0, -math.inf
        self._at_first = self._done()
        self._bar = tqdm(total=sum(task.work for task in tasks), initial=self._at_first, desc="all runs", disable=None,
                         bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]", smoothing=0)

    def _done(self):
        return sum(min(task.done(), task.work) for task in self._tasks)

    def move(self, pool):
        """Bring the bar up to date, every now and then."""
        if time.monotonic() - self._looked > PROGRESS_SECONDS:
            self._looked = time.monotonic()
            self._bar.set_postfix_str(f"{len(pool.running)} running, {len(pool.waiting)} waiting", refresh=False)
            self._bar.update(max(0.0, self._done() - self._bar.n))

    def say(self, text):
        """A line above the bar."""
        self._bar.clear()
        print(text, flush=True)
        self._bar.refresh()

    def left(self):
        """", about 2:10:00 left", or nothing where nobody knows yet."""
        done = self._done()
        if self._bar.total - done < 1e-9 or done <= self._at_first:
            return ""
        seconds = (time.monotonic() - self._began) * (self._bar.total - done) / (done - self._at_first)
        return f"; about {datetime.timedelta(seconds=round(seconds))} left for all"

    def close(self):
        """Leave the last state of the bar on the screen."""
        self._bar.close()


def run_all(tasks, jobs, ended):
    """Run tasks, several at a time, until all have ended or a signal asks to stop.

    Parameters
    ----------
    tasks : list of :class:`Task`
    jobs : most processes at a time; fewer run where memory does not hold them
    ended : function (task) -> text about one that ended well

    Returns
    -------
    failed : dict, name of a task -> why it failed
    signum : signal that asked to stop, or None
    """
    pool, failed = _Pool(tasks, jobs), {}
    with stop_on_signals() as stop, contextlib.closing(_Progress(tasks)) as progress:
        while pool.running or (pool.waiting and not stop()):
            if stop():
                pool.stop()
            else:
                pool.start(progress.say)
            time.sleep(POLL_SECONDS)
            for process in pool.over():
                name = process.task.name
                if process.status() == 0:
                    progress.say(f"{pool.count()}: {name}: {ended(process.task)}{progress.left()}")
                elif not stop():
                    failed[name] = process.reason()
                    progress.say(f"{pool.count()}: {name}: FAILED: {failed[name]}")
            progress.move(pool)
    return failed, stop.signum
