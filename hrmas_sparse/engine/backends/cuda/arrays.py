"""Arrays on the device: CuPy's, or under the simulator (NUMBA_ENABLE_CUDASIM=1) NumPy's, which need no GPU.

``xp`` is the module of array functions, with NumPy's names. Numba and CuPy both work on the default stream, so what
one leaves the other finds, without waiting for it.
"""
import contextlib
from typing import Any

import numpy as np
from numba import config

from hrmas_sparse.storage.memory import available

xp: Any
if config.ENABLE_CUDASIM:
    xp = np
else:
    import cupy
    xp = cupy


def to_device(array):
    """A C-contiguous array on the device; what is there already stays."""
    there = type(array) is not np.ndarray and isinstance(array, xp.ndarray)
    if there and not config.ENABLE_CUDASIM and array.flags.c_contiguous:    # most are: this costs the host least
        return array
    return xp.ascontiguousarray(xp.asarray(array))


def to_host(array):
    """A device array as a NumPy array of its own; waits for the device. NumPy's own stay."""
    if type(array) is np.ndarray and not config.ENABLE_CUDASIM:
        return array
    return np.array(array, subok=False) if config.ENABLE_CUDASIM else xp.asnumpy(array)


def write(there, array):
    """Copy an array of the host into one on the device, of the same shape and type."""
    if isinstance(there, np.ndarray):
        np.copyto(there, array)
    else:
        there.set(np.ascontiguousarray(array))


@contextlib.contextmanager
def filled(room, like):
    """Give an array to fill, where ``like`` is: ``room`` itself, or one that is copied there afterwards."""
    here = not isinstance(room, type(like))
    there = xp.empty(room.shape, room.dtype) if here else room
    yield there
    if here:
        room[...] = to_host(there)


def memory_info():
    """Bytes free and in all on the device; unused blocks of CuPy's pool are free. The simulator has what it has."""
    if config.ENABLE_CUDASIM:
        return available(), available()
    free, total = xp.cuda.runtime.memGetInfo()
    return free + xp.get_default_memory_pool().free_bytes(), total


class _AtOnce:
    """The simulator's streams and events: what is asked for is done before anything else."""

    def record(self):
        return self

    def wait_event(self, event):
        pass

    def synchronize(self):
        pass


def computing():
    """The stream on which everything is computed."""
    return _AtOnce() if config.ENABLE_CUDASIM else xp.cuda.get_current_stream()


def copying():
    """A stream that copies beside it."""
    return _AtOnce() if config.ENABLE_CUDASIM else xp.cuda.Stream(non_blocking=True)


def pinned(length, dtype):
    """Memory of the host from which the device copies while the host goes on."""
    if config.ENABLE_CUDASIM:
        return np.empty(length, dtype)
    return np.frombuffer(xp.cuda.alloc_pinned_memory(max(1, length) * np.dtype(dtype).itemsize), dtype, length)


def carry(here, there, stream):
    """Copy a pinned array to the device, on a stream."""
    if config.ENABLE_CUDASIM:
        there.view(np.ndarray)[:] = here
    else:
        there.set(here, stream=stream)
