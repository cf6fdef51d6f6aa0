"""Neurons of one layer through time: forward, forward with intrinsic plasticity, backward; one launch each.

A block takes one sample through all steps. Of a layer with recurrence it holds all neurons, ``per`` of them per
thread; of a layer without, a tile of them. What a neuron carries from step to step is its thread's own: registers
while it has few neurons, its local memory when it has many. What neurons tell each other goes through shared memory:
forward the spikes of the step before as bits, back the filtered errors of the step after (through the array of
errors itself where shared memory is too small). All formulas are neuron.py's, all sums in a fixed order.

Shapes: S samples, T steps, N neurons, K links of the neuron that has most, L = ceil(T/32) words of spikes.
S may hold M networks one after another, S/M samples each. What belongs to networks or samples has a leading axis
of 1, M or S, see :func:`row_of`: inv_tau, gain (., 1 or T, N); degree (., N), others, weights (., K, N): the neurons
a neuron is linked with, and the weights (see links.py). v, psc, errors, delta are (S, T, N), spikes and silent
(S, L, N): bit t % 32 of word t // 32. An output that is not asked for (``keep``) may be any array of
its type that is not otherwise used.
"""

import functools

import numpy as np
from numba import cuda, uint32

from hrmas_sparse.engine.backends.cuda.compile import (
    after_reset, calcium, device, expm1_small, filtered, fires, jit, logistic_slope, membrane,
    plastic_resistance, plastic_time_constant, surrogate_error, timing_error)


@device
def row_of(array, sample, samples):
    """Which row of an array a sample uses: the only one, its network's, or its own."""
    return sample // (samples // array.shape[0])


@device
def _received(degree, sources, weights, sample, samples, i, sent):
    """Current neuron i receives from the senders whose bit in ``sent`` is set."""
    row, values, total = row_of(degree, sample, samples), row_of(weights, sample, samples), weights.dtype.type(0)
    for n in range(degree[row, i]):
        r = sources[row, n, i]
        if (sent[r >> 5] >> (r & 31)) & 1:
            total += weights[values, n, i]
    return total


@device
def returned(degree, targets, weights, sample, samples, i, filtered_error):
    """Effect of a spike of neuron i on those it is linked to: the sum of weight times filtered error."""
    row, values, total = row_of(degree, sample, samples), row_of(weights, sample, samples), weights.dtype.type(0)
    for n in range(degree[row, i]):
        total += weights[values, n, i] * filtered_error[targets[row, n, i]]
    return total


@device
def _clear(bits, first, step):
    """Zero a row of bits, every thread its share."""
    for n in range(first, bits.shape[0], step):
        bits[n] = 0


@functools.cache
def forward(per, recurrent):
    """The kernel of a forward pass (mathematics 1), for blocks of ``per`` neurons a thread.

    v : holds the feedforward current and becomes the membrane potential before reset
    spikes, silent : outputs (silent: psc < 1/4, the gate of mathematics 5); psc : output, if kept
    shared memory : if recurrent, 3 ceil(N/32) words: spikes of the step before, of this one, and zeros for the next
    """
    @jit
    def kernel(k, inv_tau, gain, degree, sources, weights, v, spikes, silent, psc, keep):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width, thread = cuda.blockDim.x, cuda.threadIdx.x
        first = cuda.blockIdx.y * width * per + thread
        inv_tau_row, gain_row = row_of(inv_tau, b, samples), row_of(gain, b, samples)
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        fired, quiet = cuda.local.array(per, uint32), cuda.local.array(per, uint32)
        for j in range(per):
            c[j], u[j], a[j], fired[j], quiet[j] = k.zero, k.zero, k.zero, 0, 0
        words = (neurons + 31) // 32
        bits = cuda.shared.array(0, uint32)
        if recurrent:
            _clear(bits[:3 * words], thread, width)
            cuda.syncthreads()
        for t in range(steps):
            now, before, after = t % 3 * words, (t + 2) % 3 * words, (t + 1) % 3 * words
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    current = v[b, t, i]
                    if recurrent:
                        current += _received(degree, sources, weights, b, samples, i, bits[before:before + words])
                    c[j] = filtered(k, c[j], current)
                    potential = membrane(k, inv_tau[inv_tau_row, t % inv_tau.shape[1], i],
                                         gain[gain_row, t % gain.shape[1], i], u[j], c[j])
                    v[b, t, i] = potential
                    spike = k.one if fires(k, potential) else k.zero
                    u[j], a[j] = after_reset(k, potential, spike), filtered(k, a[j], spike)
                    bit = np.uint32(1 << (t & 31))
                    if fires(k, potential):
                        fired[j] |= bit
                        if recurrent:
                            cuda.atomic.or_(bits, now + (i >> 5), np.uint32(1 << (i & 31)))
                    if not a[j] > k.below_silent:
                        quiet[j] |= bit
                    if keep:
                        psc[b, t, i] = a[j]
                    if t & 31 == 31 or t == steps - 1:
                        spikes[b, t >> 5, i], silent[b, t >> 5, i] = fired[j], quiet[j]
                        fired[j], quiet[j] = 0, 0
            if recurrent:
                _clear(bits[after:after + words], thread, width)
                cuda.syncthreads()
    return kernel


