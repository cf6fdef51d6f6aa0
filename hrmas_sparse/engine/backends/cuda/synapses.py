"""Synapses of one chunk: events to current going forward, errors to gradients going back; dense products are GEMMs.

Every sum belongs to one thread, which takes it in a fixed order: no atomics, the same bits from run to run.

Shapes: S samples, T steps, C senders, N receivers, M networks of S/M samples each; see chunks.py for rows and columns.
"""

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import jit


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
    network = row // (current.shape[0] // w.shape[0])
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


@jit
def links_gradient(source, target, network, samples, words, errors, dlinks):
    """dlinks[k] = sum over t and a network's samples of s_r[t] errors[t + 1, i], link k: r -> i (mathematics 6).

    A thread takes a link; ``samples`` is S/M; words of spikes (S, ceil(T/32), N), errors (S, T, N).
    """
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if k < dlinks.size:
        r, i, first, steps = source[k], target[k], network[k] * samples, errors.shape[1]
        total = dlinks.dtype.type(0)
        for b in range(first, first + samples):
            for word in range(words.shape[1]):
                bits = words[b, word, r]
                after = 32 * word + 1
                while bits:
                    t = after + cuda.ffs(bits) - 1
                    bits &= bits - 1
                    if t < steps:
                        total += errors[b, t, i]
        dlinks[k] = total


@jit
def smooth_links_gradient(source, target, network, samples, values, errors, dlinks):
    """As :func:`links_gradient` for spikes that are numbers, values (S, T, N)."""
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if k < dlinks.size:
        r, i, first = source[k], target[k], network[k] * samples
        total = dlinks.dtype.type(0)
        for b in range(first, first + samples):
            for t in range(1, errors.shape[1]):
                total += values[b, t - 1, r] * errors[b, t, i]
        dlinks[k] = total


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
    samples = values.shape[0] // sums.shape[0]
    if n < sums.shape[1]:
        total = sums.dtype.type(0)
        for b in range(m * samples, (m + 1) * samples):
            total += values[b, n]
        sums[m, n] = total
