"""The accuracy of logistic regression on spike counts: computed once for a data set, kept beside its cache.

    <cache>.counts.json   schema, fingerprint and encoding of the data, samples looked at, accuracy
"""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np

from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.records import read_json

MOST = {"train": 5000, "test": 10_000}   # samples, evenly spread
_FORM = {"schema": {1}, "fingerprint": str, "encoding": {}, "samples": {"train": int, "test": int}, "accuracy": float}


def count_accuracy(data: Dataset) -> float | None:
    """Return the test accuracy, 0..1; None where there is no test part or nothing to fit."""
    if data.test is None or not len(data.test) or len(data.train) < 2:
        return None
    about = {"schema": 1, "fingerprint": data.meta.fingerprint, "encoding": json.loads(json.dumps(data.meta.encoding)),
             "samples": {split: min(most, len(getattr(data, split))) for split, most in MOST.items()}}
    path = None if data.path is None else data.path.with_name(f"{data.path.stem}.counts.json")
    if path is not None:
        with contextlib.suppress(InputError):  # not there, or not ours: it is computed
            kept = read_json(path, _FORM)
            if {key: kept[key] for key in about} == about and 0 <= kept["accuracy"] <= 1:
                return kept["accuracy"]
    print("for comparison: logistic regression on spikes per channel ...", file=sys.stderr, flush=True)
    from hrmas_sparse.search.counts import count_baseline  # needs SciPy
    accuracy = count_baseline(Part(data))  # type: ignore[arg-type]
    if path is not None:
        with contextlib.suppress(InputError):  # a folder that cannot be written to: it is computed again next time
            write_json(path, about | {"accuracy": accuracy})
    return accuracy


class Part:
    """At most so many samples of each part, evenly spread, in place of a data set."""

    def __init__(self, data: Dataset, most: dict[str, int] | None = None):
        self.path, self.meta, self.grid, most = data.path, data.meta, data.grid, most or MOST
        self.train, self.test = (_spread(getattr(data, split), most[split]) for split in ("train", "test"))
        self.check = data.check


def _spread(events, count):
    if events is None or len(events) <= count:
        return events
    return events[np.unique(np.linspace(0, len(events) - 1, count).astype(np.int64))]
