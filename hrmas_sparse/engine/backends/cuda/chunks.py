"""Chunks of samples on the GPU: events to spikes of three forms, and back.

Shapes: S samples, T steps, C channels, E events, M networks (S/M samples each).
"""

from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.backends.cuda import batches, launch, synapses
from hrmas_sparse.engine.backends.cuda.arrays import to_device, to_host, xp
from hrmas_sparse.engine.backends.cuda.launch import over


class Bits(NamedTuple):
    """What neurons send: one bit a step."""

    words: object   # (S, ceil(T/32), N) uint32: bit t % 32 of word t // 32
    steps: int

    @property
    def shape(self):
        """(S, T, N)"""
        return self.words.shape[0], self.steps, self.words.shape[2]


class Values(NamedTuple):
    """Input with few zeros, and what the smooth variant sends: every number."""

    values: object  # (S, T, C)

    @property
    def shape(self):
        """(S, T, C)"""
        return self.values.shape


class EventRows(NamedTuple):
    """Sparse input, in two orders. A row is a sample's step, b T + t; a column a network's channel, m C + c."""

    row_start: object     # (S T + 1,) int64, events of each row, channels rising
    channel: object       # (E,) int32
    value: object         # (E,) real
    column_start: object  # (M C + 1,) int64, events of each column, rows rising
    row: object           # (E,) int32
    sent: object          # (E,) real, their values
    shape: tuple          # (S, T, C)


def pack(events, first, last, dtype, share, networks=1, into=None):
    """What samples first to last of a batch send into the first layer: :class:`Values` or :class:`EventRows`.

    share : Values if more than this share of the input is not zero
    into : where the numbers of Values go, else an array of their own
    """
    samples, steps, channels = last - first, events.steps, events.channels
    begin, end = int(events.indptr[first]), int(events.indptr[last])
    start = to_device(events.indptr[first:last + 1] - begin)
    step, channel, value = (to_device(x[begin:end]) for x in (events.step, events.channel, events.value))
    if end - begin > share * samples * steps * channels:
        values = xp.empty((samples, steps, channels), dtype) if into is None else into
        batches.scatter[samples, launch.TILE](
            start, step, channel, value, np.int64(channels), values.reshape(samples, -1))
        return Values(values)
    value = value.astype(dtype)
    sample = xp.searchsorted(start, xp.arange(end - begin), side="right") - 1
    row = sample * steps + step
    rows = samples * steps
    key = (row // (rows // networks) * channels + channel) * rows + row
    order = xp.argsort(key)
    row_start = xp.searchsorted(row, xp.arange(rows + 1))
    column_start = xp.searchsorted(key[order], xp.arange(networks * channels + 1) * rows)
    return EventRows(row_start, channel.astype(np.int32), value, column_start, row[order].astype(np.int32),
                     value[order], (samples, steps, channels))


def dense(spikes, dtype):
    """Spikes of neurons, or dense input, as numbers (S, T, C) on the device."""
    if isinstance(spikes, Values):
        return spikes.values
    values = xp.empty(spikes.shape, dtype)
    grid, block = over(spikes.shape[0], spikes.shape[2])
    synapses.spread[grid, block](spikes.words, values)
    return values


def unpack(opaque, size):
    """Spikes, or an array (..., S, T, N), of the first samples of a chunk as an array on the host."""
    if isinstance(opaque, (Bits, Values, EventRows)):
        return _unpack_spikes(opaque)[:size]
    return to_host(opaque[..., :size, :, :])


def _unpack_spikes(spikes):
    """Spikes as a float64 array (S, T, N) on the host."""
    if isinstance(spikes, Values):
        return to_host(spikes.values).astype(np.float64)
    if isinstance(spikes, EventRows):
        values, counts = np.zeros(spikes.shape), np.diff(to_host(spikes.row_start))
        rows = np.repeat(np.arange(counts.size), counts)
        values.reshape(counts.size, -1)[rows, to_host(spikes.channel)] = to_host(spikes.value)
        return values
    steps = np.arange(spikes.steps)
    words = to_host(spikes.words)[:, steps // 32]
    return (words >> (steps % 32).astype(np.uint32)[:, None] & 1).astype(np.float64)
