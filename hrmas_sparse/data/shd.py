"""HDF5 files in the form of the Spiking Heidelberg Digits (SHD): one file a split.

    spikes/times   (S,) lists of real numbers, or (S, E) numbers: seconds
    spikes/units   (S,) lists of whole numbers, or (S, E): input channel
    labels         (S,) whole numbers
    extra/keys     optional: names of the classes
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import h5py
import numpy as np

from hrmas_sparse.data.binning import Sample, binned
from hrmas_sparse.data.checks import MOST, MOST_CLASSES
from hrmas_sparse.data.vlen import lists
from hrmas_sparse.storage import hdf5
from hrmas_sparse.storage.errors import InputError, printable

_SNAP = 1e-6  # steps: a time that is a whole step but for its last bits belongs to the step it starts
_LARGEST_NAMES = 1 << 20
_NEARLY_ALL, _MANY = 0.9, 50  # share of the spikes, and lengths of a sample, that make times in another unit likely
_UNITS = (("milliseconds", "1,000", 2e5), ("microseconds", "1,000,000", 2e8), ("nanoseconds", "10^9", np.inf))


class Binning(NamedTuple):
    """How spikes become events: number and length of the steps, number of channels, "binary" or "count"."""

    steps: int
    step_ms: float
    channels: int
    value: str = "count"


def is_shd(path: Path) -> bool:
    """Whether an HDF5 file has what such a file has, whatever is in it."""
    try:
        with hdf5.opened(path) as file:
            return all(file.get(name, getlink=True) is not None for name in ("spikes", "labels"))
    except hdf5.BROKEN:
        return False


def largest_unit(path: Path) -> int:
    """The largest channel in a file; -1 without a spike."""
    with _file(path) as file:
        most = -1
        for record, units in enumerate(_vectors(path, file, "units", "iu")):
            _within(path, record, "units", units, MOST - 1)
            most = max(most, int(units.max()) if units.size else -1)
        return most


def names_of(path: Path) -> tuple[str, ...] | None:
    """Names of the classes, if the file has them."""
    with _file(path) as file, _explained(path, "extra/keys"):
        keys = hdf5.find(file, "extra/keys")
        if not isinstance(keys, h5py.Dataset) or keys.ndim != 1 or keys.dtype.kind not in "SO":
            return None
        stored = hdf5.read(keys, _LARGEST_NAMES).tolist()
        return tuple(printable(name.decode(errors="replace") if isinstance(name, bytes) else str(name))
                     for name in stored)


def samples(path: Path, binning: Binning, notes: Counter) -> Iterator[tuple[int, Sample]]:
    """Yield (label, (step, channel, value)) of each sample, in the order of the file.

    Raises
    ------
    InputError
        No such file, keys missing, lists of different lengths; times that are negative or no numbers, units outside
        the channels. The message names file and sample.
    """
    end = binning.steps * binning.step_ms / 1000 + 1  # seconds; later is as good as never
    spikes, late, latest = 0, 0, 0.0
    with _file(path) as file:
        labels = _labels(path, file)
        times, units = _vectors(path, file, "times", "iuf"), _vectors(path, file, "units", "iu")
        for record, (label, time, unit) in enumerate(zip(labels.tolist(), times, units, strict=True)):
            if len(time) != len(unit):
                _refuse(path, "spikes", f"sample {record}: {len(time)} times, but {len(unit)} units")
            _within(path, record, "units", unit, binning.channels - 1)
            time = time.astype(np.float64)
            good = np.isfinite(time) & (time >= 0)
            if not good.all():
                entry = int(np.argmin(good))
                _refuse(path, "spikes/times", f"sample {record}, spike {entry}: expected seconds, not negative, found "
                                              f"{time[entry]}")
            step = np.floor(np.minimum(time, end) * (1000 / binning.step_ms) + _SNAP).astype(np.int64)
            spikes, late = spikes + len(step), late + int((step >= binning.steps).sum())
            latest = max(latest, float(time.max(initial=0)))
            yield label, binned(step, unit.astype(np.int64), binning.steps, binning.channels, binning.value, notes)
    _check_unit(path, spikes, late, latest, end - 1)


def _check_unit(path: Path, spikes: int, late: int, latest: float, length: float) -> None:
    """Refuse times in another unit, which would be dropped, nearly all of them."""
    if late <= _NEARLY_ALL * spikes or latest < _MANY * length:
        return
    unit, factor = next((unit, factor) for unit, factor, most in _UNITS if latest <= most)
    _refuse(path, "spikes/times",
            f"expected seconds, found {late:,} of {spikes:,} spikes past the {length:g} s of all steps, the last at "
            f"{latest:g}: are these {unit}? Then divide them by {factor}, else take more or longer steps")


def _refuse(path: Path, name: str, what: str) -> NoReturn:
    raise InputError(f"{path}, /{name}: {what}; correct the file, or get it again")


@contextlib.contextmanager
def _file(path: Path) -> Iterator[h5py.File]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(hdf5.opened(path))
        except hdf5.BROKEN as error:
            raise InputError(f"{path}: expected an HDF5 file with spikes/times, spikes/units and labels, could not "
                             f"open it ({error})") from error
        yield file


@contextlib.contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    """Whatever a broken file makes h5py raise, as an InputError that names the place."""
    try:
        yield
    except InputError:
        raise
    except hdf5.BROKEN as error:
        _refuse(path, name, f"cannot be read ({str(error)[:160]})")


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    with _explained(path, name):
        dataset = hdf5.find(file, name)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path}: expected the data sets spikes/times, spikes/units and labels, found no {name}")
    return dataset


def _labels(path: Path, file: h5py.File) -> np.ndarray:
    dataset = _dataset(path, file, "labels")
    if dataset.ndim != 1 or dataset.dtype.kind not in "iu":
        _refuse(path, "labels", f"expected a vector of whole numbers, found {dataset.dtype} {dataset.shape}")
    for part in ("times", "units"):
        spikes = _dataset(path, file, f"spikes/{part}")
        if spikes.ndim == 0 or len(spikes) != len(dataset):
            _refuse(path, f"spikes/{part}", f"expected one entry for each of the {len(dataset)} labels, found shape "
                                            f"{spikes.shape}")
    with _explained(path, "labels"):
        labels = hdf5.read(dataset)
    bad = (labels < 0) | (labels >= MOST_CLASSES)
    if bad.any():
        entry = int(np.argmax(bad))
        _refuse(path, "labels", f"sample {entry}: expected 0 to {MOST_CLASSES - 1}, found {labels[entry]}")
    return labels.astype(np.int64)


def _vectors(path: Path, file: h5py.File, part: str, kinds: str) -> Iterator[np.ndarray]:
    """A vector for each sample: of lists of different length, or of a matrix."""
    name = f"spikes/{part}"
    dataset = _dataset(path, file, name)
    kind = h5py.check_vlen_dtype(dataset.dtype) or dataset.dtype
    if getattr(kind, "kind", "?") not in kinds:
        _refuse(path, name, f"expected {'whole ' if 'f' not in kinds else ''}numbers, found {kind}")
    with _explained(path, name):
        if dataset.dtype.kind == "O":
            yield from lists(dataset)
        elif dataset.ndim == 2:
            yield from hdf5.read(dataset)
        else:
            _refuse(path, name, f"expected a vector of lists or a matrix, found {dataset.dtype} {dataset.shape}")


def _within(path: Path, record: int, part: str, values: np.ndarray, high: int) -> None:
    if values.size and (values.min() < 0 or values.max() > high):
        entry = int(np.argmax((values < 0) | (values > high)))
        _refuse(path, f"spikes/{part}", f"sample {record}, spike {entry}: expected 0 to {high}, found {values[entry]}")
