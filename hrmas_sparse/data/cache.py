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
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from hrmas_sparse import __version__
from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.events import EVENT_ARRAYS, Events
from hrmas_sparse.data.meta import PROVENANCES, SPLITS, Meta
from hrmas_sparse.storage import files, hdf5, records
from hrmas_sparse.storage.errors import Damaged, InputError, printable
from hrmas_sparse.storage.atomic import atomic_write
from hrmas_sparse.storage.hdf5 import attributes, write_attributes

SCHEMA = 1
_DTYPES = {"indptr": "int64", "step": "uint16", "channel": "uint16", "value": "uint8 or float32", "label": "int64"}
_SCALAR = (None, bool, float, str)
_FORMS = {"encoding": {str: (*_SCALAR, [_SCALAR], {str: _SCALAR})}, "notes": {str: int}}
_BLOCK = 1 << 20  # events copied or checked at a time
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
        meta = _read_meta(path, file)
        for split in SPLITS:
            _check_split(path, file, split, meta)
        splits = [_split(path, file, split, meta) for split in SPLITS]
        ids = {split: _Ids(path, split) for split in SPLITS}
    return Dataset._of(*splits, meta, path, ids)


def _split(path: Path, file: h5py.File, split: str, meta: Meta) -> Events:
    large = {name: _mapped(path, hdf5.find(file, f"{split}/{name}")) for name in EVENT_ARRAYS}
    indptr, labels = (hdf5.read(hdf5.find(file, f"{split}/{name}")) for name in ("indptr", "label"))
    return Events._of(indptr=indptr, **large, labels=labels, steps=meta.steps, channels=meta.channels)


class _Ids:
    """Names of the samples of a split, read when asked for."""

    def __init__(self, path: Path, split: str):
        self._path, self._split = path, split

    def __iter__(self) -> Iterator[str]:
        with _opened(self._path) as file:
            names = [name.decode() for name in hdf5.read(hdf5.find(file, f"{self._split}/ids"))]
        yield from names


def verify_cache(path: str | Path) -> None:
    """Check everything in a cache: what `open_cache` does, then checksums, ranges and order of every array.

    Raises
    ------
    InputError
        Naming the file, the array and the first bad entry.
    """
    cache = open_cache(path)
    with _opened(cache.path) as file:
        if attributes(file).get("meta_sha256") != _meta_sha256(cache.meta):
            _damaged(cache.path, "its attributes do not match their checksum")
        for split in SPLITS:
            for name in ("indptr", "label", "ids", *EVENT_ARRAYS):
                dataset = hdf5.find(file, f"{split}/{name}")
                if attributes(dataset).get("sha256") != _sha256_of(dataset):
                    _damaged(cache.path, f"/{split}/{name} does not match its checksum")
            _check_events(cache, split)
            if len(set(cache.ids(split))) != len(getattr(cache, split)):
                _damaged(cache.path, f"/{split}/ids holds a name twice")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.exists():
        raise InputError(f"{path}: no such cache; build one with `hrmas data build`")
    try:
        with hdf5.opened(path) as file:
            yield file
    except hdf5.BROKEN as error:
        _damaged(path, f"expected an HDF5 spike cache, could not read it ({error})")


def _damaged(path: Path, what: str):
    raise InputError(f"{path}: {what}; delete the file and build the cache again") from None


def _read_meta(path: Path, file: h5py.File) -> Meta:
    about = attributes(file)
    if about.get("schema") != SCHEMA:
        _damaged(path, f"expected a spike cache of schema {SCHEMA}, found {about.get('schema', 'none')}")
    try:
        return Meta(
            **{name: printable(about[name]) for name in ("dataset", "fingerprint", "provenance")},
            **{name: int(about[name]) for name in ("steps", "channels", "classes")},
            **{name: _parsed(name, about[name], form) for name, form in _FORMS.items()},
            class_names=tuple(_parsed("class_names", about["class_names"], [str])),
        )
    except (KeyError, ValueError, TypeError, Damaged) as error:
        _damaged(path, f"bad or missing attribute ({error})")


