"""Kernels that take batches from a training set, and spread their events over the input of a layer."""

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import jit


@jit
def take(first, start, given, taken):
    """Copy the events of chosen samples one after another, a block a sample.

    first : where a chosen sample's events begin; start : (B + 1,) where they go; given, taken : step, channel, value
    """
    b = cuda.blockIdx.x
    for n in range(cuda.threadIdx.x, start[b + 1] - start[b], cuda.blockDim.x):
        source, target = first[b] + n, start[b] + n
        taken[0][target], taken[1][target], taken[2][target] = given[0][source], given[1][source], given[2][source]


@jit
def scatter(start, step, channel, value, channels, values):
    """values[b, t C + c] = what sample b sends at step t by channel c, a block a sample.

    start : (S + 1,) where a sample's events begin; channels : C; values : (S, T C)
    """
    b = cuda.blockIdx.x
    for n in range(cuda.threadIdx.x, values.shape[1], cuda.blockDim.x):
        values[b, n] = values.dtype.type(0)
    cuda.syncthreads()
    for n in range(start[b] + cuda.threadIdx.x, start[b + 1], cuda.blockDim.x):
        values[b, step[n] * channels + channel[n]] = values.dtype.type(value[n])
