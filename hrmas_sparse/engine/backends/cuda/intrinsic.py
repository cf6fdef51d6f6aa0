"""Gradients of a layer's own R and tau on the GPU (mathematics 5), from what forward and backward have left.

A thread sums the steps of one sample and neuron; :func:`synapses.sum_samples` then sums each network's samples.

Shapes: S samples, T steps, N neurons, M networks of S/M samples each.
"""

import functools

import numpy as np
from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import after_reset, by_resistance, by_time_constant, fires, jit
from hrmas_sparse.engine.backends.cuda.step import row_of


@functools.cache
def sums(smooth):
    """The kernel shares[b, 0 and 1, n] = gradients of ln R and of ln tau, summed over the steps of sample b.

    inv_tau (1 or M, 1, N); v and delta (S, T, N); sent: spikes of the smooth variant likewise, else any such array;
    shares (S, 2, N)
    """
    @jit
    def kernel(k, inv_tau, v, sent, delta, shares):
        b, n = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        if n < v.shape[2]:
            inv_tau_now = inv_tau[row_of(inv_tau, b, v.shape[0]), 0, n]
            of_R, of_tau, u = k.zero, k.zero, k.zero
            for t in range(np.int32(v.shape[1])):
                potential, error = v[b, t, n], delta[b, t, n]
                of_R += by_resistance(k, inv_tau_now, u, potential, error)
                of_tau += by_time_constant(u, potential, error)
                if smooth:
                    u = after_reset(k, potential, sent[b, t, n])
                else:
                    u = k.zero if fires(k, potential) else potential
            shares[b, 0, n], shares[b, 1, n] = of_R, of_tau
    return kernel
