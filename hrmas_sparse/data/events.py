"""Spikes as events: samples, batches of them, halves and the order of an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hrmas_sparse.storage.errors import InputError

EVENT_ARRAYS = ("step", "channel", "value")


@dataclass(frozen=True, eq=False)
class Events:
    """Samples as lists of events, CSR over samples: one split, or one batch of it.

    Attributes
    ----------
    indptr : (S + 1,) int64
        Sample s owns events ``indptr[s]:indptr[s + 1]``.
    step, channel : (E,) uint16
        Time step and input channel; sorted by step, ties by channel, each pair once in a sample.
    value : (E,) uint8 or float32
        Spike count (1 if binary), or an intensity.
    labels : (S,) int64
    steps, channels : int
        Extent of a sample: a dense batch would be (S, steps, channels).
    """

    indptr: np.ndarray
    step: np.ndarray
    channel: np.ndarray
    value: np.ndarray
    labels: np.ndarray
    steps: int
    channels: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: np.ndarray) -> Events:
        """Return the samples `index` ((B,) integers, in that order), copied into a batch of their own."""
        index = np.asarray(index, dtype=np.int64)
        start = self.indptr[index]
        length = self.indptr[index + 1] - start
        indptr = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        # Event k of the batch lies at k plus a shift that is constant over a sample.
        where = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], length)
        events = {name: getattr(self, name)[where] for name in EVENT_ARRAYS}
        return dataclasses.replace(self, indptr=indptr, labels=self.labels[index], **events)


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
