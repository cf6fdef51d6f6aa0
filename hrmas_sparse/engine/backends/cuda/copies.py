"""Copies of many arrays in one launch."""

from numba import cuda

from hrmas_sparse.engine.backends.cuda import launch
from hrmas_sparse.engine.backends.cuda.arrays import xp
from hrmas_sparse.engine.backends.cuda.compile import jit

MOST = 16    # arrays of a launch: two tuples of them fit into a kernel's 4 kB of arguments


@jit
def copy(given, made):
    """made[y] = given[y] for all arrays y, each laid flat."""
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    if i < made[y].size:
        made[y][i] = given[y][i]


def copy_all(given, made):
    """Copy arrays into others of the same sizes, a launch for up to ``MOST`` of a type; empty ones are passed over."""
    kinds = {}
    for source, target in zip(given, made):
        if target.size:
            kinds.setdefault(target.dtype, []).append((source.reshape(-1), target.reshape(-1)))
    for pairs in kinds.values():
        for first in range(0, len(pairs), MOST):
            sources, targets = zip(*pairs[first:first + MOST])
            blocks, width = launch.flat(max(target.size for target in targets))
            copy[(blocks, len(targets)), width](sources, targets)


def rows(arrays):
    """Arrays (rows, ...) of one shape below each other."""
    made = xp.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    copy_all(arrays, list(made))
    return made.reshape(-1, *arrays[0].shape[1:])
