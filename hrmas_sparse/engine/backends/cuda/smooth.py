"""The smooth variant of a layer (mathematics 12a), for gradient checks: as dynamics.py, spikes are numbers (S, T, N).

Neurons hear of each other through the arrays themselves, a barrier after each step.
"""

import functools

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import after_reset, filtered, jit, logistic, membrane, smooth_error
from hrmas_sparse.engine.backends.cuda.dynamics import _returned, row_of


@functools.cache
def forward_smooth(per):
    """The kernel of a smooth forward pass; ``spikes`` (S, T, N) are its output, psc too if kept."""
    @jit
    def kernel(k, inv_tau, gain, degree, sources, weights, v, spikes, psc, keep):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width, first = cuda.blockDim.x, cuda.threadIdx.x
        leak, drive = row_of(inv_tau, b, samples), row_of(gain, b, samples)
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        for j in range(per):
            c[j], u[j], a[j] = k.zero, k.zero, k.zero
        for t in range(steps):
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    current = v[b, t, i]
                    if t > 0:
                        current += _returned(degree, sources, weights, b, samples, i, spikes[b, t - 1])
                    c[j] = filtered(k, c[j], current)
                    v[b, t, i] = membrane(k, inv_tau[leak, t % inv_tau.shape[1], i],
                                          gain[drive, t % gain.shape[1], i], u[j], c[j])
                    sent = logistic(k, (v[b, t, i] - k.v_th) * k.inv_width)
                    spikes[b, t, i] = sent
                    u[j], a[j] = after_reset(k, v[b, t, i], sent), filtered(k, a[j], sent)
                    if keep:
                        psc[b, t, i] = a[j]
            cuda.syncthreads()
    return kernel


@functools.cache
def backward_smooth(per):
    """The exact derivative of the smooth variant; ``errors`` holds A and becomes E."""
    @jit
    def kernel(k, inv_tau, gain, degree, targets, weights, v, spikes, errors):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width, first = cuda.blockDim.x, cuda.threadIdx.x
        leak, drive = row_of(inv_tau, b, samples), row_of(gain, b, samples)
        carried, beyond = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        for j in range(per):
            carried[j], beyond[j] = k.zero, k.zero
        for t in range(steps - 1, -1, -1):
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    effect = errors[b, t, i]
                    if t + 1 < steps:
                        effect += _returned(degree, targets, weights, b, samples, i, errors[b, t + 1])
                    leak_next = inv_tau[leak, min(t + 1, inv_tau.shape[1] - 1), i]
                    carried[j] = smooth_error(k, v[b, t, i], spikes[b, t, i], leak_next, effect, carried[j])
                    beyond[j] = filtered(k, beyond[j], gain[drive, t % gain.shape[1], i] * carried[j])
                    errors[b, t, i] = beyond[j]
            cuda.syncthreads()
    return kernel
