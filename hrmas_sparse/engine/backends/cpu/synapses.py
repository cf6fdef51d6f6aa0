"""Synapses of one chunk: spikes to current going forward, errors to effects and gradients going back.

A chunk is up to ``LANES`` samples. Its arrays end in an axis of samples, the lanes: one neuron at one
step is one cache line of float32, and every sum over synapses runs in all samples at once. Spikes come
as bit masks, one word a neuron, so a loop over spikes visits only neurons that fired; input with few
zeros comes as plain numbers instead (see chunks.py). The order is fixed (step, then neuron, then lane),
so are the sums.

Shapes: T steps, C neurons sending, N neurons receiving, L = LANES. Weights are (C, N).
"""

import numpy as np
from numba import uint64

from hrmas_sparse.engine.backends.cpu.bundles import SENDERS
from hrmas_sparse.engine.backends.cpu.compile import jit
from hrmas_sparse.engine.backends.cpu.lanes import (
    LANES,
    add_product,
    add_scaled,
    bits_to_lanes,
    fetch_to_write,
    load,
    multiply,
    splat,
    store,
    sum_lanes,
)
from hrmas_sparse.engine.backends.cpu.lists import add_rows, add_tiles, copy, turn_to_lanes, turn_to_rows

# Links are counted in unsigned words: Numba checks every signed index for being negative, which
# costs the band products a third of their speed. (A literal would make the sum signed, in fact float64.)
ONE = np.uint64(1)


@jit
def feedforward(lists, w, column, first, width, current, work):
    """current[t, n, l] = sum of w[c, n] over the senders c in the list of step t and sample l (:func:`by_sample`).

    Of receivers first to first + width, at most ``COLUMNS``, which are the columns of w from ``column`` on; current
    (T, N, L).
    """
    for t in range(current.shape[0]):  # a step's sums are turned while they are in the cache
        for n in range(first, first + width):  # that is where they go
            fetch_to_write(current[t], n)
        add_rows(lists, t * LANES, LANES, w, column, work.rows, 0, width, True)
        turn_to_lanes(work, first, width, current[t])


@jit
def dense(w, x, result):
    """result[t, c, l] = sum_n w[c, n] x[t, n, l]; eight rows of w at a time share each load of x.

    With w and errors it gives the effect on the layer below, with w.T and dense input the current.
    """
    senders, receivers = w.shape
    zero = splat(w.dtype.type(0))
    for t in range(x.shape[0]):
        error, out = x[t], result[t]
        for c in range(0, senders - senders % 8, 8):
            sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7 = zero, zero, zero, zero, zero, zero, zero, zero
            for n in range(receivers):
                one = load(error, n)
                sum0 = add_scaled(sum0, w[c + 0, n], one)
                sum1 = add_scaled(sum1, w[c + 1, n], one)
                sum2 = add_scaled(sum2, w[c + 2, n], one)
                sum3 = add_scaled(sum3, w[c + 3, n], one)
                sum4 = add_scaled(sum4, w[c + 4, n], one)
                sum5 = add_scaled(sum5, w[c + 5, n], one)
                sum6 = add_scaled(sum6, w[c + 6, n], one)
                sum7 = add_scaled(sum7, w[c + 7, n], one)
            store(out, c + 0, sum0)
            store(out, c + 1, sum1)
            store(out, c + 2, sum2)
            store(out, c + 3, sum3)
            store(out, c + 4, sum4)
            store(out, c + 5, sum5)
            store(out, c + 6, sum6)
            store(out, c + 7, sum7)
        for c in range(senders - senders % 8, senders):
            total = zero
            for n in range(receivers):
                total = add_scaled(total, w[c, n], load(error, n))
            store(out, c, total)


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
        for t in range(steps):
            copy(errors[t], n, panel[t], 0, width)
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
def scatter(links, spikes, t, low, high, current):
    """current[i, l] += sum_r W_ir s_r[t, l] over the links r -> i of senders low to high - 1."""
    mask, values = spikes.mask[t], spikes.values
    one = links.data.dtype.type(1)
    for r in range(uint64(low), uint64(high)):
        bits = mask[r]
        if bits:
            sent = bits_to_lanes(bits, one)
            if values.size:
                sent = multiply(sent, load(values[t], r))
            for k in range(uint64(links.indptr[r]), uint64(links.indptr[r + ONE])):
                i = links.indices[k]
                store(current, i, add_scaled(load(current, i), links.data[k], sent))


@jit
def event_gradients(received, sent, first, width, errors, dw, tiles, sums, work):
    """Weight gradients by events, of a span (mathematics 6): every spike adds the errors of its step and sample.

    Of receivers first to first + width, at most ``COLUMNS``, first a multiple of that.

    received, sent : lists of the spikes the layer received and sent (:func:`by_sender`); those sent count from
        the span's first step whose errors they meet, the one after the spike
    errors : (T, N, L)
    dw : (C, N), or (0, N) where the gradient is not wanted or not made by events; added to
    tiles, sums : (tiles, L), the links' gradients tile by tile (:func:`pick_links`); added to
    """
    turn_to_rows(errors, first, width, work)
    add_rows(received, 0, dw.shape[0], work.rows, 0, dw, first, width, False)
    if sums.size:
        add_tiles(sent, tiles, work.rows, first, width, sums)


@jit
def reach(links):
    """The largest distance between the two neurons of a link, rounded up to whole bundles."""
    far = 0
    for r in range(links.indptr.size - 1):
        if links.indptr[r + 1] > links.indptr[r]:
            nearest, farthest = links.indices[links.indptr[r]], links.indices[links.indptr[r + 1] - 1]
            far = max(far, r - nearest, farthest - r)
    return -(-far // SENDERS) * SENDERS