@functools.cache
def forward_plastic(per, recurrent):
    """As :func:`forward`, while SpiKL-IP adapts each sample's own R and tau (mathematics 8).

    intrinsic : (2, S, N), R and tau of each sample, adapted in place
    trajectory : (2, S, T, N), the R and tau each step used, if kept
    """
    @jit
    def kernel(k, p, intrinsic, degree, sources, weights, v, spikes, silent, trajectory, keep):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width, thread = cuda.blockDim.x, cuda.threadIdx.x
        first = cuda.blockIdx.y * width * per + thread
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        phi, r, time_constant = (cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype),
                                 cuda.local.array(per, v.dtype))
        fired, quiet = cuda.local.array(per, uint32), cuda.local.array(per, uint32)
        for j in range(per):
            i = first + j * width
            c[j], u[j], a[j], phi[j], fired[j], quiet[j] = k.zero, k.zero, k.zero, k.zero, 0, 0
            if i < neurons:
                r[j], time_constant[j] = intrinsic[0, b, i], intrinsic[1, b, i]
        words = (neurons + 31) // 32
        bits = cuda.shared.array(0, uint32)
        if recurrent:
            _clear(bits[:3 * words], thread, width)
            cuda.syncthreads()
        for t in range(steps):
            now, before, after = t % 3 * words, (t + 2) % 3 * words, (t + 1) % 3 * words
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    if keep:
                        trajectory[0, b, t, i], trajectory[1, b, t, i] = r[j], time_constant[j]
                    current = v[b, t, i]
                    if recurrent:
                        current += _received(degree, sources, weights, b, samples, i, bits[before:before + words])
                    inv_tau = k.one / time_constant[j]
                    c[j] = filtered(k, c[j], current)
                    potential = membrane(k, inv_tau, r[j] * inv_tau, u[j], c[j])
                    v[b, t, i] = potential
                    spike = k.one if fires(k, potential) else k.zero
                    u[j], a[j] = after_reset(k, potential, spike), filtered(k, a[j], spike)
                    phi[j] = calcium(p, phi[j], spike)
                    y = phi[j] * p.inv_tau_cal
                    rate = time_constant[j] * y
                    excess = p.v_th / expm1_small(p.one / (p.rate_floor if rate < p.rate_floor else rate))
                    r[j] = plastic_resistance(p, r[j], time_constant[j], y, excess)
                    time_constant[j] = plastic_time_constant(p, time_constant[j], y)
                    bit = np.uint32(1 << (t & 31))
                    if fires(k, potential):
                        fired[j] |= bit
                        if recurrent:
                            cuda.atomic.or_(bits, now + (i >> 5), np.uint32(1 << (i & 31)))
                    if not a[j] > k.below_silent:
                        quiet[j] |= bit
                    if t & 31 == 31 or t == steps - 1:
                        spikes[b, t >> 5, i], silent[b, t >> 5, i] = fired[j], quiet[j]
                        fired[j], quiet[j] = 0, 0
            if recurrent:
                _clear(bits[after:after + words], thread, width)
                cuda.syncthreads()
        for j in range(per):
            i = first + j * width
            if i < neurons:
                intrinsic[0, b, i], intrinsic[1, b, i] = r[j], time_constant[j]
    return kernel


@functools.cache
def backward(per, recurrent, resident):
    """The kernel that runs TSSL-BP back through a layer (mathematics 5, 6).

    v, silent : as left by forward
    errors : holds the effect A of each spike through the layers above and becomes E, the filtered error
    delta : errors at v, if kept
    shared memory : if resident, N numbers, the errors of the step after; else they are read from ``errors``
    """
    @jit
    def kernel(k, inv_tau, gain, degree, targets, weights, v, silent, errors, delta, keep):
        b, samples, steps, neurons = cuda.blockIdx.x, v.shape[0], v.shape[1], v.shape[2]
        width = cuda.blockDim.x
        first = cuda.blockIdx.y * width * per + cuda.threadIdx.x
        inv_tau_row, gain_row = row_of(inv_tau, b, samples), row_of(gain, b, samples)
        base_error, filtered_error = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        potential = cuda.local.array(per, v.dtype)
        for j in range(per):
            i = first + j * width
            base_error[j], filtered_error[j] = k.zero, k.zero
            if i < neurons:
                potential[j] = v[b, steps - 1, i]
        shared = cuda.shared.array(0, v.dtype)
        for t in range(steps - 1, -1, -1):
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    effect = errors[b, t, i]
                    if recurrent and t + 1 < steps:
                        later = shared if resident else errors[b, t + 1]
                        effect += returned(degree, targets, weights, b, samples, i, later)
                    v_before = v[b, t - 1, i] if t > 0 else k.zero
                    u_before = k.zero if fires(k, v_before) else v_before
                    inv_tau_next = inv_tau[inv_tau_row, min(t + 1, inv_tau.shape[1] - 1), i]
                    base_error[j] = timing_error(k, potential[j], u_before, inv_tau_next, effect, base_error[j])
                    delta_now = base_error[j]
                    if (silent[b, t >> 5, i] >> (t & 31)) & 1:
                        slope = logistic_slope(k, (potential[j] - k.v_th) * k.inv_width)
                        delta_now = surrogate_error(k, effect, slope)
                    filtered_error[j] = filtered(k, filtered_error[j], gain[gain_row, t % gain.shape[1], i] * delta_now)
                    potential[j] = v_before
                    if keep:
                        delta[b, t, i] = delta_now
            if recurrent and resident:
                cuda.syncthreads()  # everybody has read the errors of the step after
            for j in range(per):
                i = first + j * width
                if i < neurons:
                    errors[b, t, i] = filtered_error[j]
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
