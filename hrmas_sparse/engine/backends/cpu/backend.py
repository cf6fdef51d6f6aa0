"""The CPU backend: chunks of ``LANES`` samples, one worker thread each, kernels compiled by Numba."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.engine.backends.base import Above, Chunk, Gradients, Intrinsic, Plastic, Tape
from hrmas_sparse.engine.backends.cpu import LANES, chunks, dynamics, layer, lists, synapses as kernels
from hrmas_sparse.engine.backends.cpu.compile import KERNELS


class CpuBackend:
    """See :class:`hrmas_sparse.engine.backends.base.Backend`."""

    name = "cpu"
    notice = KERNELS.notice

    def __init__(self, threads=None):
        self.threads = threads or environment.threads()
        self._workers = ThreadPoolExecutor(self.threads, "hrmas") if self.threads > 1 else None
        self._buffers = chunks.Buffers()

    def to_device(self, array):
        return array

    def to_host(self, array):
        return array

    def fetch(self, arrays):
        return arrays

    def together(self, samples):
        return 1

    def row_sums(self, rows, count):
        return lambda values: np.bincount(rows, values, count)

    def free_memory(self):
        return None

    def resident(self, events):
        return events

    def ahead(self, events, index):
        pass

    def map(self, function, items):
        if self._workers is None or len(items) < 2:
            return [function(item) for item in items]
        return list(self._workers.map(function, items))

    def form(self, events):
        return None

    def pack(self, events, dtype, networks=1):
        return [Chunk(chunks.pack(events, first, last, dtype), events.labels[first:last], first, events.steps)
                for first, last in itertools.pairwise(chunks.cuts(len(events)))]

    def unpack(self, array, size):
        return np.moveaxis(array[..., :size], -1, -3).copy()

    def psc(self, tape, size):
        return self.unpack(tape.psc, size)

    def unpack_spikes(self, spikes, size):
        return chunks.unpack_spikes(spikes, size)

    def count(self, spikes, size, networks=1):
        if spikes.values.size:
            return spikes.values[..., :size].sum().reshape(1)
        return np.array([lists.bits_set(spikes.mask.reshape(-1))])

    def intrinsic(self, R, tau, chunk):
        return Intrinsic(_lanes(1 / tau, chunk), _lanes(R / tau, chunk))

    def trajectory(self, plastic):
        R, tau = plastic.trajectory
        return Intrinsic(1 / tau, R / tau)

    def forward(self, k, synapses, intrinsic, received, slot, keep_psc=False):
        tape, state, found, work, span = self._prepare(synapses, received, slot, keep_psc)
        layer.forward(k, intrinsic, synapses, tape, state[:3], found, work, span)
        return tape

    def forward_plastic(self, k, p, synapses, R, tau, received, slot, size, keep_trajectory=False):
        tape, state, found, work, span = self._prepare(synapses, received, slot, False)
        steps, neurons, _ = tape.v.shape
        own = self._buffers.get(("own", slot), (2, neurons, LANES), tape.v.dtype)
        own[0], own[1] = R[:, None], tau[:, None]
        shape = (2, steps if keep_trajectory else 0, neurons, LANES)
        trajectory = self._buffers.get(("trajectory", slot, keep_trajectory), shape, tape.v.dtype)
        layer.forward_plastic(k, p, own, synapses, tape, trajectory, state, found, work, span)
        return tape, Plastic(own[0, :, :size].sum(axis=1), own[1, :, :size].sum(axis=1), trajectory)

    def effect_of_output(self, k, tape, psc_gradient, slot):
        effect = self._buffers.zeroed(("errors", slot), tape.v.shape, tape.v.dtype)
        effect[..., :psc_gradient.shape[0]] = np.moveaxis(psc_gradient, 0, -1)
        dynamics.filter_back(k, effect)
        return Above(np.zeros((0, 0), effect.dtype), effect)

    def effect_below(self, w, errors, slot):
        effect = self._buffers.get(("errors", slot), (errors.shape[0], w.shape[0], LANES), errors.dtype)
        kernels.dense(w, errors, effect)
        return effect

    def backward(self, k, synapses, intrinsic, tape, above, gradients, slot, keep_errors=True, keep_delta=False):
        steps, neurons, _ = tape.v.shape
        dtype, get = tape.v.dtype, self._buffers.get
        span = layer.span_of(steps)
        if above.w.size:
            long = steps if keep_errors or not tape.received.mask.size else span
            errors = get(("errors", slot, long), (long, neurons, LANES), dtype)
        else:
            errors = above.errors
        delta = np.empty((steps if keep_delta else 0, neurons, LANES), dtype)
        scratch = self._scratch(tape, synapses.links, steps, span, slot)
        layer.backward(k, intrinsic, synapses, tape, above, gradients, errors, delta, scratch, span)
        return errors if keep_errors else None, delta if keep_delta else None

    def zero_gradients(self, synapses, slot, feedforward=True):
        dw, dlinks = ("dw", slot), ("dlinks", slot)
        return Gradients(self._buffers.zeroed(dw, synapses.w.shape, synapses.w.dtype) if feedforward
                         else synapses.w[:0],
                         self._buffers.zeroed(dlinks, synapses.links.data.shape, synapses.w.dtype))

    def weight_gradients(self, tape, synapses, errors, gradients, slot):
        scratch = self._scratch(tape, synapses.links, len(errors), len(errors), slot)
        layer.weight_gradients(tape.received, tape.spikes, synapses.links, errors, gradients, scratch)

    def forward_smooth(self, k, synapses, intrinsic, received, slot, keep_psc=False):
        tape, state, *_ = self._prepare(synapses, received, slot, keep_psc)
        found = self._lists("received", received, len(tape.v), slot, tape.v.dtype)
        tape = tape._replace(spikes=chunks.Spikes(tape.spikes.mask, np.zeros_like(tape.v)))
        layer.all_currents(synapses, received, found, tape.v, self._work(len(tape.v), tape.v.dtype))
        dynamics.forward_smooth(k, *intrinsic, synapses.links, tape.v, tape.spikes, tape.psc, state[:3])
        return tape

    def backward_smooth(self, k, synapses, intrinsic, tape, above, gradients, slot, keep_errors=True,
                        keep_delta=False):
        errors = self.effect_below(above.w, above.errors, slot) if above.w.size else above.errors
        state = self._buffers.zeroed(("state", slot), (4, *errors.shape[1:]), errors.dtype)
        dynamics.backward_smooth(k, *intrinsic, synapses.links, tape.v, tape.spikes, errors, state[:2])
        self.weight_gradients(tape, synapses, errors, gradients, slot)
        return errors, None

    def _prepare(self, synapses, received, slot, keep_psc):
        """An unfilled tape, zeroed state, scratch rows, and the steps to take at a time."""
        steps, neurons = max(len(received.mask), len(received.values)), synapses.w.shape[1]
        dtype, get = synapses.w.dtype, self._buffers.get
        spikes = chunks.Spikes(get(("spikes", slot), (steps, neurons), np.uint16), np.zeros((0, 0, 0), dtype))
        tape = Tape(received, spikes, get(("v", slot), (steps, neurons, LANES), dtype),
                    get(("silent", slot), (steps, neurons), np.uint16),
                    get(("psc", slot, keep_psc), (steps if keep_psc else 0, neurons, LANES), dtype))
        span = layer.span_of(steps)
        return (tape, self._buffers.zeroed(("state", slot), (4, neurons, LANES), dtype),
                self._lists("received", received, span, slot, dtype), self._work(span, dtype), span)

    def _scratch(self, tape, links, steps, span, slot):
        """What backward needs beside its arguments, for spans of so many steps."""
        neurons, dtype = len(links.indptr) - 1, links.data.dtype
        tiles = self._buffers.kept(("tiles", slot), links.indices, lambda: lists.tiles_of(links))
        return layer.Scratch(self._buffers.zeroed(("state", slot), (4, neurons, LANES), dtype),
                             self._lists("received", tape.received, span, slot, dtype),
                             self._lists("sent", tape.spikes, span, slot, dtype), self._work(span, dtype),
                             self._buffers.get(("found", slot), (layer.BLOCK, LANES), dtype), tiles,
                             self._buffers.zeroed(("sums", slot), (len(tiles.sender), LANES), dtype),
                             self._buffers.zeroed(("panel", slot), (steps, 4, LANES), dtype))

    def _lists(self, name, spikes, span, slot, dtype):
        """Unfilled lists, long enough for the spikes of any span; of few different sizes, so that they are kept."""
        size = 1 << lists.most_set(spikes.mask, span).bit_length()
        start = max(max(span, len(spikes.mask)) * LANES, spikes.mask.shape[1]) + 1
        return lists.Lists(*(self._buffers.get((part, name, slot), (length,), kind) for part, length, kind in (
            ("start", start, np.uint32), ("member", size, np.uint32), ("weight", size, dtype))))

    def _work(self, span, dtype):
        return lists.Work(self._buffers.get("rows", (span * LANES, lists.COLUMNS), dtype),
                          self._buffers.get("square", (LANES, LANES), dtype))


def _lanes(values, chunk):
    """(N,), (T, N) or (B, T, N) as (1, N, LANES) or (T, N, LANES); unused lanes repeat the last sample."""
    if values.ndim < 3:
        rows = values.reshape(-1, values.shape[-1], 1)
        return np.ascontiguousarray(np.broadcast_to(rows, (*rows.shape[:2], LANES)))
    own = values[chunk.first:chunk.first + len(chunk.labels)]
    filled = own[np.minimum(np.arange(LANES), len(own) - 1)]
    return np.ascontiguousarray(np.moveaxis(filled, 0, -1))
