"""Runs on workers that share no folder with us: what a run needs is sent, what it has written comes back.

The spike cache is sent once to each worker. A run goes out as the files of its folder and comes back as those it has
changed: when it ends, and every ``SLICE_SECONDS``, then with a checkpoint. It goes out again at once, to whatever
worker is free. A worker that dies takes no more with it than what was done since.
"""

import contextlib
import dataclasses
import hashlib
import math
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.storage import files
from hrmas_sparse.storage.atomic import append_line, write_bytes, write_json
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.records import read_json
from runs import worker
from runs.worker import GIVEN_UP, Task

SLICE_SECONDS = 120.0
LEFT_OUT = ("lock", "lease")
MANIFEST = "manifest.json"
CACHE, OUT, SETTINGS = "{cache}", "{out}", "{settings}"     # words of a command that each worker fills in
FULL = "No space left on device"
_stopped: set[str] = set()                                  # in a worker: names of the stops that were asked for


@dataclass(frozen=True)
class Parcel:
    """A run on its way to a worker.

    Attributes
    ----------
    task : its command begins with the words after the interpreter and has the words of this module in it
    cache : name of the spike cache's file
    settings : content of the settings file that the command names, or None
    files : of the run's folder, name -> content
    """

    task: Task
    cache: str
    settings: bytes | None
    files: dict[str, bytes]


@dataclass(frozen=True)
class Returned:
    """A run on its way back: why it failed, the files that have changed, its output, whether the disk was full."""

    reason: str
    files: dict[str, bytes]
    log: bytes
    full: bool
    worker: str


# ---- on the worker -----------------------------------------------------------------------------------------------


def stop(name: str) -> None:
    """Remember, in a worker, that a client wants its runs back."""
    _stopped.add(name)


def carry_out(parcel: Parcel, name: str, seconds: float) -> Returned:
    """Go on with a run for a while, in a folder of this worker's own.

    Parameters
    ----------
    parcel : the run
    name : of the stop that may be asked for
    seconds : from its first checkpoint here, after which it stops, with another one

    Returns
    -------
    Returned
    """
    from distributed import get_worker
    here = get_worker()
    home = Path(here.local_directory)
    if name in _stopped:
        return Returned("", {}, b"", False, here.address)
    with tempfile.TemporaryDirectory(dir=home, prefix="hrmas-") as place:
        run, log = RunDir(Path(place) / parcel.task.folder.name), Path(place) / "log"
        try:
            run.path.mkdir()
            for file, content in parcel.files.items():
                write_bytes(run.path / file, content)
            if parcel.settings is not None:
                write_bytes(Path(place) / "settings.toml", parcel.settings)
            turn = _Turn(run, seconds)
            words = {CACHE: str(home / parcel.cache), OUT: place, SETTINGS: str(Path(place) / "settings.toml")}
            task = dataclasses.replace(parcel.task, folder=run.path, home=Path(place), log=log,
                                       command=[sys.executable, *(words.get(w, w) for w in parcel.task.command)])
            status, last = worker.one_process(task, lambda: name in _stopped or turn.over())
        except (InputError, OSError) as error:
            status, last = 1, str(error)
        resumable = status in (128 + signal.SIGTERM, -signal.SIGTERM)    # it was asked to end
        reason = "" if status == 0 or resumable else worker.described(status, last)
        full = FULL in last or shutil.disk_usage(place).free < 1 << 20
        changed = {} if reason and full else _changed(run.path, parcel.files)
        return Returned(reason, changed, _content(log), bool(reason) and full, here.address)


class _Turn:
    """Whether a run has had its time here, which begins with its first checkpoint: its start may take long."""

    def __init__(self, run, seconds):
        self._path, self._seconds = run.checkpoint_path, seconds
        self._before, self._end = self._written(), math.inf

    def _written(self):
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None

    def over(self):
        if self._end == math.inf and self._written() != self._before:
            self._end = time.monotonic() + self._seconds
        return time.monotonic() > self._end


