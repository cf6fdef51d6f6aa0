"""Spikes as events: samples, batches of them, halves and the order of an epoch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrmas_sparse.data import checks
from hrmas_sparse.storage.errors import InputError

EVENT_ARRAYS = ("step", "channel", "value")
_BLOCK = 1 << 20  # events checked at a time


class NoSample(InputError, IndexError):
    """There is no such sample; an IndexError too, which ends a loop over events."""


@dataclass(frozen=True, eq=False, repr=False)
class Events:
    """Samples as lists of events, CSR over samples: one split, or one batch of it.

    What is built is checked: sizes, order, ranges, finite values. `from_dense` and `from_arrays` build it from
    more usual arrays.

    Attributes
    ----------
    indptr : (S + 1,) int64
        Sample s owns events ``indptr[s]:indptr[s + 1]``.
    step, channel : (E,) uint16
        Time step and input channel; sorted by step, ties by channel, each pair once in a sample.
    value : (E,) uint8 or float32
        Spike count (1 if binary), or an intensity (float64 for checks of gradients).
    labels : (S,) int64
        Class of each sample.
    steps, channels : int
        Extent of a sample: a dense batch would be (S, steps, channels).
    notes : dict
        What was merged, added up or dropped on the way here, with numbers.

    Raises
    ------
    InputError
        Naming the first bad entry.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> x = np.zeros((2, 5, 3), bool)             # 2 samples, 5 steps, 3 channels
    >>> x[0, 1, 2] = x[1, 4, 0] = True
    >>> events = hs.Events.from_dense(x, labels=[0, 1])
    >>> events
    Events(2 samples, 5 steps x 3 channels, 2 events, uint8)
    >>> events[1].step, events[[1, 0]].labels
    (array([4], dtype=uint16), array([1, 0]))
    """

    indptr: np.ndarray
    step: np.ndarray
    channel: np.ndarray
    value: np.ndarray
    labels: np.ndarray
    steps: int
    channels: int
    notes: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        vars(self).update(_checked(**vars(self)))

    def check(self) -> None:
        """Check anew: arrays can be written to, and so can the file that they are mapped from.

        Raises
        ------
        InputError
            Naming the first bad entry.
        """
        _labels(self.labels)
        _check_ends(self.indptr, self.labels, **{name: getattr(self, name) for name in EVENT_ARRAYS})
        n = self.first_bad()
        if n is not None:
            raise InputError(f"event {n}: expected steps 0 to {self.steps - 1}, channels 0 to {self.channels - 1}, a "
                             f"value above 0 and rising order in each sample, found {self.shown(n)}")

    def first_bad(self) -> int | None:
        """Return the first event that is out of range or not after the one before it; events are read in blocks."""
        starts = np.zeros(len(self.step) + 1, dtype=bool)
        starts[self.indptr] = True
        for begin in range(0, len(self.step), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            step, channel, value = (getattr(self, name)[block] for name in EVENT_ARRAYS)
            bad = (step >= self.steps) | (channel >= self.channels) | ~np.isfinite(value) | (value <= 0)
            key = step.astype(np.int64) * checks.MOST + channel
            before = int(self.step[begin - 1]) * checks.MOST + int(self.channel[begin - 1]) if begin else -1
            bad |= (np.diff(key, prepend=before) <= 0) & ~starts[begin:begin + len(key)]
            if bad.any():
                return begin + int(np.argmax(bad))
        return None

    def shown(self, n: int) -> str:
        """Return event n as text."""
        return ", ".join(f"{name} {getattr(self, name)[n]}" for name in EVENT_ARRAYS)

    @classmethod
    def _of(cls, **fields: Any) -> Events:
        """Events of fields that are known to be right, unchecked; arrays may lie on a device."""
        made = object.__new__(cls)
        vars(made).update({"notes": {}} | fields)
        return made

    def _with(self, **changes: Any) -> Events:
        """The same events with other fields, unchecked; of the same class."""
        return type(self)._of(**{name: vars(self)[name] for name in _FIELDS} | changes)

    @classmethod
    def from_dense(cls, x: Any, labels: Any) -> Events:
        """Return the events of a dense array.

        Parameters
        ----------
        x : (B, T, C) array
            bool, whole numbers (spike counts up to 255), or real intensities, not negative. Zero is no event.
        labels : (B,) integers
            Class of each sample, from 0.

        Raises
        ------
        InputError
            Another shape or dtype; NaN, negative numbers, counts above 255; the first bad entry is named.
        """
        x = checks.single("x", checks.strength("x", x, dimensions=3, zeros=True))
        labels = _labels(labels)
        if len(labels) != len(x):
            raise InputError(f"labels: expected one for each of the {len(x)} samples of x, found {len(labels)}")
        steps, channels = (checks.extent(f"x.shape[{axis}]", x.shape[axis]) for axis in (1, 2))
        sample, step, channel = np.nonzero(x)
        return cls._of(indptr=_indptr(sample, len(x)), step=step.astype(np.uint16), channel=channel.astype(np.uint16),
                       value=x[sample, step, channel], labels=labels, steps=steps, channels=channels)

    @classmethod
    def from_arrays(cls, sample: Any, step: Any, channel: Any, labels: Any, *, steps: int, channels: int,
                    value: Any = None) -> Events:
        """Return the events of flat arrays, in any order.

        Parameters
        ----------
        sample, step, channel : (E,) integers
            Of each event: index of its sample, time step, input channel, from 0.
        labels : (S,) integers
            Class of each sample, from 0. A sample may have no event.
        steps, channels : int
            Extent of a sample, at most 65,536.
        value : (E,) integers 1..255 or real numbers above 0, optional
            Spike counts or intensities. Two events of one sample, step and channel are added up, counts to 255 at
            most. Without `value` they are merged into one, and every event is 1. ``notes`` says how many there were.

        Raises
        ------
        InputError
            Arrays of different lengths or wrong dtypes, anything out of range; the first bad entry is named.

        Examples
        --------
        >>> import hrmas_sparse as hs
        >>> events = hs.Events.from_arrays([1, 0, 1], [4, 1, 4], [0, 2, 0], [0, 1], steps=5, channels=3)
        >>> events.indptr, events.notes
        (array([0, 1, 2]), {'duplicate events merged': 1})
        """
        steps, channels, labels = checks.extent("steps", steps), checks.extent("channels", channels), _labels(labels)
        sample = checks.whole("sample", sample, len(labels), np.int64)

        def place(entry: int) -> str:
            return f" (sample {sample[entry]})" if entry < len(sample) else ""

        step, channel = (checks.whole(name, x, size, np.int64, place)
                         for name, x, size in (("step", step, steps), ("channel", channel, channels)))
        strength = None if value is None else checks.single("value", checks.strength("value", value))
        for name, x in (("step", step), ("channel", channel), ("value", strength)):
            if x is not None and len(x) != len(sample):
                raise InputError(f"{name}: expected as many entries as sample has, {len(sample)}, found {len(x)}")
        key, where = np.unique((sample * steps + step) * channels + channel, return_inverse=True)
        strength, notes = _gathered(strength, where, len(key))
        row, channel = np.divmod(key, channels)
        sample, step = np.divmod(row, steps)
        return cls._of(indptr=_indptr(sample, len(labels)), step=step.astype(np.uint16),
                       channel=channel.astype(np.uint16), value=strength, labels=labels, steps=steps,
                       channels=channels, notes=notes)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({len(self):,} samples, {self.steps} steps x {self.channels} channels, "
                f"{int(self.indptr[-1]):,} events, {self.value.dtype})")

    def __iter__(self) -> Iterator[Events]:
        return (self[n] for n in range(len(self)))

    def __getitem__(self, index: Any) -> Events:
        """Return the samples `index` as a batch of their own, in that order: integers, one of them, a slice, a mask."""
        index = self._samples(index)
        start = self.indptr[index]
        length = self.indptr[index + 1] - start
        indptr = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        # Event k of the batch lies at k plus a shift that is constant over a sample.
        where = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], length)
        events = {name: getattr(self, name)[where] for name in EVENT_ARRAYS}
        return Events._of(indptr=indptr, labels=self.labels[index], steps=self.steps, channels=self.channels, **events)

    def _samples(self, index: Any) -> np.ndarray:
        """The numbers of the samples that an index means, (B,) int64."""
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.int64) if index.size == 0 else index
            if index.ndim == 1 and index.dtype == np.int64 and (not index.size or (
                    index.min() >= 0 and index.max() < len(self))):
                return np.asarray(index)
        try:
            numbers: np.ndarray = np.atleast_1d(np.arange(len(self))[index])
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            raise NoSample(f"events[...]: expected numbers of samples from 0 to {len(self) - 1}, a slice or a mask of "
                           f"{len(self)}; found {index!r} ({error})") from None
        if numbers.ndim != 1:
            raise NoSample(f"events[...]: expected one dimension of samples, found {numbers.ndim}")
        return numbers

    def dense(self) -> np.ndarray:
        """Return a dense array, (S, steps, channels), of the dtype of `value`; 0 where there is no event."""
        sample = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        x = np.zeros((len(self), self.steps, self.channels), self.value.dtype)
        x[sample, self.step, self.channel] = self.value
        return x


_FIELDS = tuple(field.name for field in dataclasses.fields(Events))


def _labels(labels: Any) -> np.ndarray:
    return checks.whole("labels", labels, checks.MOST_CLASSES, np.int64)


def _indptr(sample: np.ndarray, samples: int) -> np.ndarray:
    """Where the events of each sample begin and end; `sample`, of each event, rises."""
    return np.searchsorted(sample, np.arange(samples + 1)).astype(np.int64)


def _gathered(value: np.ndarray | None, where: np.ndarray, places: int) -> tuple[np.ndarray, dict[str, int]]:
    """Strength of each of the places that events fall to, and what there is to say about it."""
    double = len(where) - places
    if value is None:
        return np.ones(places, np.uint8), {"duplicate events merged": double} if double else {}
    notes = Counter({"duplicate events added up": double})
    total = np.bincount(where, value, places)
    if value.dtype.kind == "f":
        return checks.single("value", total), dict(+notes)
    notes["bins saturated at 255"] = int((total > checks.LARGEST_COUNT).sum())
    return np.minimum(total, checks.LARGEST_COUNT).astype(np.uint8), dict(+notes)


def _checked(indptr: Any, step: Any, channel: Any, value: Any, labels: Any, steps: Any, channels: Any,
             notes: Any) -> dict[str, Any]:
    """The fields of Events, each as it must be."""
    steps, channels, labels = checks.extent("steps", steps), checks.extent("channels", channels), _labels(labels)
    indptr = checks.array("indptr", indptr, "iu", "whole numbers").astype(np.int64, copy=False)
    step, channel = (checks.whole(name, x, size, np.uint16)
                     for name, x, size in (("step", step, steps), ("channel", channel, channels)))
    value = checks.strength("value", value)
    _check_ends(indptr, labels, step, channel, value)
    key = np.multiply(step, channels, dtype=np.uint32) + channel  # below 65536^2
    bad = key[1:] <= key[:-1]
    starts = indptr[(indptr > 0) & (indptr < len(key))]
    bad[starts - 1] = False
    if bad.any():
        entry = int(np.argmax(bad)) + 1
        raise InputError(f"events: expected those of a sample sorted by step, then channel, each pair once; event "
                         f"{entry} (step {step[entry]}, channel {channel[entry]}) comes after step {step[entry - 1]}, "
                         f"channel {channel[entry - 1]}; Events.from_arrays takes any order")
    return {"indptr": indptr, "step": step, "channel": channel, "value": value, "labels": labels, "steps": steps,
            "channels": channels, "notes": dict(notes)}


def _check_ends(indptr: np.ndarray, labels: np.ndarray, step: np.ndarray, channel: np.ndarray,
                value: np.ndarray) -> None:
    """Refuse arrays whose lengths do not fit, and an indptr that does not cut them into samples."""
    for name, x, length in (("indptr", indptr, len(labels) + 1), ("channel", channel, len(step)),
                            ("value", value, len(step))):
        if len(x) != length:
            raise InputError(f"{name}: expected {length} entries, found {len(x)}")
    falls = np.count_nonzero(indptr[1:] < indptr[:-1])
    if indptr[0] != 0 or indptr[-1] != len(step) or falls:
        raise InputError(f"indptr: expected numbers that rise from 0 to the number of events, {len(step)}, "
                         f"found {indptr[0]} to {indptr[-1]}, falling in {falls} places")


def joined(parts: Sequence[Events]) -> Events:
    """The samples of all parts, one part after the other; where the arrays of the parts lie."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(int(events.indptr[-1]) for events in parts)])
    indptr = np.concatenate([[0], *(events.indptr[1:] + offset for events, offset in zip(parts, offsets))])
    arrays = {name: np.concatenate([getattr(events, name) for events in parts]) for name in ("labels", *EVENT_ARRAYS)}
    return parts[0]._with(indptr=indptr.astype(np.int64), **arrays)


def halve(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide samples equally in two, class by class; the halves differ by at most one sample, in all and per class.

    Parameters
    ----------
    labels : (S,) integers

    Returns
    -------
    train, valid : int64, sorted, disjoint; together 0 .. S - 1

    Raises
    ------
    InputError
        With fewer than two samples.
    """
    labels = np.asarray(labels)
    if len(labels) < 2:
        raise InputError(f"a training set of {len(labels)} cannot be halved: at least 2 samples are needed")
    rng = np.random.default_rng(seed)
    # Dealing out the shuffled classes one after the other, like cards, balances each class and the whole at once.
    dealt = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    return np.sort(dealt[0::2]), np.sort(dealt[1::2])


def epoch_order(n: int, batch: int, seed: Sequence[int]) -> list[np.ndarray]:
    """Batches of one shuffled epoch over `n` samples: int64 index arrays of `batch`, the last one may be smaller.

    `seed` (numbers, such as run, epoch and purpose) says everything: no state is carried between epochs.
    """
    order = np.random.default_rng(seed).permutation(n)
    return [order[begin : begin + batch] for begin in range(0, n, batch)]
