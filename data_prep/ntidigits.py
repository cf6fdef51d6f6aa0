"""N-TIDIGITS18: spikes of a silicon cochlea, spoken digits; one HDF5 file.

``{train,test}_labels`` name the recordings ``man|woman-<speaker>-<production>-<digits>``; below
``{train,test}_addresses`` and ``{train,test}_timestamps`` each has its channels, 0..63, and times in seconds.  Only
single digits are used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np

from data_prep.encode import bin_spikes
from data_prep.source import Remote, Source
from hrmas_sparse.storage import hdf5
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import PROVENANCES

FILE_NAME = "n-tidigits.hdf5"
CHANNELS = 64
CLASS_NAMES = ("z", "1", "2", "3", "4", "5", "6", "7", "8", "9", "o")
ENCODINGS = ("bin",)
PARTITIONS = ("ab",)
WHOLE = (2464, 2486)
REMOTES = (
    Remote("https://www.dropbox.com/scl/fi/1x4lxt9yyw25sc3tez8oi/n-tidigits.hdf5"
           "?e=2&rlkey=w8gi5udvib2zqzosusa5tr3wq&dl=1", FILE_NAME, "360a2d11e5429555c9197381cf6b58e0"),
)
STEP_MS = 5

_GROUPS = ("train", "test")
_LARGEST = 64 << 20  # bytes of one data set; those of the real file have some ten thousand
_SNAP = 1e-6  # steps: a time that is a whole step but for its last bits belongs to the step it starts


def find(raw: Path) -> Source:
    """The file: `raw` itself or `n-tidigits.hdf5` in it.

    Raises
    ------
    InputError
        If it is not there, is no HDF5 file or lacks a group; the message names file and group.
    """
    path = raw / FILE_NAME if raw.is_dir() else raw
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the N-TIDIGITS18 file {FILE_NAME}")
    with _opened(path) as file:
        for name in (f"{split}_{part}" for split in _GROUPS for part in ("labels", "addresses", "timestamps")):
            kind = h5py.Dataset if name.endswith("labels") else h5py.Group
            with _explained(path, name):
                right = isinstance(hdf5.find(file, name), kind)
            if not right:
                raise InputError(
                    f"{path}: {kind.__name__.lower()} /{name} is missing; is this N-TIDIGITS18? Get it again"
                )
        with _explained(path, "attribute provenance"):
            provenance = hdf5.attribute(file, "provenance", "real")
    if provenance not in PROVENANCES:
        raise InputError(f"{path}: attribute provenance is none of {PROVENANCES}; get the file again")
    return Source(path, (path,), provenance=provenance)


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value) for each single digit, as stored.

    ``data.partition``: "official" keeps the stored groups, "ab" trains on production a and tests on b of both.
    """
    path, end = source.root, data.steps * STEP_MS / 1000 + 1  # seconds; later is as good as never
    with _opened(path) as file:
        seen = set()
        for group in _GROUPS:
            for record, name in enumerate(_array(path, file, f"{group}_labels", "SO")):
                name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
                where = f"{path}, /{group}_labels record {record} ({name[:80]!r})"
                production, digits = _parse(where, name)
                if len(digits) != 1:
                    notes["recordings of several digits skipped"] += 1
                    continue
                label, split = _label(where, digits), _partition(where, group, production, data.partition)
                if (split, name) in seen:
                    raise InputError(
                        f"{where}: a second recording of that name in the {split} part; get the file again"
                    )
                seen.add((split, name))
                address, time = _spikes(path, file, group, name)
                # Division would put 0.29 s into step 57: 0.29 is a little less than 58 steps of 5 ms in floating point.
                step = np.floor(np.minimum(time, end) * (1000 / STEP_MS) + _SNAP).astype(np.int64)
                yield split, name, label, *bin_spikes(step, address, data, CHANNELS, notes)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(hdf5.opened(path))
        except hdf5.BROKEN as error:
            raise InputError(f"{path}: expected an HDF5 file, could not open it ({error}); get it again") from error
        yield file


@contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    """Whatever h5py raises on a broken file, as an InputError that names the place."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}, /{name}: cannot be read ({str(error)[:120]}); get the file again") from error


def _array(path: Path, file: h5py.File, name: str, kinds: str) -> np.ndarray:
    """Data set `name`, flat, of one of the dtype `kinds`."""

    def refuse(what: str):
        raise InputError(f"{path}, /{name}: {what}; get the file again")

    with _explained(path, name):
        dataset = hdf5.find(file, name)
        if not isinstance(dataset, h5py.Dataset):
            refuse("no such data set, though the labels name it")
        if dataset.dtype.kind not in kinds:
            refuse(f"expected {'numbers' if 'f' in kinds else 'names'}, found dtype {dataset.dtype}")
        return hdf5.read(dataset, _LARGEST).reshape(-1)


def _parse(where: str, name: str) -> tuple[str, str]:
    """Production and digits of a recording's name."""
    parts = name.split("-")
    if len(parts) != 4 or not parts[3]:
        raise InputError(f"{where}: expected a name like woman-ac-a-3; get the file again")
    return parts[2], parts[3]


def _label(where: str, digit: str) -> int:
    if digit not in CLASS_NAMES:
        raise InputError(f"{where}: unknown digit {digit!r}, expected one of {' '.join(CLASS_NAMES)}")
    return CLASS_NAMES.index(digit)


def _partition(where: str, group: str, production: str, partition: str) -> str:
    if partition != "ab":
        return group
    if production not in ("a", "b"):
        raise InputError(f"{where}: partition 'ab' needs production a or b, found {production!r}; use 'official'")
    return {"a": "train", "b": "test"}[production]


def _spikes(path: Path, file: h5py.File, group: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Channels (E,) int64 and times (E,) float64, seconds, of one recording."""

    def refuse(part: str, what: str):
        raise InputError(f"{path}, /{group}_{part}/{name}: {what}; get the file again")

    parts = (f"{group}_{part}/{name}" for part in ("addresses", "timestamps"))
    address, time = (_array(path, file, part, "iuf").astype(np.float64) for part in parts)
    if len(address) != len(time):
        refuse("addresses", f"{len(address)} addresses, but {len(time)} timestamps")
    checks = (
        ("addresses", address, (address >= 0) & (address < CHANNELS) & (address == np.floor(address)), "channel 0..63"),
        ("timestamps", time, (time >= 0) & np.isfinite(time), "time in seconds, not negative"),
    )
    for part, array, good, expected in checks:
        if not good.all():
            entry = int(np.argmin(good))
            refuse(part, f"entry {entry}: expected a {expected}, found {array[entry]}")
    return address.astype(np.int64), time
