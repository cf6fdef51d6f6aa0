"""The spike cache: one HDF5 file of events per data set and encoding.

    /                  attributes: schema, program, meta_sha256 and the fields of `Meta`
    /{train,test}/     indptr  int64   (S + 1,)  samples S as in CSR: sample s owns events indptr[s]:indptr[s + 1]
                       step    uint16  (E,)      time step of an event, rising inside a sample
                       channel uint16  (E,)      input channel, rising inside a step
                       value   uint8   (E,)      1 or a spike count; float32 for real intensities
                       label   int64   (S,)      class, 0 .. classes - 1
                       ids     bytes   (S,)      the sample's name in the raw data, UTF-8

Every array carries the SHA-256 of its bytes in the attribute `sha256`.  Arrays are contiguous and uncompressed, so
that a process maps them read-only and keeps in memory only what it touches.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.events import EVENT_ARRAYS, Events
from hrmas_sparse.data.meta import PROVENANCES, SPLITS, Meta
from hrmas_sparse.data.writer import SCHEMA, CacheWriter, meta_sha256
from hrmas_sparse.storage import files, hdf5, records
from hrmas_sparse.storage.errors import Damaged, InputError, printable
from hrmas_sparse.storage.hdf5 import attributes

_DTYPES = {"indptr": "int64", "step": "uint16", "channel": "uint16", "value": "uint8 or float32", "label": "int64"}
_SCALAR = (None, bool, float, str)
_FORMS = {"encoding": {str: (*_SCALAR, [_SCALAR], {str: _SCALAR})}, "notes": {str: int}}
_BLOCK = 1 << 20  # entries read at a time
__all__ = ["PROVENANCES", "SCHEMA", "SPLITS", "CacheWriter", "Meta", "open_cache", "verify_cache"]


def _mapped(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    offset = dataset.id.get_offset()
    if offset is None or dataset.size == 0:  # nothing on disk to map
        return hdf5.read(dataset)
    return files.mapped(path, dataset.dtype, offset, dataset.shape)


def open_cache(path: str | Path) -> Dataset:
    """Open a cache as a data set after checking, cheaply, its schema, shapes, dtypes and labels.

    Raises
    ------
    InputError
        Naming the file and what is wrong: not there, not HDF5, cut short, another schema, a missing or misshapen
        array.  Event arrays are not read: `verify_cache` does that.
    """
    with _opened(path := Path(path)) as file:
        return _read(path, file)[0]


def _read(path: Path, file: h5py.File) -> tuple[Dataset, dict[str, dict[str, h5py.Dataset]]]:
    """The data set, and the arrays of each split as they lie in the file."""
    meta = _read_meta(path, file)
    found = {split: _found(path, file, split, meta) for split in SPLITS}
    train, test = (_split(path, arrays, meta) for arrays in found.values())
    ids = {split: _Ids(path, split) for split in SPLITS}
    return Dataset._of(train, test if len(test) else None, meta, path, ids), found


def _split(path: Path, arrays: dict[str, h5py.Dataset], meta: Meta) -> Events:
    large = {name: _mapped(path, arrays[name]) for name in EVENT_ARRAYS}
    return Events._of(indptr=hdf5.read(arrays["indptr"]), **large, labels=hdf5.read(arrays["label"]), steps=meta.steps,
                      channels=meta.channels)


class _Ids:
    """Names of the samples of a split, read when asked for."""

    def __init__(self, path: Path, split: str):
        self._path, self._split = path, split

    def __iter__(self) -> Iterator[str]:
        with _opened(self._path) as file:
            names = _names(hdf5.find(file, f"{self._split}/ids"))
        yield from names


def _names(ids: h5py.Dataset) -> list[str]:
    return [name.decode() for name in hdf5.read(ids)]


def verify_cache(path: str | Path) -> Dataset:
    """Open a cache after checking everything in it: as `open_cache`, then checksums, ranges, order of every array.

    Raises
    ------
    InputError
        Naming the file, the array and the first bad entry.
    """
    with _opened(path := Path(path)) as file:
        cache, found = _read(path, file)
        if attributes(file).get("meta_sha256") != meta_sha256(cache.meta):
            _damaged(path, "its attributes do not match their checksum")
        for split, arrays in found.items():
            for name, dataset in arrays.items():
                if attributes(dataset).get("sha256") != _sha256_of(dataset):
                    _damaged(path, f"/{split}/{name} does not match its checksum")
            events = getattr(cache, split)
            bad = None if events is None else events.first_bad()
            if bad is not None:
                _damaged(path, f"/{split} event {bad} is out of range or out of order: {events.shown(bad)}")
            if len(set(_names(arrays["ids"]))) != len(events or ()):
                _damaged(path, f"/{split}/ids holds a name twice")
    return cache


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.exists():
        raise InputError(f"{path}: no such file; a spike cache is made by `hrmas data build`, from files of spikes by "
                         "`hrmas data import`")
    try:
        with hdf5.opened(path) as file:
            yield file
    except hdf5.BROKEN as error:
        _damaged(path, f"expected an HDF5 spike cache, could not read it ({error})")


def _damaged(path: Path, what: str) -> NoReturn:
    """The file may be anybody's: nothing is said about removing it."""
    raise InputError(f"{path}: {what}; a spike cache is made by `hrmas data build`, from files of spikes by "
                     "`hrmas data import`") from None