def _parsed(name, text, form):
    value = records.parsed_json(text, name)
    if not records.fits(value, form):
        raise ValueError(f"{name}: {text[:40]!r} is not what belongs there")
    return value


def _check_split(path: Path, file: h5py.File, split: str, meta: Meta) -> None:
    def expect(ok: bool, what: str) -> None:
        if not ok:
            _damaged(path, f"/{split}/{what}")

    for name in (*_DTYPES, "ids"):
        dataset = hdf5.find(file, f"{split}/{name}")
        expect(isinstance(dataset, h5py.Dataset), f"{name} is missing")
        expect(dataset.ndim == 1 and dataset.chunks is None, f"{name} is not one contiguous vector")
        dtype, wanted = dataset.dtype, _DTYPES.get(name)
        ok = dtype.kind == "S" if name == "ids" else dtype.name in wanted.split(" or ") and dtype.isnative
        expect(ok, f"{name} has dtype {dtype}, expected {wanted or 'byte strings'}")
    group = file[split]
    samples, events = group["label"].size, group["step"].size
    for name, size in {"indptr": samples + 1, "ids": samples, "channel": events, "value": events}.items():
        expect(group[name].size == size, f"{name} has {group[name].size} entries, expected {size}")
    indptr, label = hdf5.read(group["indptr"]), hdf5.read(group["label"])
    rising = indptr[0] == 0 and indptr[-1] == events and (np.diff(indptr) >= 0).all()
    expect(rising, f"indptr does not rise from 0 to the number of events, {events}")
    expect(((label >= 0) & (label < meta.classes)).all(), f"label leaves 0..{meta.classes - 1}")


