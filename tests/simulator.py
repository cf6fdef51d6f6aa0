"""The CUDA simulator without its polling, and stricter.

Numba's own waits for the threads of a block in a busy loop, which on a loaded machine takes the time the threads
need. Here they meet at a barrier, all of them: a thread that leaves before the others' barrier, which a GPU may hang
on and Numba's simulator lets pass, breaks it.
"""

import threading

import numpy as np
from numba.cuda.simulator import kernel

PATIENCE = 120  # seconds a thread waits for the rest of its block


def run(manager, grid_point, *arguments):
    """Stands in for BlockManager.run: one block, every thread a Python thread."""
    barrier = threading.Barrier(int(np.prod(manager._block_dim)))

    def work():
        try:
            manager._f(*arguments)
        except BaseException:
            barrier.abort()
            raise

    threads = [kernel.BlockThread(work, manager, grid_point, point, manager._debug)
               for point in np.ndindex(*manager._block_dim)]
    for thread in threads:
        thread.syncthreads = lambda: barrier.wait(PATIENCE)
        thread.start()
    for thread in threads:
        thread.join()
    failed = [thread.exception for thread in threads if thread.exception]
    if failed:
        first = next((e for e in failed if not isinstance(e[0], threading.BrokenBarrierError)), failed[0])
        raise first[0].with_traceback(first[1])


def install():
    """Use it."""
    kernel.BlockManager.run = run
