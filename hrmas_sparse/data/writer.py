"""Write a spike cache, sample by sample; cache.py says what is in the file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hrmas_sparse import __version__
from hrmas_sparse.data.events import EVENT_ARRAYS
from hrmas_sparse.data.meta import SPLITS, Meta
from hrmas_sparse.storage import hdf5
from hrmas_sparse.storage.atomic import atomic_write
from hrmas_sparse.storage.hdf5 import write_attributes

SCHEMA = 1
_BLOCK = 1 << 20  # bytes copied at a time


class CacheWriter:
    """Write a cache sample by sample: ``with CacheWriter(path, meta) as cache: cache.add(...)``.

    Events go to unnamed files on the same disk until the end, so memory holds one sample, and the cache appears
    complete or not at all.  `meta.notes` is read on leaving the block.
    """

    def __init__(self, path: str | Path, meta: Meta):
        self.path, self.meta = Path(path), meta
        self._dtype: np.dtype | None = None  # of values: that of the first sample
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
            write_attributes(file, schema=SCHEMA, program=__version__, meta_sha256=meta_sha256(self.meta), **fields)
            for split in SPLITS:
                group = file.create_group(split)
                names = [name.encode(errors="backslashreplace") for name in self._samples[split]]
                label, length = np.array(list(self._samples[split].values()), dtype=np.int64).reshape(-1, 2).T
                small = {
                    "indptr": np.concatenate([[0], np.cumsum(length)]),
                    "label": np.ascontiguousarray(label),
                    "ids": np.array(names, dtype=np.bytes_ if names else "S1"),
                }
                for name, array in small.items():
                    dataset = group.create_dataset(name, data=array)
                    write_attributes(dataset, sha256=hashlib.sha256(array.data).hexdigest())
                dtypes = {"step": np.dtype(np.uint16), "channel": np.dtype(np.uint16),
                          "value": self._dtype or np.dtype(np.uint8)}
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


def meta_sha256(meta: Meta) -> str:
    """The checksum of what a cache says about itself."""
    return hashlib.sha256(json.dumps(vars(meta), sort_keys=True).encode()).hexdigest()


def is_cache(path: Path) -> bool:
    """Whether a file is one that `CacheWriter` makes, sound or not."""
    try:
        with hdf5.opened(path) as file:
            return "schema" in file.attrs and "meta_sha256" in file.attrs
    except hdf5.BROKEN:
        return False
