"""Neurons of one layer through time: forward, with intrinsic plasticity or without, and backward; one launch each.

A block takes one sample through all steps. Of a layer with recurrence it holds all neurons, ``per`` of them per
thread; of a layer without, a tile of them. What a neuron carries from step to step is its thread's own: registers
while it has few neurons, its local memory when it has many. What neurons tell each other goes through shared memory:
forward the spikes of the step before as bits, back the filtered errors of the step after (through the array of
errors itself where shared memory is too small). All formulas are neuron.py's, all sums in a fixed order.

Shapes: S samples, T steps, N neurons, K links of the neuron that has most, L = ceil(T/32) words of spikes.
S may hold M networks one after another, S/M samples each. What belongs to networks or samples has a leading axis
of 1, M or S, see :func:`row_of`: inv_tau, gain (., N or T N); degree (., N); links and weights flat, see links.py.
v, errors, delta are (S, T, N) flat, spikes and silent (S, L, N) flat: bit t % 32 of word t // 32. An output that is
not asked for (``keep``) may be any array of its type.

Arrays are flat and indices unsigned, of 32 bits: of an axis more Numba makes a multiplication of 64 bits at every
access, and of a signed index the question whether it is negative. There is no division in the loop over time, and
what it reads from global memory is asked for a step before it is used. R and tau that stay as they are (not
``moving``) are read once. A block whose threads have ``UNROLLED`` neurons or fewer keeps all of this in registers:
the compiler writes out the loop over a thread's neurons.
"""

import functools

import numpy as np
from numba import cuda, uint32

from hrmas_sparse.engine.backends.cuda.compile import (
    after_reset,
    calcium,
    device,
    expm1_small,
    filtered,
    fires,
    jit,
    membrane,
    plastic_resistance,
    plastic_time_constant,
    slope_at,
    surrogate_error,
    through_time_error,
    timing_error,
)
from hrmas_sparse.engine.backends.cuda.footprint import UNROLLED, registers

U = np.uint32
MORE, NUMBER = U(1 << 31), U((1 << 31) - 1)


@device
def row_of(array, sample, samples):
    """Which row of an array a sample uses: the only one, its network's, or its own."""
    return U(sample) // U(U(samples) // U(array.shape[0]))


