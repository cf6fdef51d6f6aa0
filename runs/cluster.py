"""Many runs on the workers of a Dask cluster: this machine's by default, or any number of machines.

    nothing                     a cluster in this process, as many runs at a time as cores
    tcp://host:8786             a scheduler that runs already
    scheduler.json              the file such a scheduler has written
    slurm.toml                  a batch system, see docs: dask-jobqueue starts the workers

The runs' folder must be one that all machines see. Whatever dies, nothing is lost but the time since a checkpoint: a
run goes to another worker, and the same command goes on after the client or the scheduler has died.
"""

import contextlib
import datetime
import math
import queue
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from hrmas_sparse import environment
from hrmas_sparse.storage import files, locks, memory, records
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.errors import InputError
from runs import worker
from runs.apart import Apart
from runs.status import AWAY, DASHBOARD
from runs.worker import DETACHED, Task

POLL_SECONDS, PROGRESS_SECONDS, CONNECT_SECONDS = 0.2, 2.0, 20
LOST = "the scheduler is gone; the same command goes on once there is one"
LOOPBACK = "127.0.0.1:0"  # where Dask's own page is served, on a free port
DIED = "its worker died"
ATTEMPTS = 20            # workers that may die with a run before it counts as failed
KINDS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}


def threads_for(tasks: int, jobs: int) -> int:
    """Return the threads of each run, so that all cores of this machine are busy."""
    return max(1, environment.cores() // max(1, min(jobs, tasks)))


@contextlib.contextmanager
def connected(where: str | None, jobs: int) -> Iterator[Any]:
    """Yield a Dask client of the cluster that ``where`` names, see the top of this module.

    Raises
    ------
    InputError
        There is no such cluster, or the extra `cluster` is not installed.
    """
    try:
        import dask
        import distributed
    except ModuleNotFoundError:
        raise InputError(f"many runs at once need Dask: {environment.install('cluster')}") from None
    with contextlib.ExitStack() as stack:
        if where is None:
            # Its worker is a thread of ours, and does not die by itself. A scheduler would take it for dead after a
            # sleep of the machine, and no run would ever begin again.
            stack.enter_context(dask.config.set({"distributed.scheduler.worker-ttl": None}))
            target = stack.enter_context(distributed.LocalCluster(
                n_workers=1, threads_per_worker=jobs, processes=False, dashboard_address=LOOPBACK, silence_logs=50,
                resources={"memory": memory.available()}))
        elif where.endswith(".toml"):
            target = stack.enter_context(_batch_system(Path(where)))
        elif where.endswith(".json"):
            if not Path(where).is_file():
                raise InputError(f"{where}: no such file; the scheduler writes it: dask scheduler --scheduler-file")
            target = None
        else:
            target = where
        options = {"scheduler_file": where} if target is None else {"address": target}
        try:
            yield stack.enter_context(distributed.Client(timeout=CONNECT_SECONDS, set_as_default=False, **options))
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(f"{where}: no scheduler answers there ({str(error).splitlines()[0]}); start one with "
                             "`dask scheduler`, and workers with `dask worker`") from error


def _batch_system(path: Path):
    """A cluster whose workers a batch system starts; the file's keys are those of dask-jobqueue's class."""
    table = records.read_toml(path)
    kind, jobs = table.pop("kind", None), table.pop("jobs", 1)
    if kind not in KINDS:
        raise InputError(f"{path}: kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    adaptive = table.pop("adaptive", None)
    table.setdefault("scheduler_options", {"dashboard_address": LOOPBACK})
    try:
        import dask_jobqueue
    except ModuleNotFoundError:
        raise InputError(f"{path}: batch systems need dask-jobqueue: {environment.install('cluster')}") from None
    try:
        cluster = getattr(dask_jobqueue, KINDS[kind])(**table)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}; its keys are those of dask_jobqueue.{KINDS[kind]}") from error
    if adaptive:
        cluster.adapt(**adaptive)
    else:
        cluster.scale(jobs=jobs)
    return cluster


class _Progress:
    """One line for all tasks, the time left judged by what was done since we began; a bar on a terminal only."""

    def __init__(self, tasks: list[Task], done: Callable[[Task], float], all_known: bool, later: int = 0):
        self._open, self._over = {task.name: task for task in tasks}, 0.0      # the work of those that have ended
        self._done_of, self._all_known = done, all_known
        self._ended, self._begun, self._expected = 0, len(tasks), len(tasks) + later
        self._began, self._looked = time.monotonic(), -math.inf
        self._sum, self._sum_of, self._took = 0.0, -math.inf, 0.0
        self._at_first = self._done()
        self._bar = tqdm(total=sum(task.work for task in tasks), initial=self._at_first, desc="all runs", disable=None,
                         bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]", smoothing=0)

    def add(self, tasks: list[Task]) -> None:
        """Count further tasks."""
        self._begun += len(tasks)
        self._open |= {task.name: task for task in tasks}
        self._bar.total += sum(task.work for task in tasks)

    def end(self, name: str) -> str:
        """Count a task as done, also one that never began; which of how many it is, as text."""
        if name in self._open:
            self._over += self._open.pop(name).work
        self._ended += 1
        return f"{self._ended} of {max(self._begun, self._expected)}"

    def _done(self) -> float:
        """How much is done, by a look into every folder: of thousands that takes long, so it is not done often."""
        now = time.monotonic()
        if now - self._sum_of > max(PROGRESS_SECONDS, 20 * self._took):
            self._sum = sum(min(self._done_of(task), task.work) for task in self._open.values())
            self._sum_of, self._took = now, time.monotonic() - now
        return self._over + self._sum

    def move(self, left: int) -> None:
        """Bring the bar up to date, every now and then."""
        if time.monotonic() - self._looked > PROGRESS_SECONDS and not self._bar.disable:
            self._looked = time.monotonic()
            self._bar.set_postfix_str(f"{left} left", refresh=False)
            self._bar.update(max(0.0, self._done() - self._bar.n))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.clear()
        print(text, flush=True)
        self._bar.refresh()

    def left(self) -> str:
        """Return "; about 2:10:00 left", or nothing where nobody knows yet."""
        done = self._done()
        if not self._all_known or self._bar.total - done < 1e-9 or done <= self._at_first:
            return ""
        seconds = (time.monotonic() - self._began) * (self._bar.total - done) / (done - self._at_first)
        return f"; about {datetime.timedelta(seconds=round(seconds))} left for all"

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        self._bar.close()


class How(NamedTuple):
    """How runs are made: on the same model of processor only; on workers that share no folder; without us."""

    same_processor: bool = False
    apart: bool = False
    detach: bool = False

    @classmethod
    def of(cls, options) -> "How":
        """What the options of a command say."""
        return cls(options.same_cpu, options.apart, getattr(options, "detach", False))


class Shared:
    """Runs in a folder that all workers see; see :class:`runs.apart.Apart` for the other way.

    Parameters
    ----------
    stop : the name of a file beside a run's folder; once it is there the run is asked to stop
    """

    def __init__(self, stop: str):
        self._stop = stop

    def call(self, task: Task) -> tuple:
        """Return the function that a worker calls, and its arguments."""
        return worker.carry_out, task, task.folder.parent / self._stop

    def received(self, task: Task, reason: str) -> str:
        """Why a run failed; empty if it has ended, or was asked to stop."""
        return reason

    def stop(self) -> None:
        """Called once the file is there: nothing more to do."""


class _Submitted:
    """The tasks as Dask's futures; what ends, or fails because its worker died, comes through a queue."""

    def __init__(self, client, tasks: list[Task], way: Shared | Apart):
        self._client, self._way = client, way
        offered = [one["resources"].get("memory", 0) for one in client.scheduler_info(n_workers=-1)["workers"].values()]
        # A run that asks for more than any worker has gets one of its own; where no worker says, no run asks.
        self._most = max(offered, default=0) if all(offered) else 0
        self.ended: queue.SimpleQueue = queue.SimpleQueue()
        self.waiting: dict[str, Any] = {}
        self._deaths: dict[str, int] = {}
        for task in tasks:
            self.submit(task)

    def submit(self, task: Task) -> None:
        """Hand a task to the scheduler, again if its worker has died or it came back to be sent on."""
        self._deaths.setdefault(task.name, 0)
        needed = {"memory": min(task.memory, self._most)} if self._most else None
        future = self._client.submit(*self._way.call(task), pure=False, priority=task.work,
                                     resources=needed, key=f"{task.name}-{secrets.token_hex(4)}")
        self.waiting[task.name] = future
        future.add_done_callback(lambda future, task=task: self.ended.put((task, future)))

    def result(self, task: Task, future, stopping: bool) -> str | None:
        """Why a task failed, empty if it did not; ``DIED`` if its worker did, and None if it is under way again."""
        del self.waiting[task.name]
        if future.cancelled():
            return LOST
        error = future.exception()
        if error is None:
            reason = self._way.received(task, future.result())
            if reason is None and not stopping:
                self.submit(task)
                return None
            return reason or ""
        self._deaths[task.name] += 1
        if type(error).__name__ == "KilledWorker" and self._deaths[task.name] < ATTEMPTS:
            self.submit(task)
            return DIED
        return f"{type(error).__name__}: {error}"

    def detach(self) -> None:
        """Let the scheduler keep the tasks when we are gone."""
        import distributed
        distributed.fire_and_forget(list(self.waiting.values()))


def run_all(tasks: list[Task], client, stopping, done: Callable[[Task], float], ended: Callable[[Task], str],
            how: How | None = None, more: Callable[..., list[Task] | None] | None = None,
            later: int = 0) -> dict[str, str]:
    """Run tasks on a cluster, until all have ended or a stop is asked for.

    Parameters
    ----------
    tasks : the runs
    client : of :func:`connected`
    stopping : function () -> whether somebody wants all runs to stop, with a checkpoint each
    done : function (task) -> how much of its work is done
    ended : function (task) -> text about one that ended well
    how : see :class:`How`; by default on any processor, in a shared folder, until they end
    more : function (what is returned, so far; function (text) that prints a line), called now and then -> further
        tasks, or None if there will be no more; it may add to what is returned why others cannot be made
    later : how many tasks of ``more`` there will be, where that is known

    Returns
    -------
    dict, name of a task -> why it failed
    """
    if not tasks:
        return {}
    how = how or How()
    homes = sorted({task.folder.parent for task in tasks})
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        stops, unfit = stack.enter_context(_asked(client, homes, how))
        stop = stops[0]
        way = Apart(client, stop.name) if how.apart else Shared(stop.name)
        if how.detach:
            _Submitted(client, tasks, way).detach()
            return {}
        for home in homes if how.apart else []:         # nobody else can see that these runs are worked on
            stack.enter_context(locks.locked(home / AWAY, f"{home}: its runs"))
        progress = stack.enter_context(contextlib.closing(_Progress(tasks, done, more is None, later)))
        submitted = _Submitted(client, tasks, way)
        further = None if more is None else []
        while submitted.waiting or further is not None:
            if stopping() and not stop.exists():
                for one in reversed(stops):             # the one that we look at last
                    files.touch(one)
                way.stop()
            with contextlib.suppress(queue.Empty):
                event = unfit.get_nowait()
                progress.say(f"worker {event['worker']}: leaves: {event['unfit']}")
            with contextlib.suppress(queue.Empty):
                task, future = submitted.ended.get(timeout=POLL_SECONDS)
                _said(task, submitted.result(task, future, stop.exists()), progress, failed, stop, ended)
            before = set(failed)
            further = None if further is None or stop.exists() else more(failed, progress.say)  # type: ignore[misc]
            for name in [name for name in failed if name not in before]:
                progress.say(f"{progress.end(name)}: {name}: FAILED: {failed[name]}")
            progress.add(further or [])
            for task in further or []:
                submitted.submit(task)
            progress.move(len(submitted.waiting))
    return failed


@contextlib.contextmanager
def _asked(client, homes: list[Path], how: How) -> Iterator[tuple[list[Path], queue.SimpleQueue]]:
    """Ask the workers for what ``how`` says; yields the files that stop the runs, and what unfit workers say.

    Nothing of it is left in the end, but for runs that go on without us.
    """
    from runs.fitness import TOPIC, Fitness
    name, owner = (DETACHED, f"{DETACHED} {homes[0]}") if how.detach else (client.id, client.id)
    stops, probe = [home / f".stop-{name}" for home in homes], homes[0] / f".probe-{name}"
    unfit: queue.SimpleQueue = queue.SimpleQueue()
    with contextlib.ExitStack() as last:
        for old in stops:
            old.unlink(missing_ok=True)
        for path in (*stops, probe):
            last.callback(path.unlink, missing_ok=True)
        last.callback(_forget, client, owner)
        files.touch(probe)
        for home in homes if client.dashboard_link else []:
            write_json(home / DASHBOARD, {"link": client.dashboard_link})
        client.subscribe_topic(TOPIC, lambda event: unfit.put(event[1]))
        _forget(client)
        client.register_plugin(Fitness(owner, worker.facts(), None if how.apart else probe, how.same_processor))
        yield stops, unfit
        if how.detach:
            last.pop_all()


def _forget(client, owner="") -> None:
    """Take back what workers are asked for, see :func:`runs.fitness.forget`; nothing rests on it."""
    from runs.fitness import forget
    if client.status == "running":                      # else its scheduler is gone, and that with it
        with contextlib.suppress(Exception):            # whatever a cluster that goes down raises
            client.run_on_scheduler(forget, owner=owner)


def _said(task, reason, progress, failed, stop, ended) -> None:
    """Print how a task ended, and remember one that failed."""
    if reason is None:
        return
    if reason == DIED:
        progress.say(f"{task.name}: its worker died; another one goes on")
        return
    so_far = progress.end(task.name)
    if reason:
        failed[task.name] = reason
        progress.say(f"{so_far}: {task.name}: FAILED: {reason}")
    elif not stop.exists():
        progress.say(f"{so_far}: {task.name}: {ended(task)}{progress.left()}")
