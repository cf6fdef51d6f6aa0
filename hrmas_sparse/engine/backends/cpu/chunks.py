"""Chunks of samples on the CPU: events to bit masks and back, and buffers that are allocated once."""

import threading
from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.backends.cpu import DENSE, LANES
from hrmas_sparse.engine.backends.cpu.compile import jit


class Spikes(NamedTuple):
    """What a chunk's samples send.

    Sparse: bit l of mask[t, n] says whether neuron n of sample l spiked at step t; values (T, N, LANES)
    holds real-valued input, or is (0, 0, 0) where every spike counts 1.
    Dense input: mask is (0, N), values holds everything, zeros too.
    """

    mask: np.ndarray
    values: np.ndarray


@jit
def set_bits(indptr, step, channel, first, last, mask):
    """Set the bits of the events of samples first to last - 1 in a zeroed mask (T, C)."""
    for lane in range(last - first):
        for e in range(indptr[first + lane], indptr[first + lane + 1]):
            mask[step[e], channel[e]] |= np.uint16(1 << lane)


@jit
def set_values(indptr, step, channel, value, first, last, values):
    """As :func:`set_bits`, for the events' values in a zeroed array (T, C, LANES)."""
    for lane in range(last - first):
        for e in range(indptr[first + lane], indptr[first + lane + 1]):
            values[step[e], channel[e], lane] = value[e]


def cuts(samples):
    """Where chunks start, and where the last one ends: as few as fit, as even as can be.

    Uneven ones would keep the thread with the full ones busy while the other waits.
    """
    count = -(-samples // LANES)
    return [samples * n // count for n in range(count + 1)]


def pack(events, first, last, dtype):
    """What samples first to last - 1 of a batch send into the first layer."""
    shape = (events.steps, events.channels)
    value = events.value[events.indptr[first]:events.indptr[last]]
    dense = value.size > DENSE * shape[0] * shape[1] * (last - first)
    spikes = Spikes(np.zeros((0, shape[1]) if dense else shape, np.uint16),
                    np.zeros((*shape, LANES) if dense or (value != 1).any() else (0, 0, 0), dtype))
    if not dense:
        set_bits(events.indptr, events.step, events.channel, first, last, spikes.mask)
    if spikes.values.size:
        set_values(events.indptr, events.step, events.channel, events.value, first, last, spikes.values)
    return spikes


def unpack(opaque, size):
    """Spikes, or an array (..., T, N, LANES), of a chunk of so many samples as an array (..., size, T, N)."""
    if isinstance(opaque, Spikes):
        return _unpack_spikes(opaque, size)
    return np.moveaxis(opaque[..., :size], -1, -3).copy()


def _unpack_spikes(spikes, size):
    """Spikes of a chunk as a float64 array (size, T, N)."""
    if spikes.values.size and not spikes.mask.size:
        return spikes.values[..., :size].transpose(2, 0, 1).astype(np.float64)
    bits = (spikes.mask[None] >> np.arange(size, dtype=np.uint16)[:, None, None]) & 1
    if spikes.values.size:
        return bits * spikes.values[..., :size].transpose(2, 0, 1).astype(np.float64)
    return bits.astype(np.float64)


def aligned(shape, dtype):
    """An uninitialised array that starts on a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + size].view(dtype).reshape(shape)


class Buffers(threading.local):
    """Arrays by name, one set per worker thread. Fresh memory is slower than any kernel: reuse it."""

    def __init__(self):
        self._arrays = {}

    def get(self, name, shape, dtype):
        """The array of that name, as the last user left it, or a new one if shape or dtype changed."""
        array = self._arrays.get(name)
        if array is None or array.shape != tuple(shape) or array.dtype != dtype:
            array = self._arrays[name] = aligned(shape, dtype)
        return array

    def zeroed(self, name, shape, dtype):
        """As :meth:`get`, filled with zeros."""
        array = self.get(name, shape, dtype)
        array[...] = 0
        return array

    def ones(self, size, dtype):
        """At least so many ones, which nobody may change."""
        array = self._arrays.get("ones")
        if array is None or len(array) < size or array.dtype != dtype:
            array = self.get("ones", (size,), dtype)
            array[...] = 1
        return array

    def kept(self, name, key, make):
        """What ``make`` gave for this very key when last asked, made again for another."""
        known = self._arrays.get(name)
        if known is None or known[0] is not key:
            known = self._arrays[name] = (key, make())
        return known[1]
