"""Synapses of one chunk: events to current going forward, errors to gradients going back; dense products are GEMMs.

Every sum belongs to one thread, or has parts that do, and is taken in a fixed order: no atomics, the same bits from run
to run.

Shapes: S samples, T steps, C senders, N receivers, M networks of S/M samples each; see chunks.py for rows and columns.
"""

import functools

import numpy as np
from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import device, jit

U = np.uint32


@jit
def spread(words, values):
    """values[b, t, i] = 1 where neuron i of sample b spiked at step t, else 0."""
    b, i = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if i < values.shape[2]:
        for t in range(values.shape[1]):
            values[b, t, i] = (words[b, t >> 5, i] >> (t & 31)) & 1


@jit
def feedforward(row_start, channel, value, w, current):
    """current[row, n] = sum over the row's events of value w[network, channel, n]; w (M, C, N), current (S T, N)."""
    row, n = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    network = U(row) // U(U(current.shape[0]) // U(w.shape[0]))
    if n < current.shape[1]:
        total = current.dtype.type(0)
        for e in range(row_start[row], row_start[row + 1]):
            total += value[e] * w[network, channel[e], n]
        current[row, n] = total


@jit
def feedforward_gradient(column_start, row, sent, errors, dw):
    """dw[column, n] = sum over the column's events of value errors[row, n] (mathematics 6).

    dw (M C, N), errors (S T, N).
    """
    column, n = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    if n < dw.shape[1]:
        total = dw.dtype.type(0)
        for e in range(column_start[column], column_start[column + 1]):
            total += sent[e] * errors[row[e], n]
        dw[column, n] = total


@device
def _of_bits(r, i, b, end, steps, neurons, words, errors):
    """Sum over t and samples b to end of s_r[t] errors[t + 1, i]; words of spikes (S, ceil(T/32), N) flat."""
    of_a_sample, last = U(U(steps + U(31)) >> U(5)), U(steps - U(1))
    followed = U(U(U(1) << (last & U(31))) - U(1))      # the last step's spikes have no step after them
    total = errors.dtype.type(0)
    while b < end:
        word, at = U(b * U(of_a_sample * neurons) + r), U(U(b * steps + U(1)) * neurons + i)
        for n in range(np.int32(of_a_sample)):
            bits = words[word]
            if U(n) == U(of_a_sample - U(1)):
                bits = U(bits & followed)
            while bits:
                others = U(bits & U(bits - U(1)))
                total += errors[U(at + U(cuda.popc(U(U(bits ^ others) - U(1)))) * neurons)]
                bits = others
            word, at = U(word + neurons), U(at + U(32) * neurons)
        b = U(b + U(1))
    return total


@device
def _of_numbers(r, i, b, end, steps, neurons, values, errors):
    """As :func:`_of_bits` for spikes that are numbers, values (S, T, N) flat."""
    total = errors.dtype.type(0)
    while b < end:
        at = U(U(b * steps) * neurons)
        for _ in range(np.int32(steps) - 1):
            total += values[U(at + r)] * errors[U(U(at + neurons) + i)]
            at = U(at + neurons)
        b = U(b + U(1))
    return total


@functools.cache
def links_gradient(smooth):
    """The kernel dlinks[k] = sum over t and a network's samples of s_r[t] errors[t + 1, i], link k: r -> i.

    See mathematics 6. The samples of a network, ``samples`` = S/M, are cut into ``parts``; threads of a block take
    ``lanes`` links and the parts of each, and the sums of the parts are summed in their order. errors (S, T, N) flat.
    shared memory : parts x lanes numbers
    """
    of_part = _of_numbers if smooth else _of_bits

    @jit
    def kernel(source, target, network, samples, parts, lanes, steps, neurons, sent, errors, dlinks):
        parts, lanes, links = U(parts), U(lanes), U(dlinks.size)
        thread, size = U(cuda.threadIdx.x), U(U(U(samples) + U(parts - U(1))) // parts)
        lane, part, together = U(thread % lanes), U(thread // lanes), U(U(cuda.blockDim.x) // lanes)
        k = U(U(cuda.blockIdx.x) * lanes + lane)
        shared = cuda.shared.array(0, dlinks.dtype)
        if k < links:
            r, i, first = U(source[k]), U(target[k]), U(U(network[k]) * U(samples))
            while part < parts:
                start, end = min(U(part * size), U(samples)), min(U(U(part + U(1)) * size), U(samples))
                shared[U(part * lanes + lane)] = of_part(r, i, U(first + start), U(first + end), U(steps), U(neurons),
                                                         sent, errors)
                part = U(part + together)
        cuda.syncthreads()
        if thread < lanes and k < links:
            total = dlinks.dtype.type(0)
            for n in range(np.int32(parts)):
                total += shared[U(U(n) * lanes + lane)]
            dlinks[k] = total
    return kernel


@jit
def membrane(R, tau, inv_tau, gain):
    """inv_tau = 1/tau, gain = R/tau; all flat."""
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < tau.size:
        inv_tau[i], gain[i] = tau.dtype.type(1) / tau[i], R[i] / tau[i]


@jit
def sum_samples(values, sums):
    """sums[m, n] = sum over the samples of network m of values[b, n], in their order; values (S, N), sums (M, N)."""
    m, n = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    samples = np.int32(U(values.shape[0]) // U(sums.shape[0]))
    if n < sums.shape[1]:
        total = sums.dtype.type(0)
        for b in range(m * samples, (m + 1) * samples):
            total += values[b, n]
        sums[m, n] = total
