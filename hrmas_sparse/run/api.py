"""Search and retraining as functions: ``hs.search``, ``hs.retrain``, ``hs.load_run``. The program runs the same job."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.selftest import tested_backend
from hrmas_sparse.run import folder
from hrmas_sparse.run.baseline import count_accuracy
from hrmas_sparse.run.footprint import require
from hrmas_sparse.run.given import architectures_for, origin_of
from hrmas_sparse.run.progress import Progress, Reporter
from hrmas_sparse.run.seeds import Task, working
from hrmas_sparse.run.stop import Stopped, StopRequest, never
from hrmas_sparse.run.trained import Run
from hrmas_sparse.settings.schema import Config
from hrmas_sparse.settings.validators import shown
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.files import path_of

Callback = Callable[[Progress], Any]
Stop = StopRequest | Callable[[], bool]


def search(data: Dataset, settings: Config, seed: int = 0, out: str | os.PathLike[str] | None = None,
           callback: Callback | None = None, stop: Stop | None = None, baseline: bool = False,
           backend: str = "auto") -> Run:
    """Search an architecture, retrain it with fresh weights, test it once.

    Parameters
    ----------
    data : Dataset
    settings : Config
        See :func:`hrmas_sparse.settings`.
    seed : int
        Decides everything that is random.
    out : path, optional
        The run's folder, as ``hrmas search`` makes it; an unfinished run that is there goes on, a finished one is
        returned. Without it nothing is written.
    callback : function (Progress), optional
        Called after every epoch; returning False stops the run. Without it a progress bar is shown.
    stop : StopRequest or function () -> bool, optional
        Asked after every batch; true stops the run.
    baseline : bool
        Compare with logistic regression on spike counts, too.
    backend : str
        "auto", "cpu" or "cuda".

    Returns
    -------
    Run
        One that was stopped is unfinished: its ``result`` is None. With a folder, the same call goes on from there.

    Raises
    ------
    InputError
        Something does not fit; the message says what.
    Diverged
        Training met a number that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(40) % 2
    >>> x = rng.random((40, 20, 8)) < np.where(labels, 0.4, 0.1)[:, None, None]
    >>> data = hs.Dataset(hs.Events.from_dense(x, labels), name="loud").split(test=0.25, seed=0)
    >>> settings = hs.settings(set={"network.neurons": [16], "network.motif_sizes": [2, 4], "training.search_epochs": 2,
    ...                             "training.retrain_epochs": 2})
    >>> run = hs.search(data, settings, callback=print)                                    # doctest: +ELLIPSIS
    Progress(phase='search-1', epoch=1, epochs=1, ...
    >>> run.predict(data.test).shape
    (10,)
    """
    return _run(data, settings, seed, out, callback, stop, baseline, backend)


def retrain(run_or_architecture: Run | Architecture | Sequence[Architecture], data: Dataset, settings: Config,
            seed: int = 1, out: str | os.PathLike[str] | None = None, callback: Callback | None = None,
            stop: Stop | None = None, baseline: bool = False, backend: str = "auto") -> Run:
    """Train a given architecture from fresh weights, and test it.

    Parameters
    ----------
    run_or_architecture : Run, Architecture or a list of one for each hidden layer
        A tied motif is carried to the layer sizes that the settings want.
    data, settings, seed, out, callback, stop, baseline, backend
        As of :func:`search`.

    Returns
    -------
    Run
        As of :func:`search`.

    Raises
    ------
    InputError
        The architecture does not fit the settings, or as of :func:`search`.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> rng, labels = np.random.default_rng(0), np.arange(40) % 2
    >>> x = rng.random((40, 20, 8)) < np.where(labels, 0.4, 0.1)[:, None, None]
    >>> data = hs.Dataset(hs.Events.from_dense(x, labels), name="loud").split(test=0.25, seed=0)
    >>> settings = hs.settings(set={"network.neurons": [16], "network.motif_sizes": [4], "training.retrain_epochs": 1})
    >>> motif = hs.Architecture.random(neurons=80, motif_size=4, seed=0)
    >>> run = hs.retrain(motif, data, settings, callback=lambda progress: None)
    >>> run.architecture[0].neurons, run.network.layers[0].size
    (16, 16)
    """
    _check(data, settings, seed, callback, stop)
    given = architectures_for(run_or_architecture, settings)
    return _run(data, settings, seed, out, callback, stop, baseline, backend, given,
                origin_of(run_or_architecture, given))


def load_run(path: str | os.PathLike[str], backend: str = "auto") -> Run:
    """Return the run of a folder, or of a name in ``runs/out``, finished or not.

    Parameters
    ----------
    path : path or str
        The folder or the name.
    backend : str
        "auto", "cpu" or "cuda": where its network will run.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        There is none, or its files are damaged.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> data = hs.Dataset(hs.Events.from_dense(np.ones((8, 5, 2), bool), np.arange(8) % 2)).split(test=0.5, seed=0)
    >>> settings = hs.settings(set={"network.neurons": [4], "network.motif_sizes": [2], "training.retrain_epochs": 1})
    >>> run = hs.retrain(hs.Architecture.random(4, 2, seed=0), data, settings, out="twos-s1",
    ...                  callback=lambda progress: None)
    >>> again = hs.load_run("twos-s1")
    >>> bool((again.predict(data.test) == run.predict(data.test)).all())
    True
    """
    return Run.of_folder(folder.open_run(str(path_of(path, "path"))), backend)


def _run(data: Dataset, settings: Config, seed: int, out: Any, callback: Callback | None, stop: Stop | None,
         baseline: bool, backend: Any, given: Any = None, origin: Any = None) -> Run:
    _check(data, settings, seed, callback, stop)
    out = None if out is None else path_of(out, "out")
    settings, seed = data.settings_for(settings), int(seed)
    backend = tested_backend(backend)
    count = functools.partial(count_accuracy, data) if baseline else None
    task = Task(settings, data, backend, {"raw": None} | (origin or {}), given, count)
    require(backend, settings, data, 1)
    if backend.notice and callback is None:
        print(backend.notice, file=sys.stderr)
    reporter, stop = Reporter(callback=callback), stop or never
    if out is None:
        return _in_memory(task, seed, reporter, stop)
    run = folder.RunDir(os.path.abspath(out))  # wherever the caller goes meanwhile
    with working(run):
        folder.start(run, settings, seed, data, task.origin)
        if not run.finished:
            try:
                task.job(run, seed, reporter).execute(stop)
            except Stopped:
                pass  # checkpointed
    return Run.of_folder(run, backend)


def _in_memory(task: Task, seed: int, reporter: Reporter, stop: Stop) -> Run:
    job = task.job(None, seed, reporter)
    try:
        job.execute(stop)
    except Stopped:
        pass
    return Run.of_job(job)


def _check(data: Any, settings: Any, seed: Any, callback: Any, stop: Any) -> None:
    if not isinstance(data, Dataset):
        raise InputError(f"data: expected a Dataset, found {shown(data)}; hs.Dataset(train, test) makes one of Events")
    if not isinstance(settings, Config):
        raise InputError(f"settings: expected what hs.settings(...) gives, found {shown(settings)}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**53:
        raise InputError(f"seed: expected a whole number of at least 0 and below 2^53, found {shown(seed)}")
    for name, value in (("callback", callback), ("stop", stop)):
        if value is not None and not callable(value):
            raise InputError(f"{name}: expected a function, found {shown(value)}")
