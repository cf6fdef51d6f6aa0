"""Links as columns: what a thread that owns a neuron walks down, its neighbours in the warp beside it.

The links of a neuron stand below each other in an array (K, N), kept flat, K the largest number of links a neuron
has, so that neighbouring threads read neighbouring numbers. Going forward a neuron reads the links it receives by,
going back those it sends by, so there are two such orders, made once for a pattern of links.
"""

from typing import NamedTuple

import numpy as np
from numba import cuda

from hrmas_sparse.engine.backends.cuda import launch
from hrmas_sparse.engine.backends.cuda.arrays import to_device, xp
from hrmas_sparse.engine.backends.cuda.compile import jit

KEPT = 16  # patterns remembered: layers of the networks at work
FAR = 127  # the largest int8


class Columns(NamedTuple):
    """One order of the links of M networks of the same size, or of one pattern that M networks share (row 1)."""

    degree: object   # (1 or M, N) int32, links of each neuron
    others: object   # (1 or M, K N) how far those are that they come from or go to: link n of neuron i at n N + i;
                     # int8 where none is further, as in motifs, for this is read at every step; else int32
    place: object    # (1 or M, K N) int64, where their weights are among those of their network


class Senders(NamedTuple):
    """From whom neurons receive, as words of 32 senders' bits: what a neuron looks up in the spikes of a step.

    Entry n of neuron i is the number of a word, at 2 n N + i, and a mask of the senders in it, at (2 n + 1) N + i. The
    number's highest bit says that another entry follows. The links of an entry are the next ones of the neuron's
    column in :class:`Columns`, one for each bit of the mask, rising.
    """

    entries: object  # (1 or M, 2 W N) uint32, W the largest number of entries a neuron has
    size: int        # 2 W N


class Pattern(NamedTuple):
    """Who is linked with whom."""

    incoming: Columns   # rising senders: currents sum in the order of the CPU
    outgoing: Columns
    senders: Senders
    source: object      # (nnz,) int32, of all networks one after another
    target: object      # (nnz,) int32
    network: object     # (nnz,) int32


def _columns(row, other, place, neurons):
    """The links, sorted by row, as host arrays degree (N,), others and place (K, N), see :class:`Columns`."""
    degree = np.bincount(row, minlength=neurons)
    depth = np.arange(row.size) - (np.cumsum(degree) - degree)[row]
    others, places = np.zeros((2, max(1, degree.max()), neurons), np.int64)
    others[depth, row], places[depth, row] = other - row, place
    return degree, others, places


def _entries(target, source, neurons):
    """The entries of one network, (W, 2, N), from its links sorted by target, then source."""
    word, starts = source >> 5, np.ones(target.size, bool)
    starts[1:] = (target[1:] != target[:-1]) | (word[1:] != word[:-1]) | (source[1:] == source[:-1])
    first = np.flatnonzero(starts)
    bits = np.uint32(1) << (source & 31).astype(np.uint32)
    owner, mask = target[first], np.bitwise_or.reduceat(bits, first) if first.size else bits
    count = np.bincount(owner, minlength=neurons)
    depth = np.arange(first.size) - (np.cumsum(count) - count)[owner]
    entries = np.zeros((max(1, count.max()), 2, neurons), np.uint32)
    entries[depth, 0, owner] = word[first] | (depth + 1 < count[owner]).astype(np.int64) << 31
    entries[depth, 1, owner] = mask
    return entries


def _senders(each):
    """:class:`Senders` of networks from the entries of each."""
    longest = max(len(entries) for entries in each)
    stacked = np.stack([np.pad(entries, ((0, longest - len(entries)), (0, 0), (0, 0))) for entries in each])
    return Senders(to_device(stacked.reshape(len(each), -1)), stacked[0].size)


def _stacked(columns):
    """Columns of several networks below those of the longest."""
    longest = max(len(others) for _, others, _ in columns)
    deep = [[np.pad(array, ((0, longest - len(array)), (0, 0))) for _, *arrays in columns for array in arrays[n:n + 1]]
            for n in range(2)]
    degree, *deep = np.stack([c[0] for c in columns]), np.stack(deep[0]), np.stack(deep[1])
    others, place = (array.reshape(len(array), -1) for array in deep)
    kind = np.int8 if np.abs(others).max() <= FAR else np.int32
    return Columns(to_device(degree.astype(np.int32)), to_device(others.astype(kind)), to_device(place))


class Patterns:
    """Remembers the patterns of the links it has seen, by the identity of their arrays."""

    def __init__(self):
        self._known = {}

    def of(self, links):
        """The :class:`Pattern` of a list of links, one entry a network."""
        shared = all(each.indices is links[0].indices for each in links)
        distinct = links[:1] if shared else links
        key = tuple(id(each.indices) for each in distinct), len(links)
        if key not in self._known:
            while len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = _pattern(distinct, len(links)), [x.indices for x in distinct]  # keeps the ids alive
        return self._known[key][0]


def _pattern(distinct, networks):
    incoming, outgoing, entries, sources, targets = [], [], [], [], []
    for links in distinct:
        neurons, target = links.indptr.size - 1, links.indices.astype(np.int64)
        source = np.repeat(np.arange(neurons), np.diff(links.indptr))
        order = np.argsort(target, kind="stable")
        incoming.append(_columns(target[order], source[order], order, neurons))
        entries.append(_entries(target[order], source[order], neurons))
        outgoing.append(_columns(source, target, np.arange(target.size), neurons))
        sources.append(source)
        targets.append(target)
    copies = networks // len(distinct)
    network = np.repeat(np.arange(networks), [indices.size for indices in sources] * copies)
    source, target = (np.concatenate(arrays * copies) for arrays in (sources, targets))
    return Pattern(_stacked(incoming), _stacked(outgoing), _senders(entries),
                   *(to_device(array.astype(np.int32)) for array in (source, target, network)))


def weights(pattern, links):
    """The links' weights in both orders of a :class:`Pattern`, as a neuron receives and as it sends: (M, K N) each."""
    data = tuple(to_device(own.data) for own in links)
    found = [xp.empty((len(data), each.others.shape[1]), data[0].dtype) for each in pattern[:2]]
    if any(own.size for own in data):
        longest = max(x.shape[1] for x in found)
        columns[(launch.flat(longest)[0], len(data)), launch.flat(longest)[1]](
            data, pattern.incoming.place, pattern.outgoing.place, *found)
    return found


@jit
def columns(data, incoming_place, outgoing_place, incoming, outgoing):
    """incoming[m, k], outgoing[m, k] = the weight of network m at its place; where there is no link, 0."""
    k, m = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    own, row = data[m], m if incoming_place.shape[0] > 1 else 0
    if k < incoming.shape[1]:
        place = incoming_place[row, k]
        incoming[m, k] = own[place] if place < own.size else own.dtype.type(0)
    if k < outgoing.shape[1]:
        place = outgoing_place[row, k]
        outgoing[m, k] = own[place] if place < own.size else own.dtype.type(0)
