"""Several jobs together: what they ask for at the same time is done in one call.

A job is what it is alone, on a thread of its own, but only one runs at a time: in their order, each until it asks for
something or ends. When all have asked, the jobs that ask for the same, as most do, get their answers from one call, and
go on. The others wait; sooner or later the rest comes by and takes them along. So calls and results depend on
the jobs and their order alone, never on the threads' timing, and a job that ends or fails is simply not there any more.
"""

import itertools
import threading


class _Job(threading.Thread):
    """A job's thread; it runs only while :meth:`go_on` waits for it."""

    def __init__(self, work):
        super().__init__(daemon=True)  # a second Ctrl-C must not wait for it
        self._work, self._its_turn, self._our_turn = work, threading.Semaphore(0), threading.Semaphore(0)
        self.request, self.answer, self.result, self.error = None, None, None, None

    def run(self):
        self._its_turn.acquire()
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
        self._our_turn.release()

    def go_on(self):
        """Let the job run until it asks for something (``request``) or ends (None)."""
        self.request = None
        self._its_turn.release()
        self._our_turn.acquire()

    def ask(self, request):
        """On the job's thread: wait for the answer to (function, kind, items), which may be an exception."""
        self.request = request
        self._our_turn.release()
        self._its_turn.acquire()
        answer, self.answer = self.answer, None  # a pass's gradients are large: nobody keeps them but who asked
        if isinstance(answer, Exception):
            raise answer
        return answer


def ask(function, items, kind):
    """What function(items) gives, a list as long as items.

    In a job of :func:`run` the items of other jobs that ask for the same function and kind go into the same call.
    """
    job = threading.current_thread()
    return job.ask((function, kind, items)) if isinstance(job, _Job) else function(items)


def run(works):
    """Run jobs to their ends; what each returns, in order.

    Parameters
    ----------
    works : functions () -> result; on their threads they may :func:`ask`

    Raises
    ------
    The first error of a job, in their order, once all have ended: one that fails does not keep the others from it.
    """
    jobs = [_Job(work) for work in works]
    for job in jobs:
        job.start()
    turn = jobs
    while turn:
        for job in turn:
            job.go_on()
        turn = _most_alike([job for job in jobs if job.request])
        if turn:
            _answer(turn)
    for job in jobs:
        if job.error:
            raise job.error
    return [job.result for job in jobs]


def _most_alike(jobs):
    """Those of the jobs that ask for what most of them ask for; of several such groups the one that comes first."""
    groups = {}
    for job in jobs:
        groups.setdefault(job.request[:2], []).append(job)
    return max(groups.values(), key=len, default=[])


def _answer(jobs):
    """Give jobs that ask for the same their answers, from one call."""
    items = [item for job in jobs for item in job.request[2]]
    try:
        found = iter(jobs[0].request[0](items))
        answers = [list(itertools.islice(found, len(job.request[2]))) for job in jobs]
    except Exception as error:
        answers = [error] * len(jobs)
    for job, answer in zip(jobs, answers):
        job.answer = answer
