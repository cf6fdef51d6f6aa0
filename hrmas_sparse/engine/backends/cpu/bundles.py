"""Links as bundles: eight senders that follow each other and receivers that most of them have in common.

Going back, a neuron gathers the errors of its receivers, and the neurons of a motif have the same ones. A bundle loads
the error of a shared receiver once for eight senders, whose sums stay in registers: a multiply-add then needs a weight
and nothing else, where a link by itself needs its index, its weight and the error. A sender of the eight without that
link has weight 0 there. What few senders share stays a link of one sender.

Shapes: N neurons, E shared receivers of all bundles, R other links, L = LANES samples.
"""

from typing import NamedTuple

import numpy as np
from numba import uint64

from hrmas_sparse.engine.backends.cpu.compile import jit
from hrmas_sparse.engine.backends.cpu.lanes import add, add_scaled, load, splat, store

SENDERS = 8
SHARED = 4      # senders that must have a receiver: as many multiply-adds cost less than so many links, two each
_0, _1, _2, _3, _4, _5, _6, _7 = (np.uint64(n) for n in range(8))
_8 = np.uint64(SENDERS)


class Pattern(NamedTuple):
    """Which links make up the bundles, and which stay by themselves; what it counts are links in their order.

    start : (bundles + 1,) uint32, bundle g has entries start[g] to start[g + 1]; receiver : (E,) uint32
    link : (E, SENDERS) int64, nnz where a sender has none
    other_start : (N + 1,) uint32; other_receiver : (R,) uint32; other_link : (R,) int64
    """

    start: np.ndarray
    receiver: np.ndarray
    link: np.ndarray
    other_start: np.ndarray
    other_receiver: np.ndarray
    other_link: np.ndarray


class Bundles(NamedTuple):
    """A pattern with its weights, (E, SENDERS) and (R,)."""

    start: np.ndarray
    receiver: np.ndarray
    weight: np.ndarray
    other_start: np.ndarray
    other_receiver: np.ndarray
    other_weight: np.ndarray


def pattern_of(links):
    """The :class:`Pattern` of some links."""
    neurons, receiver = len(links.indptr) - 1, links.indices.astype(np.int64)
    whole = neurons // SENDERS  # what is left of the neurons has no bundle
    sender = np.repeat(np.arange(neurons), np.diff(links.indptr))
    places, entry, count = np.unique(sender // SENDERS * neurons + receiver, return_inverse=True, return_counts=True)
    chosen = (count >= SHARED) & (places < whole * neurons)
    number, shared = np.cumsum(chosen) - 1, chosen[entry]
    link = np.full((int(chosen.sum()), SENDERS), len(receiver), np.int64)
    link[number[entry[shared]], sender[shared] % SENDERS] = np.flatnonzero(shared)
    bundle, other = places[chosen] // neurons, np.flatnonzero(~shared)
    return Pattern(np.searchsorted(bundle, np.arange(whole + 1)).astype(np.uint32),
                   (places[chosen] % neurons).astype(np.uint32), link,
                   np.searchsorted(sender[other], np.arange(neurons + 1)).astype(np.uint32),
                   receiver[other].astype(np.uint32), other)


def filled(pattern, data):
    """The :class:`Bundles` of a pattern with the links' weights (nnz,)."""
    return Bundles(pattern.start, pattern.receiver, np.append(data, data.dtype.type(0))[pattern.link],
                   pattern.other_start, pattern.other_receiver, data[pattern.other_link])


@jit
def gather(bundles, low, high, error, effect):
    """effect[r, l] += sum_i W_ir error[i, l] over the links r -> i, for r from low to high - 1.

    The transpose of :func:`synapses.scatter`. Shared receivers come first, the other links after them, both rising.
    low : a multiple of SENDERS; high : that, or the number of neurons.
    """
    start, receiver, weight = bundles.start, bundles.receiver, bundles.weight
    for g in range(uint64(low) // _8, uint64(high) // _8):
        r, first, last = g * _8, uint64(start[g]), uint64(start[g + _1])
        if first == last:
            continue
        sum0, sum1, sum2, sum3 = load(effect, r), load(effect, r + _1), load(effect, r + _2), load(effect, r + _3)
        sum4, sum5, sum6, sum7 = load(effect, r + _4), load(effect, r + _5), load(effect, r + _6), load(effect, r + _7)
        for e in range(first, last):
            one = load(error, receiver[e])
            sum0 = add_scaled(sum0, weight[e, _0], one)
            sum1 = add_scaled(sum1, weight[e, _1], one)
            sum2 = add_scaled(sum2, weight[e, _2], one)
            sum3 = add_scaled(sum3, weight[e, _3], one)
            sum4 = add_scaled(sum4, weight[e, _4], one)
            sum5 = add_scaled(sum5, weight[e, _5], one)
            sum6 = add_scaled(sum6, weight[e, _6], one)
            sum7 = add_scaled(sum7, weight[e, _7], one)
        store(effect, r, sum0)
        store(effect, r + _1, sum1)
        store(effect, r + _2, sum2)
        store(effect, r + _3, sum3)
        store(effect, r + _4, sum4)
        store(effect, r + _5, sum5)
        store(effect, r + _6, sum6)
        store(effect, r + _7, sum7)
    _gather_others(bundles, low, high, error, effect)


@jit
def _gather_others(bundles, low, high, error, effect):
    """The links that are in no bundle; four sums that do not wait for each other."""
    start, receiver, weight = bundles.other_start, bundles.other_receiver, bundles.other_weight
    zero = splat(weight.dtype.type(0))
    for r in range(uint64(low), uint64(high)):
        first, last = uint64(start[r]), uint64(start[r + _1])
        if first == last:
            continue
        whole = last - (last - first) % _4
        sum0, sum1, sum2, sum3 = load(effect, r), zero, zero, zero
        for k in range(first, whole, _4):
            sum0 = add_scaled(sum0, weight[k], load(error, receiver[k]))
            sum1 = add_scaled(sum1, weight[k + _1], load(error, receiver[k + _1]))
            sum2 = add_scaled(sum2, weight[k + _2], load(error, receiver[k + _2]))
            sum3 = add_scaled(sum3, weight[k + _3], load(error, receiver[k + _3]))
        for k in range(whole, last):
            sum0 = add_scaled(sum0, weight[k], load(error, receiver[k]))
        store(effect, r, add(add(sum0, sum1), add(sum2, sum3)))
