"""A data set: training and test samples as events, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.data.meta import SPLITS, Meta


class Dataset:
    """Training and test samples. In memory, or mapped from a spike cache, which reads what is touched.

    Attributes
    ----------
    train : Events
    test : Events or None
    meta : Meta
        Name, provenance, encoding, numbers of steps, channels and classes.
    path : Path or None
        The spike cache the samples are mapped from.
    """

    train: Events
    test: Events | None
    meta: Meta
    path: Path | None

    @classmethod
    def _of(cls, train: Events, test: Events | None, meta: Meta, path: Path | None = None,
            ids: dict[str, Sequence[str]] | None = None) -> Dataset:
        """A data set of parts that fit, unchecked."""
        made = cls.__new__(cls)
        made.train, made.test, made.meta, made.path, made._ids = train, test, meta, path, ids or {}
        return made

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class; a label is an index into it."""
        return self.meta.class_names

    def ids(self, split: str) -> list[str]:
        """Return the names of the samples of `split` ("train" or "test") in the raw data, in the order of `Events`."""
        return list(self._ids.get(split) or map(str, range(len(getattr(self, split) or ()))))

    def summary(self) -> str:
        """Return what is in the data set as lines for people."""
        meta, splits = self.meta, {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}
        samples = ", ".join(f"{len(events):,} {split}" for split, events in splits.items())
        events = sum(len(events.step) for events in splits.values())
        bins = max(1, sum(map(len, splits.values()))) * meta.steps * meta.channels
        silent = [f"{split} has no {name}" for split, e in splits.items() if len(e) for name in _absent(meta, e.labels)]
        return "\n".join([
            f"{meta.dataset}: {samples} samples ({meta.provenance}), {meta.classes} classes, "
            f"{meta.channels} channels x {meta.steps} steps, {events:,} events ({events / bins:.1%} of the bins)",
            *(f"  {count:,} {what}" for what, count in meta.notes.items() if count),
            *([f"  classes missing: {', '.join(silent)}"] if silent else []),
        ])


def _absent(meta: Meta, labels: np.ndarray) -> list[str]:
    there = set(labels.tolist())
    return [name for label, name in enumerate(meta.class_names) if label not in there]
