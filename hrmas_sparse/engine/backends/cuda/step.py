"""Neurons of one layer through time: forward, forward with intrinsic plasticity, backward; one launch each.

A block takes one sample through all steps. Of a layer with recurrence it holds all neurons, ``per`` of them per
thread; of a layer without, a tile of them. What a neuron carries from step to step is its thread's own: registers
while it has few neurons, its local memory when it has many. What neurons tell each other goes through shared memory:
forward the spikes of the step before as bits, back the filtered errors of the step after (through the array of
errors itself where shared memory is too small). All formulas are neuron.py's, all sums in a fixed order.

Shapes: S samples, T steps, N neurons, K links of the neuron that has most, L = ceil(T/32) words of spikes.
S may hold M networks one after another, S/M samples each. What belongs to networks or samples has a leading axis
of 1, M or S, see :func:`row_of`: inv_tau, gain (., N or T N); degree (., N), others, weights (., K N) flat: the
neurons a neuron is linked with, and the weights (see links.py). v, psc, errors, delta are (S, T, N) flat, spikes and
silent (S, L, N) flat: bit t % 32 of word t // 32. An output that is not asked for (``keep``) may be any array of its
type.

Arrays are flat and indices unsigned, of 32 bits: of an axis more Numba makes a multiplication of 64 bits at every
access, and of a signed index the question whether it is negative. What does not change with time is looked up before
the loop over time; there is no division in it.
"""

import functools

import numpy as np
from numba import cuda, int32, uint32

from hrmas_sparse.engine.backends.cuda.compile import (
    after_reset, calcium, device, expm1_small, filtered, fires, jit, logistic_slope, membrane,
    plastic_resistance, plastic_time_constant, surrogate_error, timing_error)


U = np.uint32


@device
def row_of(array, sample, samples):
    """Which row of an array a sample uses: the only one, its network's, or its own."""
    return U(sample) // U(U(samples) // U(array.shape[0]))


@device
def _several(first, neurons, width):
    """How many neurons a thread has: a number the compiler does not know, or it would write out their loop, for which
    there are not registers enough."""
    n = np.int32(0)
    while first < neurons:
        n, first = np.int32(n + 1), U(first + width)
    return n


@device
def _received(links, sources, weights, link, value, neurons, bits, first):
    """Current a neuron receives by its links from the senders whose bit, from word ``first`` on, is set.

    Its links begin at ``link``, their weights at ``value``.
    """
    total = weights.dtype.type(0)
    for _ in range(links):
        r = U(sources[link])
        if bits[U(first + (r >> U(5)))] & U(U(1) << (r & U(31))):
            total += weights[value]
        link, value = U(link + neurons), U(value + neurons)
    return total


@device
def returned(links, targets, weights, link, value, neurons, filtered_error, first):
    """Effect of a neuron's spike on those it is linked to: the sum of weight times filtered error.

    Its links begin at ``link``, their weights at ``value``, the errors at ``first``.
    """
    total = weights.dtype.type(0)
    for _ in range(links):
        total += weights[value] * filtered_error[U(first + U(targets[link]))]
        link, value = U(link + neurons), U(value + neurons)
    return total


@device
def _clear(bits, first, words, thread, width):
    """Zero a row of bits, every thread its share."""
    n = U(thread)
    while n < words:       # range would divide
        bits[U(first + n)] = U(0)
        n = U(n + U(width))


