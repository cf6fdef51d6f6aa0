"""Launch geometry: how many blocks and threads, how much shared memory.

``THREADS`` is the largest block. The CUDA simulator runs a Python thread for each, so tests make it small.
"""

from numba import config

from hrmas_sparse.engine.backends.cuda import footprint

THREADS = footprint.THREADS
TILE = 256             # threads of a block where blocks need nothing of each other
PARTS = 32             # of the samples, of which a thread sums a link's gradient
SHARED = 48 << 10      # bytes a block may have without asking the driver for more
WARP = 32
if config.ENABLE_CUDASIM:
    THREADS, TILE, WARP = 4, 4, 1


def over(blocks, columns):
    """Grid and block of a kernel that gives every row ``blocks`` blocks, a thread for each column."""
    width = min(TILE, -(-columns // WARP) * WARP)
    return (blocks, -(-columns // width)), width


def flat(count):
    """Grid and block of a kernel with a thread for each of many things; a grid is longest along its first axis."""
    (_, blocks), width = over(1, count)
    return blocks, width


def links(count, samples):
    """Blocks, threads, parts of the samples and links of a block, for gradients of ``count`` links.

    How many parts there are decides the order of sums.
    """
    parts = min(PARTS, samples)
    return -(-count // WARP), max(1, min(THREADS // WARP, parts)) * WARP, parts, WARP


def layer(samples, neurons, recurrent):
    """Grid, block and neurons per thread of a layer: one block a sample if recurrent, else tiles of neurons.

    See :func:`footprint.per_thread`.
    """
    if not recurrent:
        return *over(samples, neurons), 1
    per = footprint.per_thread(neurons, THREADS)
    width = -(-neurons // per)
    return (samples, 1), -(-width // WARP) * WARP, per
