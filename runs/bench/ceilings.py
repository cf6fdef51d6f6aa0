"""What this machine can do at best, on one core: multiply-adds, copying from memory, moving in the cache."""

import time

import numpy as np
from numba import njit

from hrmas_sparse.engine.backends.cpu import LANES
from hrmas_sparse.engine.backends.cpu.chunks import aligned
from hrmas_sparse.engine.backends.cpu.lanes import add_scaled, load, store

COPY_BYTES = 1 << 27
CACHE_BYTES = 1 << 17


@njit(fastmath={"contract"})
def _multiply_adds(x, rounds):
    """Eight sums in registers, one multiply-add of LANES numbers each a round."""
    a, b, c, d = load(x, 0), load(x, 1), load(x, 2), load(x, 3)
    e, f, g, h = load(x, 4), load(x, 5), load(x, 6), load(x, 7)
    one, weight = load(x, 8), x[9, 0]
    for _ in range(rounds):
        a, b, c, d = (add_scaled(a, weight, one), add_scaled(b, weight, one), add_scaled(c, weight, one),
                      add_scaled(d, weight, one))
        e, f, g, h = (add_scaled(e, weight, one), add_scaled(f, weight, one), add_scaled(g, weight, one),
                      add_scaled(h, weight, one))
        weight = -weight
    for n, lanes in enumerate((a, b, c, d, e, f, g, h)):
        store(x, n, lanes)


def best(function, seconds=0.3):
    """Shortest time of a call, in seconds."""
    function()
    least, until = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        function()
        least = min(least, time.perf_counter() - start)
    return least


def ceilings():
    """Measure.

    Returns
    -------
    dict: ``madds`` multiply-adds a second (float32), ``memory`` bytes read and written a second when copying
    arrays that fit no cache, ``cache`` the same for arrays that fit one core's
    """
    x = aligned((10, LANES), np.float32)
    x[:] = 1
    rounds = 100_000
    madds = 8 * LANES * rounds / best(lambda: _multiply_adds(x, rounds))
    source, target = aligned((COPY_BYTES,), np.uint8), aligned((COPY_BYTES,), np.uint8)
    source[:], target[:] = 1, 0
    memory = 2 * COPY_BYTES / best(lambda: np.copyto(target, source))
    small, other = source[:CACHE_BYTES], target[:CACHE_BYTES]

    def many():
        for _ in range(100):
            np.copyto(other, small)

    return {"madds": madds, "memory": memory, "cache": 200 * CACHE_BYTES / best(many)}
