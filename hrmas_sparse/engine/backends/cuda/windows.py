"""Kernels of the integrator readout (mathematics 4): spikes to sums over windows, and back.

Shapes: S samples, T steps, K windows, N senders.
"""

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import device, filtered, jit


@device
def _of_bits(k, words, b, t, i):
    return k.one if (words[b, t >> 5, i] >> (t & 31)) & 1 else k.zero


@device
def _of_numbers(k, sent, b, t, i):
    return sent[b, t, i]


def _summing(spike):
    """The kernel sums[b, w, i] = psc of sender i in sample b, summed over window w; ``spike`` reads what is sent."""
    @jit
    def kernel(k, sent, steps, sums):
        b, i = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        windows = sums.shape[1]
        if i < sums.shape[2]:
            psc, t = k.zero, 0
            for window in range(windows):
                total = k.zero
                while t * windows < (window + 1) * steps:
                    psc = filtered(k, psc, spike(k, sent, b, t, i))
                    total += psc
                    t += 1
                sums[b, window, i] = total
    return kernel


sum_windows = _summing(_of_bits)                # sent (S, ceil(T/32), N): one bit a step
sum_windows_of_values = _summing(_of_numbers)   # sent (S, T, N): the smooth variant


@jit
def effects(k, gradient, errors):
    """errors[b, t, i] = A[t], the effect of a spike: gradient (S, K, N) of the window's sum, filtered back in time."""
    b, i = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    steps, windows = errors.shape[1], gradient.shape[1]
    if i < errors.shape[2]:
        effect, window = k.zero, windows - 1
        for t in range(steps - 1, -1, -1):
            while t * windows < window * steps:
                window -= 1
            effect = filtered(k, effect, gradient[b, window, i])
            errors[b, t, i] = effect
