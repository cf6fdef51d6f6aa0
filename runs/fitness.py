"""Which of a cluster's workers get runs: those that see the folder of the runs and have the same program."""

from pathlib import Path

from distributed import WorkerPlugin

from hrmas_sparse.environment import option
from hrmas_sparse.storage.atomic import write_bytes
from hrmas_sparse.storage.errors import InputError
from runs import worker
from runs.worker import DETACHED

TOPIC = "hrmas"          # of the messages from workers to the client
NAME = "hrmas fitness "  # then whose runs it is about; Dask gives it to every worker that joins


class Fitness(WorkerPlugin):
    """Look at a worker's machine when it joins.

    One that is not fit says why and leaves the cluster.

    Parameters
    ----------
    owner : the id of Dask's client, or ``DETACHED`` and more
    expected : what :func:`runs.worker.facts` says on the client's machine
    probe : a file that every machine must see, or None if none is to be shared
    same_processor : whether the processor must be of the same model, too
    """

    def __init__(self, owner: str, expected: dict[str, str], probe: Path | None, same_processor: bool):
        self.name = NAME + owner
        self._expected, self._probe, self._same_processor = expected, probe, same_processor

    async def setup(self, worker) -> None:
        """Called by Dask where a worker starts or joins."""
        if reason := self._reason():
            worker.log_event(TOPIC, {"worker": worker.address, "unfit": reason})
            worker.loop.add_callback(worker.close_gracefully)

    def _reason(self) -> str:
        if self._probe is not None and not self._probe.exists():
            return (f"does not see the folder {self._probe.parent}: runs need a folder that all machines "
                    f"share, or {option('apart')}")
        here = worker.facts()
        differs = [f"{key} {here[key]} instead of {value}" for key, value in self._expected.items()
                   if here[key] != value and (key != "processor" or self._same_processor)]
        return ", ".join(differs)


def forget(dask_scheduler, owner: str = "") -> None:
    """On the scheduler: ask nothing more of workers for ``owner``, nor for clients that were killed.

    Else a worker of a newer version, or one that comes when the folder is gone, would be sent away for ever.
    """
    for name in list(dask_scheduler.worker_plugins):
        of = name.removeprefix(NAME)
        there = dask_scheduler.tasks if of.startswith(DETACHED) else of in dask_scheduler.clients
        if name.startswith(NAME) and (of == owner or not there):
            del dask_scheduler.worker_plugins[name]


class Cache(WorkerPlugin):
    """Put a spike cache into a worker's own folder when the worker joins.

    Parameters
    ----------
    file : its name there, which carries a checksum of what it holds
    content : of the file
    """

    def __init__(self, file: str, content: bytes = b""):
        self.name, self.file, self._content = f"hrmas cache {file}", file, content

    def with_content(self, content: bytes) -> "Cache":
        """Return the same with a content."""
        return Cache(self.file, content)

    async def setup(self, worker) -> None:
        """Called by Dask where a worker starts or joins."""
        try:
            write_bytes(Path(worker.local_directory) / self.file, self._content)
        except InputError as error:
            worker.log_event(TOPIC, {"worker": worker.address, "unfit": str(error)})
            worker.loop.add_callback(worker.close_gracefully)
