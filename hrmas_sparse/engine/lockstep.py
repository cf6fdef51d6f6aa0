"""Several jobs in lockstep: what they request of a backend at the same time is done in one call.

Each job runs on its own thread, one at a time, in their order, until it requests something or ends. When all are
blocked, the largest group of identical requests is answered by one call, and its jobs go on. So calls and results
depend on the jobs and their order alone, never on the threads' timing, and a job that ends or fails takes no part any
more.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hrmas_sparse.engine.backends.base import Backend


class _Call(NamedTuple):
    """What a job wants: function(items), together with those that want the same function and kind."""

    function: Callable[[list], list]
    kind: Any
    items: list


class LockstepBackend:
    """A backend for one of several jobs: its passes and fetches are answered together with those of the others.

    In everything else it is the backend itself, and so it is in all once its job has ended.
    """

    def __init__(self, backend: Backend, job: _Job):
        self._backend, self._job = backend, job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, function: Callable, requests: list, kind: Any) -> list:
        """Return function(requests), see :meth:`Backend.run`; other jobs' requests of the kind go into the call."""
        return self._job.wait_for(_Call(function, kind, requests))

    def fetch(self, arrays: list) -> list:
        """Return arrays from where the backend computes, see :meth:`Backend.fetch`; one copy for all jobs."""
        return self._job.wait_for(_Call(self._backend.fetch, "fetch", arrays))


class _Job(threading.Thread):
    """A job's thread; it runs only while :meth:`go_on` waits for it."""

    def __init__(self, backend, work):
        super().__init__(daemon=True)  # a second Ctrl-C must not wait for it
        self._backend, self._work = LockstepBackend(backend, self), work
        self._its_turn, self._our_turn = threading.Semaphore(0), threading.Semaphore(0)
        self.call, self.answer, self.result, self.error = None, None, None, None

    def run(self):
        self._its_turn.acquire()
        try:
            self.result = self._work(self._backend)
        except BaseException as error:
            self.error = error
        self._our_turn.release()

    def go_on(self):
        """Let the job run until it wants something (``call``) or ends (None)."""
        self.call = None
        self._its_turn.release()
        self._our_turn.acquire()

    def wait_for(self, call):
        """On the job's thread: wait for the answer to a call, which may be an exception."""
        if not self.is_alive():
            return call.function(call.items)
        self.call = call
        self._our_turn.release()
        self._its_turn.acquire()
        answer, self.answer = self.answer, None  # a pass's gradients are large: only the job itself keeps them
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(backend: Backend, works: Sequence[Callable[[Any], Any]]) -> list:
    """Run jobs to their ends.

    Parameters
    ----------
    backend : Backend
    works : functions (backend) -> result; each is given a :class:`LockstepBackend`

    Returns
    -------
    What each returned, in order.

    Raises
    ------
    The first error of a job, in their order, once all have ended: a job that fails does not stop the others.
    """
    jobs = [_Job(backend, work) for work in works]
    for job in jobs:
        job.start()
    turn = jobs
    while turn:
        for job in turn:
            job.go_on()
        turn = _largest_group([job for job in jobs if job.call])
        if turn:
            _answer(turn)
    for job in jobs:
        if job.error:
            raise job.error
    return [job.result for job in jobs]


def _largest_group(jobs):
    """The jobs whose calls can be one; of several groups as large the first."""
    groups = {}
    for job in jobs:
        groups.setdefault(job.call[:2], []).append(job)
    return max(groups.values(), key=len, default=[])


def _answer(jobs):
    """Give jobs that want the same their answers, from one call."""
    items = [item for job in jobs for item in job.call.items]
    try:
        answers_of_all = iter(jobs[0].call.function(items))
        answers = [list(itertools.islice(answers_of_all, len(job.call.items))) for job in jobs]
    except Exception as error:
        answers = [error] * len(jobs)
    for job, answer in zip(jobs, answers):
        job.answer = answer