@functools.cache
def forward(per, recurrent, keep):
    """The kernel of a forward pass (mathematics 1), for blocks of ``per`` neurons a thread.

    v : holds the feedforward current and becomes the membrane potential before reset
    spikes, silent : outputs (silent: psc < 1/4, the gate of mathematics 5); psc : output, if kept
    sent : output (S, N), spikes of all steps
    shared memory : if recurrent, 3 ceil(N/32) words: spikes of the step before, of this one, and zeros for the next
    """
    @jit
    def kernel(k, inv_tau, gain, degree, sources, weights, v, spikes, silent, sent, psc):
        b, samples, neurons = U(cuda.blockIdx.x), U(cuda.gridDim.x), U(degree.shape[1])
        steps, width, thread = U(U(v.size) // U(samples * neurons)), cuda.blockDim.x, cuda.threadIdx.x
        first = U(cuda.blockIdx.y * width * per + thread)
        own = np.int32(1) if per == 1 else _several(first, neurons, U(width))
        inv_tau_own, gain_own = inv_tau[row_of(inv_tau, b, samples)], gain[row_of(gain, b, samples)]
        inv_tau_moves = neurons if inv_tau.shape[1] > neurons else U(0)
        gain_moves = neurons if gain.shape[1] > neurons else U(0)
        row, origin = row_of(degree, b, samples), U(b * U(steps * neurons))
        size = U(U(sources.size) // U(degree.shape[0]))
        link, value = U(row * size), U(b // U(samples // U(U(weights.size) // size)) * size)
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        fired, quiet, links = (cuda.local.array(per, uint32), cuda.local.array(per, uint32),
                               cuda.local.array(per, int32))
        for j in range(own):
            i = U(first + j * width)
            c[j], u[j], a[j], fired[j], quiet[j] = k.zero, k.zero, k.zero, 0, 0
            if i < neurons:
                links[j] = degree[row, i]
        words, words_before = U((neurons + U(31)) >> U(5)), U(b * U(U(U(steps + U(31)) >> U(5)) * neurons))
        now, before, after = U(0), U(2 * words), words
        bits = cuda.shared.array(0, uint32)
        if recurrent:
            _clear(bits, now, U(3 * words), thread, width)
            cuda.syncthreads()
        for step in range(np.int32(steps)):
            t = U(step)
            for j in range(own):
                i = U(first + j * width)
                if i < neurons:
                    at = U(origin + t * neurons + i)
                    current = v[at]
                    if recurrent:
                        current += _received(links[j], sources, weights, U(link + i), U(value + i), neurons,
                                             bits, before)
                    c[j] = filtered(k, c[j], current)
                    potential = membrane(k, inv_tau_own[U(t * inv_tau_moves + i)],
                                         gain_own[U(t * gain_moves + i)], u[j], c[j])
                    v[at] = potential
                    spike = k.one if fires(k, potential) else k.zero
                    u[j], a[j] = after_reset(k, potential, spike), filtered(k, a[j], spike)
                    bit = U(U(1) << (t & U(31)))
                    if fires(k, potential):
                        fired[j] |= bit
                        if recurrent:
                            cuda.atomic.or_(bits, U(now + (i >> U(5))), U(U(1) << (i & U(31))))
                    if not a[j] > k.below_silent:
                        quiet[j] |= bit
                    if keep:
                        psc[at] = a[j]
            if t & U(31) == U(31) or U(t + U(1)) == steps:
                for j in range(own):
                    i = U(first + j * width)
                    if i < neurons:
                        word = U(words_before + (t >> U(5)) * neurons + i)
                        spikes[word], silent[word] = fired[j], quiet[j]
                        sent[b, i] = cuda.popc(fired[j]) + (sent[b, i] if t > U(31) else 0)
                        fired[j], quiet[j] = 0, 0
            if recurrent:
                _clear(bits, after, words, thread, width)
                cuda.syncthreads()
                now, before, after = after, now, before
    return kernel


@functools.cache
def forward_plastic(per, recurrent, keep):
    """As :func:`forward`, while SpiKL-IP adapts each sample's own R and tau (mathematics 8).

    intrinsic : (2, S, N), R and tau of each sample, adapted in place
    trajectory : (2, S T N), the R and tau each step used, if kept
    """
    @jit
    def kernel(k, p, intrinsic, degree, sources, weights, v, spikes, silent, sent, trajectory):
        b, samples, neurons = U(cuda.blockIdx.x), U(cuda.gridDim.x), U(degree.shape[1])
        steps, width, thread = U(U(v.size) // U(samples * neurons)), cuda.blockDim.x, cuda.threadIdx.x
        first = U(cuda.blockIdx.y * width * per + thread)
        own = np.int32(1) if per == 1 else _several(first, neurons, U(width))
        row, origin = row_of(degree, b, samples), U(b * U(steps * neurons))
        size = U(U(sources.size) // U(degree.shape[0]))
        link, value = U(row * size), U(b // U(samples // U(U(weights.size) // size)) * size)
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        phi, r, time_constant = (cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype),
                                 cuda.local.array(per, v.dtype))
        fired, quiet, links = (cuda.local.array(per, uint32), cuda.local.array(per, uint32),
                               cuda.local.array(per, int32))
        for j in range(own):
            i = U(first + j * width)
            c[j], u[j], a[j], phi[j], fired[j], quiet[j] = k.zero, k.zero, k.zero, k.zero, 0, 0
            if i < neurons:
                r[j], time_constant[j], links[j] = intrinsic[0, b, i], intrinsic[1, b, i], degree[row, i]
        words, words_before = U((neurons + U(31)) >> U(5)), U(b * U(U(U(steps + U(31)) >> U(5)) * neurons))
        now, before, after = U(0), U(2 * words), words
        bits = cuda.shared.array(0, uint32)
        if recurrent:
            _clear(bits, now, U(3 * words), thread, width)
            cuda.syncthreads()
        for step in range(np.int32(steps)):
            t = U(step)
            for j in range(own):
                i = U(first + j * width)
                if i < neurons:
                    if keep:
                        trajectory[0, U(origin + t * neurons + i)] = r[j]
                        trajectory[1, U(origin + t * neurons + i)] = time_constant[j]
                    at = U(origin + t * neurons + i)
                    current = v[at]
                    if recurrent:
                        current += _received(links[j], sources, weights, U(link + i), U(value + i), neurons,
                                             bits, before)
                    inv_tau = k.one / time_constant[j]
                    c[j] = filtered(k, c[j], current)
                    potential = membrane(k, inv_tau, r[j] * inv_tau, u[j], c[j])
                    v[at] = potential
                    spike = k.one if fires(k, potential) else k.zero
                    u[j], a[j] = after_reset(k, potential, spike), filtered(k, a[j], spike)
                    phi[j] = calcium(p, phi[j], spike)
                    y = phi[j] * p.inv_tau_cal
                    rate = time_constant[j] * y
                    excess = p.v_th / expm1_small(p.one / (p.rate_floor if rate < p.rate_floor else rate))
                    r[j] = plastic_resistance(p, r[j], time_constant[j], y, excess)
                    time_constant[j] = plastic_time_constant(p, time_constant[j], y)
                    bit = U(U(1) << (t & U(31)))
                    if fires(k, potential):
                        fired[j] |= bit
                        if recurrent:
                            cuda.atomic.or_(bits, U(now + (i >> U(5))), U(U(1) << (i & U(31))))
                    if not a[j] > k.below_silent:
                        quiet[j] |= bit
            if t & U(31) == U(31) or U(t + U(1)) == steps:
                for j in range(own):
                    i = U(first + j * width)
                    if i < neurons:
                        word = U(words_before + (t >> U(5)) * neurons + i)
                        spikes[word], silent[word] = fired[j], quiet[j]
                        sent[b, i] = cuda.popc(fired[j]) + (sent[b, i] if t > U(31) else 0)
                        fired[j], quiet[j] = 0, 0
            if recurrent:
                _clear(bits, after, words, thread, width)
                cuda.syncthreads()
                now, before, after = after, now, before
        for j in range(own):
            i = U(first + j * width)
            if i < neurons:
                intrinsic[0, b, i], intrinsic[1, b, i] = r[j], time_constant[j]
    return kernel


@functools.cache
def backward(per, recurrent, resident, keep):
    """The kernel that runs TSSL-BP back through a layer (mathematics 5, 6).

    v, silent : as left by forward
    errors : holds the effect A of each spike through the layers above and becomes E, the filtered error
    delta : errors at v, if kept
    shared memory : if resident, N numbers, the errors of the step after; else they are read from ``errors``
    """
    @jit
    def kernel(k, inv_tau, gain, degree, targets, weights, v, silent, errors, delta):
        b, samples, neurons = U(cuda.blockIdx.x), U(cuda.gridDim.x), U(degree.shape[1])
        steps, width = U(U(v.size) // U(samples * neurons)), cuda.blockDim.x
        first = U(cuda.blockIdx.y * width * per + cuda.threadIdx.x)
        own = np.int32(1) if per == 1 else _several(first, neurons, U(width))
        inv_tau_own, gain_own = inv_tau[row_of(inv_tau, b, samples)], gain[row_of(gain, b, samples)]
        inv_tau_moves = neurons if inv_tau.shape[1] > neurons else U(0)
        gain_moves = neurons if gain.shape[1] > neurons else U(0)
        row, origin = row_of(degree, b, samples), U(b * U(steps * neurons))
        size = U(U(targets.size) // U(degree.shape[0]))
        link, value = U(row * size), U(b // U(samples // U(U(weights.size) // size)) * size)
        words_before = U(b * U(U(U(steps + U(31)) >> U(5)) * neurons))
        base_error, filtered_error = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        potential, links = cuda.local.array(per, v.dtype), cuda.local.array(per, int32)
        for j in range(own):
            i = U(first + j * width)
            base_error[j], filtered_error[j] = k.zero, k.zero
            if i < neurons:
                potential[j], links[j] = v[U(origin + U(steps - U(1)) * neurons + U(i))], degree[row, i]
        shared = cuda.shared.array(0, v.dtype)
        last = U(steps - U(1))
        for step in range(np.int32(steps)):
            t = U(last - U(step))
            following = U(t + U(1)) if t < last else last
            for j in range(own):
                i = U(first + j * width)
                if i < neurons:
                    at = U(origin + t * neurons + i)
                    effect = errors[at]
                    if recurrent and t < last:
                        if resident:
                            effect += returned(links[j], targets, weights, U(link + i), U(value + i), neurons,
                                               shared, U(0))
                        else:
                            effect += returned(links[j], targets, weights, U(link + i), U(value + i), neurons,
                                               errors, U(origin + following * neurons))
                    v_before = v[U(at - neurons)] if t > U(0) else k.zero
                    u_before = k.zero if fires(k, v_before) else v_before
                    inv_tau_next = inv_tau_own[U(following * inv_tau_moves + i)]
                    base_error[j] = timing_error(k, potential[j], u_before, inv_tau_next, effect, base_error[j])
                    delta_now = base_error[j]
                    if (silent[U(words_before + (t >> U(5)) * neurons + i)] >> (t & U(31))) & U(1):
                        slope = logistic_slope(k, (potential[j] - k.v_th) * k.inv_width)
                        delta_now = surrogate_error(k, effect, slope)
                    filtered_error[j] = filtered(k, filtered_error[j], gain_own[U(t * gain_moves + i)] * delta_now)
                    potential[j] = v_before
                    if keep:
                        delta[at] = delta_now
            if recurrent and resident:
                cuda.syncthreads()  # everybody has read the errors of the step after
            for j in range(own):
                i = U(first + j * width)
                if i < neurons:
                    errors[U(origin + t * neurons + i)] = filtered_error[j]
                    if recurrent and resident:
                        shared[i] = filtered_error[j]
            if recurrent:
                cuda.syncthreads()  # everybody's errors are there
    return kernel


@jit
def filter_back(k, psc_gradient):
    """A[t] = g[t] + decay_s A[t+1], in place: from dL/da of the output layer to a spike's effect (mathematics 6)."""
    b, i = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    steps, neurons = psc_gradient.shape[1], psc_gradient.shape[2]
    if i < neurons:
        effect = k.zero
        for t in range(steps - 1, -1, -1):
            effect = filtered(k, effect, psc_gradient[b, t, i])
            psc_gradient[b, t, i] = effect
