"""Synapses of one chunk: spikes to current going forward, errors to effects and gradients going back.

A chunk is up to ``LANES`` samples. Its arrays end in an axis of samples, the lanes: one neuron at one
step is one cache line of float32, and every sum over synapses runs in all samples at once. Spikes come
as bit masks, one word a neuron, so a loop over spikes visits only neurons that fired; input with few
zeros comes as plain numbers instead (see chunks.py). The order is fixed (step, then neuron, then lane),
so are the sums.

Shapes: T steps, C neurons sending, N neurons receiving, L = LANES. Weights are (C, N).
"""

import numpy as np
from numba import uint16, uint64

from hrmas_sparse.backends.cpu.compile import jit
from hrmas_sparse.backends.cpu.lanes import (
    LANES, add, add_product, add_scaled, bits_to_lanes, load, lowest_bit, multiply, splat, store, sum_lanes)

# Links are counted in unsigned words: Numba checks every signed index for being negative, which
# costs the band products a third of their speed. (A literal would make the sum signed, in fact float64.)
ONE, TWO, THREE, FOUR = (np.uint64(n) for n in (1, 2, 3, 4))


@jit
def _value(values, t, r, lane, one):
    """What the sender sends: 1, or a real value where the spikes carry values."""
    return values[t, r, lane] if values.size else one


@jit
def _sum_rows(spikes, t, w, rows):
    """rows[l, :] = sum of w[c, :] over the spikes of step t; return whether there was any."""
    mask = spikes.mask[t]
    some = False
    rows[:, :] = 0
    one = w.dtype.type(1)
    for c in range(mask.shape[0]):
        bits = mask[c]
        some |= bits != 0
        while bits:
            lane = lowest_bit(bits)
            bits &= uint16(bits - 1)
            value = _value(spikes.values, t, c, lane, one)
            for n in range(w.shape[1]):
                rows[lane, n] += value * w[c, n]
    return some


@jit
def feedforward(spikes, w, current, rows):
    """current[t, n, l] = sum_c s_c[t, l] w[c, n]; scratch rows (L, N)."""
    for t in range(current.shape[0]):
        out = current[t]
        if _sum_rows(spikes, t, w, rows):
            for n in range(out.shape[0]):
                for lane in range(LANES):
                    out[n, lane] = rows[lane, n]
        else:
            out[:, :] = 0


@jit
def dense(w, x, result):
    """result[t, c, l] = sum_n w[c, n] x[t, n, l]; four rows of w at a time share each load of x.

    With w and errors it gives the effect on the layer below, with w.T and dense input the current.
    """
    senders, receivers = w.shape
    zero = splat(w.dtype.type(0))
    for t in range(x.shape[0]):
        error, out = x[t], result[t]
        for c in range(0, senders - senders % 4, 4):
            sum0, sum1, sum2, sum3 = zero, zero, zero, zero
            for n in range(receivers):
                one = load(error, n)
                sum0 = add_scaled(sum0, w[c, n], one)
                sum1 = add_scaled(sum1, w[c + 1, n], one)
                sum2 = add_scaled(sum2, w[c + 2, n], one)
                sum3 = add_scaled(sum3, w[c + 3, n], one)
            store(out, c, sum0)
            store(out, c + 1, sum1)
            store(out, c + 2, sum2)
            store(out, c + 3, sum3)
        for c in range(senders - senders % 4, senders):
            sum0 = zero
            for n in range(receivers):
                sum0 = add_scaled(sum0, w[c, n], load(error, n))
            store(out, c, sum0)


@jit
def dense_gradient(x, errors, dw, panel):
    """dw[c, n] += sum over t and l of x[t, c, l] errors[t, n, l], for dense input x; scratch panel (T, 4, L).

    Two senders and four receivers at a time, eight sums that do not wait for each other. The receivers'
    errors are copied together first: the steps of one neuron lie too far apart for the cache.
    """
    steps, senders, _ = x.shape
    receivers = errors.shape[1]
    zero = splat(dw.dtype.type(0))
    for n in range(0, receivers, 4):
        width = min(4, receivers - n)
        panel[:, :width] = errors[:, n:n + width]
        for c in range(0, senders, 2):
            d = min(c + 1, senders - 1)
            c0, c1, c2, c3, d0, d1, d2, d3 = zero, zero, zero, zero, zero, zero, zero, zero
            for t in range(steps):
                one, other, four = load(x[t], c), load(x[t], d), panel[t]
                e0, e1, e2, e3 = load(four, 0), load(four, 1), load(four, 2), load(four, 3)
                c0, d0 = add_product(c0, one, e0), add_product(d0, other, e0)
                c1, d1 = add_product(c1, one, e1), add_product(d1, other, e1)
                c2, d2 = add_product(c2, one, e2), add_product(d2, other, e2)
                c3, d3 = add_product(c3, one, e3), add_product(d3, other, e3)
            _add_sums(dw[c, n:n + width], c0, c1, c2, c3)
            if d > c:
                _add_sums(dw[d, n:n + width], d0, d1, d2, d3)


