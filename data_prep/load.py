"""Data by name or file: recordings of a known data set, a saved data set, a file in the form of SHD."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep import READERS, cache_path, check_settings, partition, prepare
from hrmas_sparse import places
from hrmas_sparse.data.cache import open_cache, verify_cache
from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.meta import SPLITS
from hrmas_sparse.data.shd import is_shd
from hrmas_sparse.data.writer import CacheWriter, is_cache
from hrmas_sparse.settings.load import OWN, Overrides, datasets, load
from hrmas_sparse.settings.schema import Config
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.files import path_of
from hrmas_sparse.storage.locks import locked

STEPS, STEP_MS = 100, 10.0  # of a file in the form of SHD, where nothing says otherwise
_SUFFIXES = (".h5", ".hdf5")


def is_file(dataset: str | os.PathLike[str]) -> bool:
    """Whether a data set is named by a file with spikes, not by a known name or a settings file."""
    return Path(dataset).suffix.lower() in _SUFFIXES


def configured(dataset: str | os.PathLike[str], preset: str = "default", profile: str | None = None,
               overrides: Overrides = ()) -> Config:
    """Return the settings of a data set: as `settings.load.load`, and for a saved data set too.

    A saved data set brings its own section [data]; its other settings are those of its name if that is known, else
    those of ``runs/own.toml``.
    """
    _refuse_arrays(dataset)
    if not is_file(dataset):
        settings = load(dataset, preset, profile, overrides)
        check_settings(settings.data)
        return settings
    data = saved(Path(dataset))
    name = data.meta.dataset if data.meta.dataset in datasets() else OWN
    wanted, unchanged = load(name, preset, profile, overrides), load(name, preset, profile).data
    settings = data.settings_for(wanted)
    for key in ("dataset", "encoding", "value", "steps"):
        given, stored = getattr(wanted.data, key), getattr(settings.data, key)
        if given not in (getattr(unchanged, key), stored):
            raise InputError(f"data.{key}: expected {stored!r}, that of {dataset}, found {given!r}; a saved data set "
                             "is taken as it is")
    return settings


def _refuse_arrays(dataset: str | os.PathLike[str]) -> None:
    if Path(dataset).suffix.lower() == ".npz":
        raise InputError(f"{dataset}: expected a saved data set, found a name of flat arrays; make one of them: hrmas "
                         f"data import {dataset} --out {Path(dataset).stem}.h5 (in Python: Dataset.from_npz)")


def saved(path: Path) -> Dataset:
    """The data set saved in a file, opened.

    Raises
    ------
    InputError
        There is no such file, or it holds something else; for a file in the form of SHD the message says what to do.
    """
    if path.is_file() and not is_cache(path) and is_shd(path):
        raise InputError(f"{path}: expected a saved data set, found spikes in seconds; make one of them: hrmas data "
                         f"import {path} --out own.h5 --steps {STEPS} --step-ms {STEP_MS:g}")
    return opened(path)


def prepared(settings: Config, raw: str | os.PathLike[str] | None = None, strict: bool = False,
             say: Callable[[str], None] = print, needed: tuple[str, ...] = SPLITS) -> Dataset:
    """Return the up to date data of a configuration, checked; one process at a time builds a cache.

    Parameters
    ----------
    settings : Config
    raw : the raw recordings, or the file of a saved data set
    strict, say, needed : as of :func:`data_prep.prepare`
    """
    folder = places.cache()
    with _alone(folder):
        if raw is not None and is_file(raw) and is_cache(Path(raw)):
            path = _of_saved(Path(raw), settings, folder, say, needed)
            verify_cache(path)
        else:
            if raw is not None and (settings.data.encoding == "given" or settings.data.dataset not in READERS):
                saved(Path(raw))  # says what it is instead
            path = prepare(settings.data, None if raw is None else Path(raw), folder, strict=strict, say=say,
                           needed=needed)
    return opened(path)


def opened(path: str | os.PathLike[str]) -> Dataset:
    """Open a spike cache as a data set that knows what its reader knows."""
    data = open_cache(path)
    return data.of_grid(getattr(READERS.get(data.meta.dataset), "GRID", None))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process builds caches in a folder; nobody does in one that cannot be written to."""
    with locked(folder / "lock", str(folder), wait=True) if _writable(folder) else contextlib.nullcontext():
        yield