def _check_events(cache: Dataset, split: str) -> None:
    events = getattr(cache, split)
    starts = np.zeros(len(events.step) + 1, dtype=bool)
    starts[events.indptr] = True
    for begin in range(0, len(events.step), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        step, channel, value = (getattr(events, name)[part] for name in EVENT_ARRAYS)
        bad = (step >= events.steps) | (channel >= events.channels) | ~np.isfinite(value) | (value <= 0)
        key = step.astype(np.int64) * 65536 + channel
        before = int(events.step[begin - 1]) * 65536 + int(events.channel[begin - 1]) if begin else -1
        bad |= (np.diff(key, prepend=before) <= 0) & ~starts[begin : begin + len(key)]
        if bad.any():
            where = int(np.argmax(bad))
            found = f"step {step[where]}, channel {channel[where]}, value {value[where]}"
            _damaged(cache.path, f"/{split} event {begin + where} is out of range or out of order: {found}")


def _sha256_of(dataset: h5py.Dataset) -> str:
    digest = hashlib.sha256()
    for begin in range(0, dataset.size, _BLOCK):
        digest.update(dataset[begin : begin + _BLOCK].tobytes())
    return digest.hexdigest()


def _meta_sha256(meta: Meta) -> str:
    return hashlib.sha256(json.dumps(vars(meta), sort_keys=True).encode()).hexdigest()


class CacheWriter:
    """Write a cache sample by sample: ``with CacheWriter(path, meta) as cache: cache.add(...)``.

    Events go to unnamed files on the same disk until the end, so memory holds one sample, and the cache appears
    complete or not at all.  `meta.notes` is read on leaving the block.
    """

    def __init__(self, path: str | Path, meta: Meta):
        self.path, self.meta = Path(path), meta
        self._dtype = None  # of values: that of the first sample
        self._samples = {split: {} for split in SPLITS}  # id: (label, number of events)
        self._spool = {}

    def __enter__(self) -> CacheWriter:
        self._stack = contextlib.ExitStack()
        for key in itertools.product(SPLITS, EVENT_ARRAYS):
            self._spool[key] = self._stack.enter_context(tempfile.TemporaryFile(dir=self.path.parent))
        return self

    def __exit__(self, kind, error, trace) -> None:
        with self._stack:
            if kind is None:
                with atomic_write(self.path) as beside:
                    self._write(beside)

    def add(self, split: str, id: str, label: int, step: np.ndarray, channel: np.ndarray, value: np.ndarray) -> None:
        """Append one sample; its events may come in any order.

        Parameters
        ----------
        split : "train" or "test"
        id : unique in its split
        label : 0 .. classes - 1
        step, channel : (E,) integers, each pair once
        value : (E,) uint8 or float32, positive, the same dtype for all samples

        Raises
        ------
        ValueError
            When a reader hands over anything else: its mistake, not the user's.
        """
        step, channel, value = np.asarray(step), np.asarray(channel), np.asarray(value)
        self._check(split, id, label, step, channel, value)
        key = step.astype(np.int64) * 65536 + channel
        if (key[1:] <= key[:-1]).any():
            order = np.argsort(key)
            key, step, channel, value = key[order], step[order], channel[order], value[order]
            if (key[1:] == key[:-1]).any():
                raise ValueError(f"sample {id}: two events at one step and channel")
        for name, array in zip(EVENT_ARRAYS, (step.astype(np.uint16), channel.astype(np.uint16), value), strict=True):
            self._spool[split, name].write(array.tobytes())
        self._dtype = value.dtype
        self._samples[split][id] = label, len(step)

    def _check(self, split, id, label, step, channel, value) -> None:
        def expect(ok: bool, what: str) -> None:
            if not ok:
                raise ValueError(f"{split} sample {id}: {what}")

        expect(split in SPLITS and id not in self._samples[split], "no such split, or the id is there already")
        expect(0 <= label < self.meta.classes, f"label {label} leaves 0..{self.meta.classes - 1}")
        expect(step.ndim == 1 and step.shape == channel.shape == value.shape, "step, channel, value differ in shape")
        expect(value.dtype in (np.uint8, np.float32), f"value has dtype {value.dtype}")
        expect(self._dtype in (None, value.dtype), f"value changed from {self._dtype} to {value.dtype}")
        if step.size:
            expect(step.dtype.kind in "iu" and channel.dtype.kind in "iu", "step and channel must be integers")
            expect(0 <= step.min() and step.max() < self.meta.steps, f"step leaves 0..{self.meta.steps - 1}")
            expect(0 <= channel.min() and channel.max() < self.meta.channels, "channel out of range")
            expect(bool(np.isfinite(value).all() and (value > 0).all()), "value must be finite and positive")

    def _write(self, path: Path) -> None:
        # Aligned arrays, because a mapped array that straddles its element size is slow everywhere and refused by some.
        with hdf5.new_file(path, alignment_threshold=1, alignment_interval=64, libver="latest") as new:
            file = new.file
            fields = {k: x if isinstance(x, (str, int)) else json.dumps(x) for k, x in vars(self.meta).items()}
            write_attributes(file, schema=SCHEMA, program=__version__, meta_sha256=_meta_sha256(self.meta), **fields)
            for split in SPLITS:
                group = file.create_group(split)
                names = [name.encode() for name in self._samples[split]]
                label, length = np.array(list(self._samples[split].values()), dtype=np.int64).reshape(-1, 2).T
                small = {
                    "indptr": np.concatenate([[0], np.cumsum(length)]),
                    "label": np.ascontiguousarray(label),
                    "ids": np.array(names, dtype=np.bytes_ if names else "S1"),
                }
                for name, array in small.items():
                    write_attributes(group.create_dataset(name, data=array), sha256=hashlib.sha256(array).hexdigest())
                dtypes = {"step": np.uint16, "channel": np.uint16, "value": self._dtype or np.uint8}
                for name, dtype in dtypes.items():
                    digest = hashlib.sha256()
                    blocks = _blocks(self._spool[split, name], digest)
                    dataset = new.array(f"{split}/{name}", dtype, int(length.sum()), blocks)
                    write_attributes(dataset, sha256=digest.hexdigest())


def _blocks(spool, digest) -> Iterator[bytes]:
    """A spooled array, block by block; its checksum is counted on the way."""
    spool.seek(0)
    while block := spool.read(_BLOCK):
        digest.update(block)
        yield block
