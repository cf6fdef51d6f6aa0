"""The smooth variant of a layer (mathematics 12a), for gradient checks: as step.py, spikes are numbers (S, T, N).

Neurons read each other's numbers from the arrays themselves, a barrier after each step.
"""

import functools

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import after_reset, filtered, jit, logistic, membrane, smooth_error
from hrmas_sparse.engine.backends.cuda.step import U, returned, row_of


@functools.cache
def forward(per):
    """The kernel of a smooth forward pass; ``spikes`` (S, T, N) are its output, psc too if kept."""
    @jit
    def kernel(k, inv_tau, gain, degree, sources, weights, v, spikes, psc, keep):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width, first = cuda.blockDim.x, cuda.threadIdx.x
        inv_tau_row, gain_row, row = row_of(inv_tau, b, samples), row_of(gain, b, samples), row_of(degree, b, samples)
        size = sources.size // degree.shape[0]
        link, value = row * size, b // (samples // (weights.size // size)) * size
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        for j in range(per):
            c[j], u[j], a[j] = k.zero, k.zero, k.zero
        for t in range(steps):
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    current = v[b, t, i]
                    if t > 0:
                        current += returned(degree[row, i], sources, weights, U(link + i), U(value + i), U(neurons),
                                            spikes[b, t - 1], U(0))
                    c[j] = filtered(k, c[j], current)
                    v[b, t, i] = membrane(k, inv_tau[inv_tau_row, t % inv_tau.shape[1], i],
                                          gain[gain_row, t % gain.shape[1], i], u[j], c[j])
                    sent = logistic(k, (v[b, t, i] - k.v_th) * k.inv_width)
                    spikes[b, t, i] = sent
                    u[j], a[j] = after_reset(k, v[b, t, i], sent), filtered(k, a[j], sent)
                    if keep:
                        psc[b, t, i] = a[j]
            cuda.syncthreads()
    return kernel


@functools.cache
def backward(per):
    """The exact derivative of the smooth variant; ``errors`` holds A and becomes E."""
    @jit
    def kernel(k, inv_tau, gain, degree, targets, weights, v, spikes, errors):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width, first = cuda.blockDim.x, cuda.threadIdx.x
        inv_tau_row, gain_row, row = row_of(inv_tau, b, samples), row_of(gain, b, samples), row_of(degree, b, samples)
        size = targets.size // degree.shape[0]
        link, value = row * size, b // (samples // (weights.size // size)) * size
        delta, filtered_error = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        for j in range(per):
            delta[j], filtered_error[j] = k.zero, k.zero
        for t in range(steps - 1, -1, -1):
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    effect = errors[b, t, i]
                    if t + 1 < steps:
                        effect += returned(degree[row, i], targets, weights, U(link + i), U(value + i), U(neurons),
                                           errors[b, t + 1], U(0))
                    inv_tau_next = inv_tau[inv_tau_row, min(t + 1, inv_tau.shape[1] - 1), i]
                    delta[j] = smooth_error(k, v[b, t, i], spikes[b, t, i], inv_tau_next, effect, delta[j])
                    gain_now = gain[gain_row, t % gain.shape[1], i]
                    filtered_error[j] = filtered(k, filtered_error[j], gain_now * delta[j])
                    errors[b, t, i] = filtered_error[j]
            cuda.syncthreads()
    return kernel
