"""Data sets in the form of the tonic library: anything indexable that gives (events, label).

Events are a structured array with the fields t (time, in microseconds), x, and optionally y and p (polarity).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from hrmas_sparse.data import checks
from hrmas_sparse.data.binning import binned
from hrmas_sparse.storage.errors import InputError

_AXES = ("p", "y", "x")  # a channel is (p, y, x), x running fastest


def read(name: str, source: Any) -> Iterator[tuple[str, np.ndarray, Any]]:
    """Yield (where, events, label) of every sample; `name` is of the split, for messages."""
    for index in range(_length(name, source)):
        where = f"{name}[{index}]"
        try:
            events, label = source[index]
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: expected (events, label), found something else ({error})") from None
        events = np.asarray(events)
        missing = [field for field in ("t", "x") if field not in (events.dtype.names or ())]
        if missing or events.ndim != 1:
            raise InputError(f"{where}: expected a structured array of events with the fields t and x (and y, p), "
                             f"found {events.dtype} {events.shape}; transforms that make frames are not for us")
        yield where, events, label


def name_of(source: Any) -> str:
    """What a data set is called: as its class, if that is one of its own."""
    kind = type(source)
    return "own" if kind.__module__ == "builtins" else kind.__name__.strip("_").lower() or "own"


def _length(name: str, source: Any) -> int:
    try:
        return len(source)
    except TypeError:
        raise InputError(f"{name}: expected something with a length that gives (events, label) at [i], found "
                         f"{type(source).__name__}") from None


def grid(sources: dict[str, Any]) -> tuple[int, int, int]:
    """Polarities, rows and columns: what the sources say (`sensor_size`), or else the largest of each there is."""
    for source in sources.values():
        size = getattr(source, "sensor_size", None)
        if isinstance(size, tuple) and len(size) == 3 and all(isinstance(n, (int, np.integer)) for n in size):
            columns, rows, polarities = (max(1, int(n)) for n in size)
            return polarities, rows, columns
    largest = Counter()
    for name, source in sources.items():
        for where, events, _ in read(name, source):
            for axis in _AXES:
                largest[axis] = max(largest[axis], int(_axis(where, events, axis, checks.MOST).max(initial=0)) + 1)
    polarities, rows, columns = (max(1, largest[axis]) for axis in _AXES)
    return polarities, rows, columns


def _axis(where: str, events: np.ndarray, axis: str, high: int) -> np.ndarray:
    """x, y or p of every event, int64; 0 where there is no such field."""
    if axis not in (events.dtype.names or ()) or (axis == "p" and high == 1):  # tonic's SHD: one polarity, p is 1
        return np.zeros(len(events), np.int64)
    values = events[axis]
    return checks.whole(f"{where} {axis}", values.astype(np.uint8) if values.dtype == bool else values, high, np.int64)


def sample(where: str, events: np.ndarray, shape: tuple[int, int, int], steps: int, step_us: float, value: str,
           notes: Counter) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step, channel and value of one sample."""
    time = checks.array(f"{where} t", events["t"], "iuf", "times in microseconds").astype(np.float64)
    good = np.isfinite(time) & (time >= 0)
    if not good.all():
        checks.refuse(f"{where} t", (int(np.argmin(good)),), "microseconds, not negative", time[np.argmin(good)])
    step = np.floor(np.minimum(time / step_us, float(steps))).astype(np.int64)
    place = [_axis(where, events, axis, size) for axis, size in zip(_AXES, shape)]
    return binned(step, np.ravel_multi_index(place, shape), steps, int(np.prod(shape)), value, notes)


def numbered(labels: list[Any], names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels as numbers, and the names of the classes where the labels were names."""
    if all(isinstance(label, (int, np.integer)) and not isinstance(label, bool) for label in labels):
        return np.array(labels, np.int64).reshape(-1), names
    texts = [str(label) for label in labels]
    names = names or tuple(sorted(set(texts)))
    unknown = sorted(set(texts) - set(names))
    if unknown:
        raise InputError(f"labels: expected class numbers, or names out of {', '.join(names[:20])}, "
                         f"found {unknown[0]!r}")
    return np.array([names.index(text) for text in texts], np.int64), names