def _writable(folder: Path) -> bool:
    """Whether a folder can be written to, or could if it were made."""
    while not folder.exists():
        folder = folder.absolute().parent
    return os.access(folder, os.W_OK)


def _of_saved(path: Path, settings: Config, folder: Path, say: Callable[[str], None], needed: tuple[str, ...]) -> Path:
    """The file of a saved data set, or of the partition of it that the settings ask for."""
    data = open_cache(path)
    stored = data.settings_for(settings).data
    keys = ("encoding", "steps", "partition", *(["value"] if stored.encoding != "given" else []))
    differs = [f"data.{key} {getattr(settings.data, key)!r}, found {getattr(stored, key)!r}"
               for key in keys if getattr(stored, key) != getattr(settings.data, key)]
    if differs:
        raise InputError(f"{path}: expected {', '.join(differs)}; a saved data set is taken as it is")
    if partition.drawn(stored.partition) and data.meta.encoding.get("partition") == "official":
        _need(path, data, partition.drawn_from(stored.partition, needed))
        path = _drawn(data, stored.partition, folder)
        data = open_cache(path)
    _need(path, data, needed)
    for line in data.summary().splitlines():
        say(line)
    return path


def _need(path: Path, data: Dataset, needed: tuple[str, ...]) -> None:
    for split in needed:
        if not getattr(data, split):
            raise InputError(f"{path}: has no {split} sample; in Python, Dataset.split makes a test part")


def _drawn(data: Dataset, wanted: str, folder: Path) -> Path:
    """The cache of a drawn partition of a saved data set, made if it is not there."""
    meta = dataclasses.replace(data.meta, encoding=data.meta.encoding | {"partition": wanted}, notes=Counter())
    path = cache_path(folder, meta)
    with contextlib.suppress(InputError):
        if open_cache(path).meta.fingerprint == meta.fingerprint:
            return path
    folder.mkdir(parents=True, exist_ok=True)
    with CacheWriter(path, meta) as writer:
        for sample in partition.samples(data, wanted):
            writer.add(*sample)
    return path


def load_dataset(name: str | os.PathLike[str], raw: str | os.PathLike[str] | None = None,
                 settings: Config | None = None) -> Dataset:
    """Return a data set by name or file.

    Parameters
    ----------
    name : str or path
        A known data set ("ti46"), whose recordings are encoded the first time; a file that `Dataset.save` wrote; or
        a file in the form of SHD, taken with 100 steps of 10 ms (``settings.data.steps`` of them, if given).
    raw : path, optional
        The raw recordings of a known data set, by default ``data/raw/<name>``.
    settings : Config, optional
        How recordings are encoded; by default ``hs.settings(name)``.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        A name that is not known, a file or recordings that are missing or damaged.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> data = hs.load_dataset("ti46", raw="recordings/ti46")    # doctest: +SKIP
    >>> x = [[[1, 0], [0, 1]], [[0, 1], [1, 1]]]                 # 2 samples, 2 steps, 2 channels
    >>> path = hs.Dataset(hs.Events.from_dense(x, labels=[0, 1]), name="own").save("own.h5")
    >>> hs.load_dataset(path).train
    Events(2 samples, 2 steps x 2 channels, 5 events, uint8)
    """
    name = str(path_of(name, "name"))
    _refuse_arrays(name)
    if not is_file(name):
        return prepared(load(name) if settings is None else settings, raw, say=lambda line: None, needed=("train",))
    path = Path(name)
    if path.is_file() and not is_cache(path) and is_shd(path):
        steps = STEPS if settings is None else settings.data.steps
        return Dataset.from_hdf5(path, steps=steps, step_ms=STEP_MS)
    verify_cache(path)
    return opened(path)
