"""Arrays on the device: CuPy's, or under the simulator (NUMBA_ENABLE_CUDASIM=1) NumPy's, which need no GPU.

``xp`` is the module of array functions, with NumPy's names. Numba and CuPy both work on the default stream, so what
one leaves the other finds, without waiting for it.
"""

import numpy as np
from numba import config

from hrmas_sparse.memory import available

if config.ENABLE_CUDASIM:
    xp = np
else:
    import cupy as xp


def to_device(array):
    """A C-contiguous array on the device; what is there already stays."""
    return xp.ascontiguousarray(xp.asarray(array))


def to_host(array):
    """A device array as a NumPy array of its own; waits for the device. NumPy's own stay."""
    if type(array) is np.ndarray and not config.ENABLE_CUDASIM:
        return array
    return np.array(array, subok=False) if config.ENABLE_CUDASIM else xp.asnumpy(array)


def add(total, part):
    """total += part, in place; ``total`` may be on the host."""
    total += to_host(part) if type(total) is np.ndarray else part


def memory_info():
    """Bytes free and in all on the device; unused blocks of CuPy's pool are free. The simulator has what it has."""
    if config.ENABLE_CUDASIM:
        return available(), available()
    free, total = xp.cuda.runtime.memGetInfo()
    return free + xp.get_default_memory_pool().free_bytes(), total
