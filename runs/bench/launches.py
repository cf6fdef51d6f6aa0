"""What our engine launches on a GPU: every kernel of the CUDA backend and every GEMM, counted and timed.

CuPy's element-wise operations and copies are not seen here; in a roofline they are what the named rows leave.
"""

from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock


class Launch(NamedTuple):
    """One launch: the kernel's name, and marks before and after it."""

    name: str
    start: Any
    end: Any


@contextmanager
def recorded(mark=lambda: None):
    """Collect :class:`Launch` while the block runs; ``mark`` gives a point in the device's time.

    A kernel is launched as ``kernel[grid, block](...)``, on a GPU as in the simulator, and that is where it is seen.
    So nothing is started as a graph meanwhile.
    """
    from hrmas_sparse.engine.backends.cuda import arrays, products, synapses
    from hrmas_sparse.engine.backends.cuda.backend import CudaBackend

    launches, kernels, xp = [], type(synapses.spread), arrays.xp
    configured = kernels.__getitem__

    def timed(name, call):
        def launch(*arguments, **options):
            start = mark()
            result = call(*arguments, **options)
            launches.append(Launch(name, start, mark()))
            return result
        return launch

    def configure(kernel, configuration):
        return timed(kernel.__qualname__.removesuffix(".<locals>.kernel"), configured(kernel, configuration))

    with mock.patch.object(kernels, "__getitem__", configure), \
            mock.patch.object(xp, "matmul", timed("GEMM", xp.matmul)), \
            mock.patch.object(products.CuBlas, "multiply", timed("GEMM", products.CuBlas.multiply)), \
            mock.patch.object(CudaBackend, "repeated", lambda _, function, requests: function(requests)):
        yield launches


def by_kernel(launches, between):
    """Sums by name.

    Parameters
    ----------
    launches : list of :class:`Launch`, all over
    between : function (start, end) -> ms

    Returns
    -------
    {name: {"launches": n, "ms": sum}}
    """
    rows = {}
    for launch in launches:
        row = rows.setdefault(launch.name, {"launches": 0, "ms": 0.0})
        row["launches"] += 1
        row["ms"] += between(launch.start, launch.end)
    return rows