def _read_meta(path: Path, file: h5py.File) -> Meta:
    about = attributes(file)
    if about.get("schema") != SCHEMA:
        _damaged(path, f"expected a spike cache of schema {SCHEMA}, found {about.get('schema', 'none')}")
    try:
        fields: dict[str, Any] = {
            **{name: printable(about[name]) for name in ("dataset", "fingerprint", "provenance")},
            **{name: int(about[name]) for name in ("steps", "channels", "classes")},
            **{name: _parsed(name, about[name], form) for name, form in _FORMS.items()},
            "class_names": tuple(_parsed("class_names", about["class_names"], [str])),
        }
        return Meta(**fields)
    except (KeyError, ValueError, TypeError, Damaged) as error:
        _damaged(path, f"bad or missing attribute ({error})")


def _parsed(name, text, form):
    value = records.parsed_json(text, name)
    if not records.fits(value, form):
        raise ValueError(f"{name}: {text[:40]!r} is not what belongs there")
    return value


def _found(path: Path, file: h5py.File, split: str, meta: Meta) -> dict[str, h5py.Dataset]:
    """The arrays of a split, their forms checked."""
    def expect(ok: Any, what: str) -> None:
        if not ok:
            _damaged(path, f"/{split}/{what}")

    arrays: dict[str, Any] = {name: hdf5.find(file, f"{split}/{name}") for name in (*_DTYPES, "ids")}
    for name, dataset in arrays.items():
        expect(isinstance(dataset, h5py.Dataset), f"{name} is missing")
        expect(dataset.ndim == 1 and dataset.chunks is None, f"{name} is not one contiguous vector")
        dtype, wanted = dataset.dtype, _DTYPES.get(name, "")
        ok = dtype.kind == "S" if name == "ids" else dtype.name in wanted.split(" or ") and dtype.isnative
        expect(ok, f"{name} has dtype {dtype}, expected {wanted or 'byte strings'}")
    samples, events = arrays["label"].size, arrays["step"].size
    for name, size in {"indptr": samples + 1, "ids": samples, "channel": events, "value": events}.items():
        expect(arrays[name].size == size, f"{name} has {arrays[name].size} entries, expected {size}")
    indptr, label = hdf5.read(arrays["indptr"]), hdf5.read(arrays["label"])
    rising = indptr[0] == 0 and indptr[-1] == events and (np.diff(indptr) >= 0).all()
    expect(rising, f"indptr does not rise from 0 to the number of events, {events}")
    expect(((label >= 0) & (label < meta.classes)).all(), f"label leaves 0..{meta.classes - 1}")
    return arrays


def _sha256_of(dataset: h5py.Dataset) -> str:
    digest = hashlib.sha256()
    for begin in range(0, dataset.size, _BLOCK):
        digest.update(dataset[begin : begin + _BLOCK].tobytes())
    return digest.hexdigest()