@device
def row_at(array, size, sample, samples):
    """Where the row begins that a sample uses of a flat array whose rows have ``size`` numbers."""
    return U(U(sample) // U(samples // U(U(array.size) // U(size))) * U(size))


@device
def _several(first, neurons, width):
    """How many neurons a thread has: a number the compiler does not know, or it would write out their loop, for which
    there are not registers enough."""
    n = np.int32(0)
    while first < neurons:
        n, first = np.int32(n + 1), U(first + width)
    return n


@device
def _received(entry, senders, weights, value, neurons, bits, first):
    """Current a neuron receives from the senders whose bit, from word ``first`` on, is set.

    Its words of senders begin at ``entry``, its weights at ``value``. A word without a spike costs no more than a look
    at it.
    """
    total, more = weights.dtype.type(0), U(1)
    while more:
        number, mask = senders[entry], senders[U(entry + neurons)]
        spiking = U(bits[U(first + U(number & NUMBER))] & mask)
        while spiking:
            others = U(spiking & U(spiking - U(1)))
            before = U(mask & U(U(spiking ^ others) - U(1)))    # the neuron's links from senders below the lowest
            total += weights[U(value + U(cuda.popc(before)) * neurons)]
            spiking = others
        more = U(number & MORE)
        entry, value = U(entry + U(neurons + neurons)), U(value + U(cuda.popc(mask)) * neurons)
    return total


@device
def _at(own, away):
    """The index that is so far from one's own, up or down."""
    return U(np.int32(np.int32(own) + np.int32(away)))


@device
def returned(link, end, others, weights, value, neurons, numbers, own):
    """Sum over a neuron's links of weight times the number of the neuron at their other end.

    Its links are from ``link`` to ``end``, their weights ``value`` further on; its own number is at ``own``, the
    others' are as far from it as ``others`` says. Eight links at a time, then two: the processor waits for all of them
    at once, and sums them in their order.
    """
    total, seven = weights.dtype.type(0), U(U(7) * neurons)
    while U(link + seven) < end:
        b, c, d = U(link + neurons), U(link + U(2) * neurons), U(link + U(3) * neurons)
        e, f, g, h = U(d + neurons), U(d + U(2) * neurons), U(d + U(3) * neurons), U(link + seven)
        at_a, at_b = _at(own, others[link]), _at(own, others[b])
        at_c, at_d, at_e = _at(own, others[c]), _at(own, others[d]), _at(own, others[e])
        at_f, at_g, at_h = _at(own, others[f]), _at(own, others[g]), _at(own, others[h])
        w_a, w_b = weights[U(value + link)], weights[U(value + b)]
        w_c, w_d, w_e = weights[U(value + c)], weights[U(value + d)], weights[U(value + e)]
        w_f, w_g, w_h = weights[U(value + f)], weights[U(value + g)], weights[U(value + h)]
        total += w_a * numbers[at_a]
        total += w_b * numbers[at_b]
        total += w_c * numbers[at_c]
        total += w_d * numbers[at_d]
        total += w_e * numbers[at_e]
        total += w_f * numbers[at_f]
        total += w_g * numbers[at_g]
        total += w_h * numbers[at_h]
        link = U(h + neurons)
    while U(link + neurons) < end:
        second = U(link + neurons)
        total += weights[U(value + link)] * numbers[_at(own, others[link])]
        total += weights[U(value + second)] * numbers[_at(own, others[second])]
        link = U(second + neurons)
    if link < end:
        total += weights[U(value + link)] * numbers[_at(own, others[link])]
    return total


@device
def _adapted(p, R, tau, phi):
    """R and tau after one step of SpiKL-IP (mathematics 8)."""
    y = phi * p.inv_tau_cal
    rate = tau * y
    excess = p.v_th / expm1_small(p.one / (p.rate_floor if rate < p.rate_floor else rate))
    return plastic_resistance(p, R, tau, y, excess), plastic_time_constant(p, tau, y)


@device
def _clear(bits, first, words, thread, width):
    """Zero a row of bits, every thread its share."""
    n = U(thread)
    while n < words:       # range would divide
        bits[U(first + n)] = U(0)
        n = U(n + width)


@functools.cache
def forward(per, recurrent, moving=False, plastic=False, keep=False):
    """The kernel of a forward pass (mathematics 1), for blocks of ``per`` neurons a thread.

    p : constants of SpiKL-IP, if it adapts each sample's own R and tau meanwhile (``plastic``, mathematics 8)
    leaks, drives : 1/tau and R/tau; if plastic tau and R, (S, N), adapted in place
    entries, size : numbers of senders and of weights of a network
    v : holds the feedforward current and becomes the membrane potential before reset
    spikes, silent : outputs (silent: psc < 1/4, the gate of mathematics 5)
    sent : output (S, N), spikes of all steps
    kept : output, if kept: psc (1, S T N), or if plastic (2, S T N), the R and tau each step used
    shared memory : if recurrent, 3 ceil(N/32) words: spikes of the step before, of this one, and zeros for the next
    """
    @functools.partial(jit, registers=registers(per))
    def kernel(k, p, leaks, drives, senders, entries, weights, size, v, spikes, silent, sent, kept):
        b, samples = U(cuda.blockIdx.x), U(cuda.gridDim.x)
        neurons = U(U(sent.size) // samples)
        steps, width, thread = U(U(v.size) // U(samples * neurons)), U(cuda.blockDim.x), U(cuda.threadIdx.x)
        first = U(U(cuda.blockIdx.y) * width * U(per) + thread)
        own = np.int32(per) if per <= UNROLLED else _several(first, neurons, width)
        of_a_row = U(steps * neurons) if moving else neurons
        leaks_at, drives_at = row_at(leaks, of_a_row, b, samples), row_at(drives, of_a_row, b, samples)
        entry, value = row_at(senders, entries, b, samples), row_at(weights, size, b, samples)
        c, u, a = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        leak, drive, phi = (cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype),
                            cuda.local.array(per, v.dtype))
        current = cuda.local.array(per, v.dtype)
        fired, quiet = cuda.local.array(per, uint32), cuda.local.array(per, uint32)
        at, word = U(b * U(steps * neurons)), U(b * U(U(U(steps + U(31)) >> U(5)) * neurons))
        for j in range(own):
            i = U(first + U(j) * width)
            c[j], u[j], a[j], phi[j], fired[j], quiet[j] = k.zero, k.zero, k.zero, k.zero, 0, 0
            if i < neurons:
                current[j] = v[U(at + i)]
                if not moving:
                    leak[j], drive[j] = leaks[U(leaks_at + i)], drives[U(drives_at + i)]
        words = U((neurons + U(31)) >> U(5))
        now, before, after = U(0), U(2 * words), words
        bits = cuda.shared.array(0, uint32)
        if recurrent:
            _clear(bits, now, U(3 * words), thread, width)
            cuda.syncthreads()
        for step in range(np.int32(steps)):
            t = U(step)
            ahead = U(at + neurons) if U(t + U(1)) < steps else at
            for j in range(own):
                i = U(first + U(j) * width)
                if i < neurons:
                    arriving = current[j]
                    current[j] = v[U(ahead + i)]
                    if recurrent:
                        arriving += _received(U(entry + i), senders, weights, U(value + i), neurons, bits, before)
                    if moving:
                        leak[j], drive[j] = leaks[U(leaks_at + i)], drives[U(drives_at + i)]
                    leak_now, drive_now = leak[j], drive[j]
                    if plastic:
                        if keep:
                            kept[0, U(at + i)], kept[1, U(at + i)] = drive[j], leak[j]
                        leak_now = k.one / leak[j]
                        drive_now = drive[j] * leak_now
                    c[j] = filtered(k, c[j], arriving)
                    potential = membrane(k, leak_now, drive_now, u[j], c[j])
                    v[U(at + i)] = potential
                    spike = k.one if fires(k, potential) else k.zero
                    u[j], a[j] = after_reset(k, potential, spike), filtered(k, a[j], spike)
                    if plastic:
                        phi[j] = calcium(p, phi[j], spike)
                        drive[j], leak[j] = _adapted(p, drive[j], leak[j], phi[j])
                    bit = U(U(1) << (t & U(31)))
                    if fires(k, potential):
                        fired[j] |= bit
                        if recurrent:
                            cuda.atomic.or_(bits, U(now + (i >> U(5))), U(U(1) << (i & U(31))))
                    if not a[j] > k.below_silent:
                        quiet[j] |= bit
                    if keep and not plastic:
                        kept[0, U(at + i)] = a[j]
            if t & U(31) == U(31) or U(t + U(1)) == steps:
                for j in range(own):
                    i = U(first + U(j) * width)
                    if i < neurons:
                        spikes[U(word + i)], silent[U(word + i)] = fired[j], quiet[j]
                        total = U(b * neurons + i)
                        sent[total] = cuda.popc(fired[j]) + (sent[total] if t > U(31) else 0)
                        fired[j], quiet[j] = 0, 0
                word = U(word + neurons)
            if recurrent:
                _clear(bits, after, words, thread, width)
                cuda.syncthreads()
                now, before, after = after, now, before
            at = U(at + neurons)
            if moving:
                leaks_at, drives_at = U(leaks_at + neurons), U(drives_at + neurons)
        if plastic:
            for j in range(own):
                i = U(first + U(j) * width)
                if i < neurons:
                    leaks[U(b * neurons + i)], drives[U(b * neurons + i)] = leak[j], drive[j]
    return kernel


@functools.cache
def backward(per, recurrent, resident, moving=False, keep=False, through_time=False):
    """The kernel that runs TSSL-BP back through a layer (mathematics 5, 6), or a surrogate gradient through time.

    leaks, drives : 1/tau and R/tau
    v, silent : as left by forward
    errors : holds the effect A of each spike through the layers above and becomes E, the filtered error
    delta : errors at v, if kept
    shared memory : if resident, 2 N numbers, the errors of this step and of the step after; else the latter are read
        from ``errors``
    """
    @functools.partial(jit, registers=registers(per))
    def kernel(k, leaks, drives, degree, others, weights, v, silent, errors, delta):
        b, samples, neurons = U(cuda.blockIdx.x), U(cuda.gridDim.x), U(degree.shape[1])
        steps, width = U(U(v.size) // U(samples * neurons)), U(cuda.blockDim.x)
        first = U(U(cuda.blockIdx.y) * width * U(per) + U(cuda.threadIdx.x))
        own = np.int32(per) if per <= UNROLLED else _several(first, neurons, width)
        last = U(steps - U(1))
        of_a_row = U(steps * neurons) if moving else neurons
        leaks_at, drives_at = row_at(leaks, of_a_row, b, samples), row_at(drives, of_a_row, b, samples)
        row, size = row_of(degree, b, samples), U(U(others.size) // U(degree.shape[0]))
        link = U(row * size)
        value = U(row_at(weights, size, b, samples) - link) if recurrent else U(0)
        if moving:
            leaks_at, drives_at = U(leaks_at + last * neurons), U(drives_at + last * neurons)
        base_error, filtered_error = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        leak, drive = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        potential, earlier = cuda.local.array(per, v.dtype), cuda.local.array(per, v.dtype)
        arriving = cuda.local.array(per, v.dtype)
        quiet, end = cuda.local.array(per, uint32), cuda.local.array(per, uint32)
        at = U(b * U(steps * neurons) + last * neurons)
        word = U(b * U(U(U(steps + U(31)) >> U(5)) * neurons) + U(last >> U(5)) * neurons)
        for j in range(own):
            i = U(first + U(j) * width)
            base_error[j], filtered_error[j] = k.zero, k.zero
            if i < neurons:
                potential[j], arriving[j], quiet[j] = v[U(at + i)], errors[U(at + i)], silent[U(word + i)]
                earlier[j] = v[U(at - U(min(last, U(1))) * neurons + i)]
                end[j] = U(U(link + i) + U(degree[row, i]) * neurons)
                if not moving:
                    leak[j], drive[j] = leaks[U(leaks_at + i)], drives[U(drives_at + i)]
        shared = cuda.shared.array(0, v.dtype)
        now, after = U(0), neurons
        for step in range(np.int32(steps)):
            t = U(last - U(step))
            one_back, two_back = U(at - U(min(t, U(1))) * neurons), U(at - U(min(t, U(2))) * neurons)
            start = k.zero if t > U(0) else k.one       # before the first step u is 0, as after a spike
            for j in range(own):
                i = U(first + U(j) * width)
                if i < neurons:
                    effect, v_before = arriving[j], earlier[j]
                    arriving[j], earlier[j] = errors[U(one_back + i)], v[U(two_back + i)]
                    if recurrent:
                        heard = end[j] if t < last else U(0)    # nothing follows the last step
                        if resident:
                            effect += returned(U(link + i), heard, others, weights, value, neurons, shared,
                                               U(after + i))
                        else:
                            effect += returned(U(link + i), heard, others, weights, value, neurons, errors,
                                               U(U(at + neurons) + i))
                    u_before = k.zero if fires(k, v_before) else after_reset(k, v_before, start)
                    if moving:
                        leak[j] = leaks[U((U(leaks_at + neurons) if t < last else leaks_at) + i)]
                        drive[j] = drives[U(drives_at + i)]
                    if through_time:
                        base_error[j] = through_time_error(k, potential[j], effect, slope_at(k, potential[j]), leak[j],
                                                           base_error[j])
                    else:
                        base_error[j] = timing_error(k, potential[j], u_before, leak[j], effect, base_error[j])
                    delta_now = base_error[j]
                    if not through_time and (quiet[j] >> (t & U(31))) & U(1):
                        delta_now = surrogate_error(k, effect, slope_at(k, potential[j]))
                    filtered_error[j] = filtered(k, filtered_error[j], drive[j] * delta_now)
                    potential[j] = v_before
                    errors[U(at + i)] = filtered_error[j]
                    if recurrent and resident:
                        shared[U(now + i)] = filtered_error[j]
                    if keep:
                        delta[U(at + i)] = delta_now
            if t & U(31) == U(0) and t > U(0):
                word = U(word - neurons)
                for j in range(own):
                    i = U(first + U(j) * width)
                    if i < neurons:
                        quiet[j] = silent[U(word + i)]
            if recurrent:
                cuda.syncthreads()  # everybody's errors are there, and those of the step after have been read
                now, after = after, now
            at = one_back
            if moving and t > U(0):
                leaks_at, drives_at = U(leaks_at - neurons), U(drives_at - neurons)
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
