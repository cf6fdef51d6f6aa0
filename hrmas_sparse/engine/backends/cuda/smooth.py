"""The smooth variant of a layer (mathematics 12a), for gradient checks: as step.py, spikes are numbers (S, T, N).

Neurons read each other's numbers from the arrays themselves, a barrier after each step.
"""

import functools

import numpy as np
from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import after_reset, filtered, jit, logistic, membrane, smooth_error
from hrmas_sparse.engine.backends.cuda.step import U, returned, row_at, row_of


@functools.cache
def forward(per):
    """The kernel of a smooth forward pass; ``spikes`` (S, T, N) are its output, psc too if kept."""
    @jit
    def kernel(k, inv_tau, gain, degree, others, weights, v, spikes, psc, keep):
        b, samples, steps, neurons = U(cuda.blockIdx.x), U(v.shape[0]), np.int32(v.shape[1]), U(v.shape[2])
        width, first = U(cuda.blockDim.x), U(cuda.threadIdx.x)
        inv_tau_row, gain_row, row = row_of(inv_tau, b, samples), row_of(gain, b, samples), row_of(degree, b, samples)
        size = U(U(others.size) // U(degree.shape[0]))
        link = U(row * size)
        value = U(row_at(weights, size, b, samples) - link)
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        for j in range(per):
            c[j], u[j], a[j] = k.zero, k.zero, k.zero
        for t in range(steps):
            for j in range(per):
                i = U(first + U(j) * width)
                if i < neurons:
                    current = v[b, t, i]
                    if t > 0:
                        current += returned(U(link + i), U(U(link + i) + U(degree[row, i]) * neurons), others,
                                            weights, value, neurons, spikes[b, t - 1], i)
                    c[j] = filtered(k, c[j], current)
                    v[b, t, i] = membrane(k, inv_tau[inv_tau_row, t if inv_tau.shape[1] > 1 else 0, i],
                                          gain[gain_row, t if gain.shape[1] > 1 else 0, i], u[j], c[j])
                    sent = logistic(k, (v[b, t, i] - k.v_th) * k.inv_width)
                    spikes[b, t, i] = sent
                    u[j], a[j] = after_reset(k, v[b, t, i], sent), filtered(k, a[j], sent)
                    if keep:
                        psc[b, t, i] = a[j]
            cuda.syncthreads()
    return kernel


@functools.cache
def backward(per):
    """The exact derivative of the smooth variant; ``errors`` holds A and becomes E, ``kept`` delta if it is kept."""
    @jit
    def kernel(k, inv_tau, gain, degree, others, weights, v, spikes, errors, kept, keep):
        b, samples, steps, neurons = U(cuda.blockIdx.x), U(v.shape[0]), np.int32(v.shape[1]), U(v.shape[2])
        width, first = U(cuda.blockDim.x), U(cuda.threadIdx.x)
        inv_tau_row, gain_row, row = row_of(inv_tau, b, samples), row_of(gain, b, samples), row_of(degree, b, samples)
        size = U(U(others.size) // U(degree.shape[0]))
        link = U(row * size)
        value = U(row_at(weights, size, b, samples) - link)
        delta, filtered_error = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        for j in range(per):
            delta[j], filtered_error[j] = k.zero, k.zero
        for t in range(steps - 1, -1, -1):
            for j in range(per):
                i = U(first + U(j) * width)
                if i < neurons:
                    effect = errors[b, t, i]
                    if t + 1 < steps:
                        effect += returned(U(link + i), U(U(link + i) + U(degree[row, i]) * neurons), others,
                                           weights, value, neurons, errors[b, t + 1], i)
                    inv_tau_next = inv_tau[inv_tau_row, t + 1 if t + 1 < inv_tau.shape[1] else inv_tau.shape[1] - 1, i]
                    delta[j] = smooth_error(k, v[b, t, i], spikes[b, t, i], inv_tau_next, effect, delta[j])
                    gain_now = gain[gain_row, t if gain.shape[1] > 1 else 0, i]
                    filtered_error[j] = filtered(k, filtered_error[j], gain_now * delta[j])
                    errors[b, t, i] = filtered_error[j]
                    if keep:
                        kept[b, t, i] = delta[j]
            cuda.syncthreads()
    return kernel