@jit
def _add_sums(out, sum0, sum1, sum2, sum3):
    """Add the sums over lanes of up to four vectors."""
    out[0] += sum_lanes(sum0)
    if out.size > 1:
        out[1] += sum_lanes(sum1)
    if out.size > 2:
        out[2] += sum_lanes(sum2)
    if out.size > 3:
        out[3] += sum_lanes(sum3)


@jit
def scatter(links, spikes, t, current):
    """current[i, l] += sum_r W_ir s_r[t, l] over the links r -> i."""
    mask, values = spikes.mask[t], spikes.values
    one = links.data.dtype.type(1)
    for r in range(mask.shape[0]):
        bits = mask[r]
        if bits:
            sent = bits_to_lanes(bits, one)
            if values.size:
                sent = multiply(sent, load(values[t], r))
            for k in range(uint64(links.indptr[r]), uint64(links.indptr[r + 1])):
                i = links.indices[k]
                store(current, i, add_scaled(load(current, i), links.data[k], sent))


@jit
def gather(links, error, effect):
    """effect[r, l] += sum_i W_ir error[i, l] over the links r -> i: the transpose of scatter."""
    indices, data = links.indices, links.data
    zero = splat(data.dtype.type(0))
    for r in range(effect.shape[0]):
        start, stop = uint64(links.indptr[r]), uint64(links.indptr[r + 1])
        whole = stop - (stop - start) % FOUR
        sum0, sum1, sum2, sum3 = load(effect, r), zero, zero, zero
        for k in range(start, whole, FOUR):
            sum0 = add_scaled(sum0, data[k], load(error, indices[k]))
            sum1 = add_scaled(sum1, data[k + ONE], load(error, indices[k + ONE]))
            sum2 = add_scaled(sum2, data[k + TWO], load(error, indices[k + TWO]))
            sum3 = add_scaled(sum3, data[k + THREE], load(error, indices[k + THREE]))
        for k in range(whole, stop):
            sum0 = add_scaled(sum0, data[k], load(error, indices[k]))
        store(effect, r, add(add(sum0, sum1), add(sum2, sum3)))


@jit
def _add_outer(spikes, t, rows, dw):
    """dw[c, :] += s_c[t, l] rows[l, :] for every spike of step t."""
    mask = spikes.mask[t]
    one = dw.dtype.type(1)
    for c in range(mask.shape[0]):
        bits = mask[c]
        while bits:
            lane = lowest_bit(bits)
            bits &= uint16(bits - 1)
            value = _value(spikes.values, t, c, lane, one)
            for n in range(dw.shape[1]):
                dw[c, n] += value * rows[lane, n]


@jit
def feedforward_gradient(spikes, errors, dw, rows):
    """dw[c, n] += sum over t and l of s_c[t, l] errors[t, n, l] (SPEC 6); scratch rows (L, N)."""
    for t in range(errors.shape[0]):
        error = errors[t]
        for n in range(error.shape[0]):
            for lane in range(LANES):
                rows[lane, n] = error[n, lane]
        _add_outer(spikes, t, rows, dw)


@jit
def links_gradient(links, spikes, errors, dlinks):
    """dlinks[k] += sum over t and l of s_r[t, l] errors[t, i, l] for every link k: r -> i (SPEC 6).

    errors[t] are those of the step after spikes.mask[t].
    """
    one = dlinks.dtype.type(1)
    for t in range(errors.shape[0]):
        mask = spikes.mask[t]
        for r in range(mask.shape[0]):
            bits = mask[r]
            while bits:
                lane = lowest_bit(bits)
                bits &= uint16(bits - 1)
                value = _value(spikes.values, t, r, lane, one)
                for k in range(uint64(links.indptr[r]), uint64(links.indptr[r + 1])):
                    dlinks[k] += value * errors[t, links.indices[k], lane]
