"""Kernels that take batches from a training set, and spread their events over the input of a layer."""

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import jit


@jit
def take(first, start, given, taken):
    """Copy the events of chosen samples one after another, a block a sample.

    first : where a chosen sample's events begin; start : (B + 1,) where they go; given, taken : step, channel, value
    """
    b, n = cuda.blockIdx.x, cuda.threadIdx.x
    while n < start[b + 1] - start[b]:      # range would divide
        source, target = first[b] + n, start[b] + n
        taken[0][target], taken[1][target], taken[2][target] = given[0][source], given[1][source], given[2][source]
        n += cuda.blockDim.x


@jit
def scatter(start, step, channel, value, channels, values):
    """values[b, t C + c] = what sample b sends at step t by channel c, a block a sample.

    start : (S + 1,) where a sample's events begin; channels : C; values : (S, T C)
    """
    b, n = cuda.blockIdx.x, cuda.threadIdx.x
    while n < values.shape[1]:
        values[b, n] = values.dtype.type(0)
        n += cuda.blockDim.x
    cuda.syncthreads()
    n = start[b] + cuda.threadIdx.x
    while n < start[b + 1]:
        values[b, step[n] * channels + channel[n]] = values.dtype.type(value[n])
        n += cuda.blockDim.x