def _changed(folder, before):
    now = contents(folder)
    return {name: content for name, content in now.items() if before.get(name) != content}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a run's folder, name -> content; those of whoever works on it apart."""
    if not folder.is_dir():
        return {}
    return {path.name: files.read(path) for path in sorted(folder.iterdir())
            if path.is_file() and path.name not in LEFT_OUT and not path.name.startswith(".")}


def _content(path):
    return files.read(path) if path.exists() else b""


# ---- on our side -------------------------------------------------------------------------------------------------


class Apart:
    """How runs go out and come back; see :class:`runs.cluster.Shared` for the other way.

    Parameters
    ----------
    client : of Dask
    name : of the stop that may be asked for
    """

    def __init__(self, client, name: str):
        self._client, self._name = client, name
        self._sent: dict[Path, str] = {}            # a spike cache -> the name it has on the workers
        self._began: dict[str, bytes | None] = {}   # a task -> the manifest that went out

    def call(self, task: Task) -> tuple:
        """Return the function that a worker calls, and its arguments."""
        assert task.cache is not None
        cache = self._send(task.cache)
        settings = None if task.settings is None else files.read(task.settings)
        parcel = Parcel(dataclasses.replace(task, command=task.sent), cache, settings, contents(task.folder))
        self._began[task.name] = parcel.files.get(MANIFEST)
        return carry_out, parcel, self._name, SLICE_SECONDS

    def stop(self) -> None:
        """Ask the workers for the runs; one that does not answer keeps nobody waiting."""
        def ask():
            with contextlib.suppress(Exception):    # whatever a cluster that goes down raises
                self._client.run(stop, self._name, on_error="ignore")
        threading.Thread(target=ask, daemon=True).start()

    def _send(self, cache: Path) -> str:
        """Give a spike cache to every worker there is and will be, once; return the name it has there.

        The name is made of the content: other data of the same name, a user's own, must not be taken for it.
        """
        from runs.fitness import Cache
        if cache not in self._sent:
            content = files.read(cache)
            digest = hashlib.blake2b(content, digest_size=8).hexdigest()
            plugin = Cache(f"{cache.stem}-{digest}{cache.suffix}")
            if plugin.name not in self._client.run_on_scheduler(_plugins):
                self._client.register_plugin(plugin.with_content(content))
            self._sent[cache] = plugin.file
        return self._sent[cache]

    def received(self, task: Task, returned: Returned) -> str | None:
        """Put a run's files where they belong; why it failed, empty if it has ended, None if it is to go on.

        A worker whose disk is full leaves the cluster, and its run goes to another one.
        """
        run = RunDir(task.folder)
        with contextlib.suppress(OSError):
            task.log.parent.mkdir(parents=True, exist_ok=True)
            if returned.log:
                append_line(task.log, returned.log.decode(errors="replace").rstrip("\n"))
        if returned.full:
            self._client.retire_workers([returned.worker])
            return None
        if returned.files:
            try:
                with run.working():
                    self._keep(run, task, returned.files)
            except InputError as error:
                return str(error)
        return returned.reason or ("" if run.finished or (task.folder / GIVEN_UP).exists() else None)

    def _keep(self, run, task, changed):
        there = files.read(run.manifest_path) if run.manifest_path.exists() else None
        if there != self._began[task.name]:
            raise InputError(f"{run.path}: another run was begun there meanwhile; what came back is not written")
        # What says that the run has ended is written last, and what it rests on is on the disk by then.
        for name in sorted(changed, key=lambda name: (name == "result.json", name == "checkpoint.h5")):
            if name != Path(name).name:
                raise InputError(f"{run.path}: a worker sent a file called {name!r}")
            write_bytes(run.path / name, changed[name])
        if MANIFEST in changed:
            manifest = read_json(run.manifest_path)
            manifest["raw"], manifest["data"]["cache"] = task.raw, str(task.cache)
            write_json(run.manifest_path, manifest)


def _plugins(dask_scheduler):
    return list(dask_scheduler.worker_plugins)
