"""The parts that a data set is made of, checked and put together."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.data import checks
from hrmas_sparse.data.binning import VALUES
from hrmas_sparse.data.events import EVENT_ARRAYS, Events
from hrmas_sparse.data.meta import PROVENANCES, SPLITS, Meta
from hrmas_sparse.settings.schema import DataConfig
from hrmas_sparse.storage.errors import InputError, printable


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Name the file or the part in what is refused."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def absent(meta: Meta, labels: np.ndarray) -> list[str]:
    """Names of the classes that no label means."""
    there = set(labels.tolist())
    return [name for label, name in enumerate(meta.class_names) if label not in there]


def names_of(parts: Sequence[Events], names: Iterable[str] | None) -> tuple[str, ...]:
    """Names of the classes; every label has one."""
    largest = max(int(events.labels.max(initial=-1)) for events in parts)
    if names is None:
        there = set(parts[0].labels.tolist())
        empty = [label for label in range(largest + 1) if label not in there]
        if empty:
            raise InputError(f"labels: expected training samples of every class 0 to {largest}, found none of class "
                             f"{empty[0]}; number the classes from 0 without gaps, or give class_names")
        return tuple(str(label) for label in range(largest + 1))
    if isinstance(names, str):
        raise InputError(f"class_names: expected a list of names, found the text {names!r}")
    names = tuple(str(name) for name in names)
    if not 1 <= len(names) <= checks.MOST_CLASSES or len(set(names)) < len(names):
        raise InputError(f"class_names: expected different names, at least one, found {len(names)}, "
                         f"{len(set(names))} of them different")
    if largest >= len(names):
        part, events = next((part, events) for part, events in zip(SPLITS, parts) if largest in events.labels)
        entry = int(np.argmax(events.labels == largest))
        raise InputError(f"{part}.labels[{entry}]: expected 0 to {len(names) - 1}, an index into class_names, found "
                         f"{largest}")
    return names


def meta_of(name: str, kind: str, train: Events, names: tuple[str, ...], provenance: str, notes: dict,
            print_of: str) -> Meta:
    """What a data set in memory says about itself."""
    if provenance not in PROVENANCES:
        raise InputError(f"provenance: expected {' or '.join(map(repr, PROVENANCES))}, found {provenance!r}")
    encoding: dict[str, Any] = {"encoding": "given", "value": "count" if kind == "intensity" else kind,
                                "steps": train.steps, "partition": "official"}
    DataConfig(dataset=name, **encoding)  # refuses a name that is none
    return Meta(name, print_of, encoding, train.steps, train.channels, len(names), names, provenance, notes)


def fingerprint(parts: Sequence[Events], names: tuple[str, ...]) -> str:
    """SHA-256 over everything in the parts."""
    digest = hashlib.sha256(json.dumps([names, *([e.steps, e.channels, len(e)] for e in parts)]).encode())
    for events in parts:
        for array in (events.indptr, events.labels, *(getattr(events, name) for name in EVENT_ARRAYS)):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def collected(samples: Iterable, steps: int, channels: int, notes: Counter) -> Events:
    """Events of (label, (step, channel, value)) of every sample, binned."""
    labels, length, parts = [], [0], [[], [], []]
    for label, arrays in samples:
        labels.append(label)
        length.append(len(arrays[0]))
        for part, array, dtype in zip(parts, arrays, (np.uint16, np.uint16, np.uint8)):
            part.append(array.astype(dtype))
    arrays = [np.concatenate([np.empty(0, dtype), *part]) for part, dtype in
              zip(parts, (np.uint16, np.uint16, np.uint8))]
    step, channel, value = arrays
    return Events(np.cumsum(length), step, channel, value, np.array(labels, np.int64), steps, channels, dict(+notes))


def one_of_values(value: str) -> str:
    """"count" or "binary"."""
    if value not in VALUES:
        raise InputError(f"value: expected {' or '.join(map(repr, VALUES))}, found {value!r}")
    return value


def positive(name: str, number: float) -> float:
    """A number above 0."""
    try:
        real = float(number)
    except (TypeError, ValueError, OverflowError):
        real = 0.0
    if not 0 < real < 1e12 or isinstance(number, (bool, str)):
        raise InputError(f"{name}: expected a number above 0, found {number!r}")
    return real


def plain_name(path: Path) -> str:
    """A data set's name from a file's."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in printable(path.name.split(".")[0]))
    return kept.strip("-_") or "own"
