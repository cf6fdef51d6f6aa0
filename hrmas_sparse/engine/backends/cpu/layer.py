"""A layer on the CPU during one pass: what it needs of buffers, and which kernels it runs.

The arrays of a chunk end in an axis of ``LANES`` samples.
"""

import functools

import numpy as np

from hrmas_sparse.engine.backends import base
from hrmas_sparse.engine.backends.base import Above, Gradients, Membrane, Plastic, Tape
from hrmas_sparse.engine.backends.cpu import LANES, ahead, blocks, bundles, chunks, intrinsic, lists, smooth, step
from hrmas_sparse.engine.backends.cpu import synapses as kernels


class Layer(base.Layer):
    """See :class:`hrmas_sparse.engine.backends.base.Layer`."""

    def __init__(self, buffers, slot, neurons, synapses, intrinsic):
        self._buffers, self._slot, self._neurons = buffers, slot, neurons
        self._synapses, self._intrinsic = synapses, intrinsic
        self._width, self._dtype = synapses.w.shape[1], synapses.w.dtype

    # ---- forward ----

    def forward(self, chunk, received, keep_psc=False, keep_trajectory=False):
        ahead.wait("forward", self._dtype)
        signals, membrane, plastic = self._signals(received, chunk.steps, keep_psc), None, None
        if self._neurons.p is not None:
            plastic = self._run_plastic(signals, chunk, keep_trajectory)
        else:
            membrane = self._membrane or Membrane(*(_lanes(values, chunk) for values in self._rates))
            run = self._run_smooth if self._neurons.smooth else self._run
            signals = run(signals, membrane, chunk)
        return Tape(*signals, membrane, plastic, _count(signals.spikes, chunk.size))

    @functools.cached_property
    def _rates(self):
        """1/tau and R/tau."""
        R, tau = self._intrinsic
        return 1 / tau, R / tau

    @functools.cached_property
    def _membrane(self):
        """The same for every chunk; None where samples differ."""
        if max(values.ndim for values in self._rates) > 2:
            return None
        return Membrane(*(_lanes(values, None) for values in self._rates))

    def _signals(self, received, steps, keep_psc):
        """Unfilled signals."""
        def get(name, kind, *shape):
            return self._buffers.get((name, self._slot), shape, kind)

        spikes = chunks.Spikes(get("spikes", np.uint16, steps, self._width), np.zeros((0, 0, 0), self._dtype))
        psc = self._buffers.get(("psc", self._slot, keep_psc), (steps if keep_psc else 0, self._width, LANES),
                                self._dtype)
        return blocks.Signals(received, spikes, get("v", self._dtype, steps, self._width, LANES),
                              get("silent", np.uint16, steps, self._width), psc)

    def _run(self, signals, membrane, chunk):
        span = blocks.span_of(chunk.steps)
        listed, given = self._currents(signals, chunk.steps, span)
        blocks.forward(self._neurons.k, membrane, self._synapses, signals, self._state()[:3], listed, self._work(span),
                       span, given)
        return signals

    def _currents(self, signals, steps, span):
        """Lists for the spikes received of a span, and whether v holds what they make already."""
        given = (len(self._synapses.w) > blocks.MANY and self._width > blocks.PANEL
                 and bool(signals.received.mask.size))
        listed = self._lists("received", signals.received, steps if given else span)
        if given:
            panel = self._buffers.get("panel", (len(self._synapses.w), blocks.PANEL), self._dtype)
            blocks.panel_currents(self._synapses, signals.received, listed, panel, signals.v, self._work(span))
        return listed, given

    def _run_plastic(self, signals, chunk, keep_trajectory):
        span, name = blocks.span_of(chunk.steps), ("trajectory", self._slot, keep_trajectory)
        adapted = self._buffers.get(("intrinsic", self._slot), (2, self._width, LANES), self._dtype)
        for lanes, values in zip(adapted, self._intrinsic):
            lanes[...] = values[:, None]
        trajectory = self._buffers.get(name, (2, chunk.steps if keep_trajectory else 0, self._width, LANES),
                                       self._dtype)
        listed, given = self._currents(signals, chunk.steps, span)
        blocks.forward_plastic(self._neurons.k, self._neurons.p, adapted, self._synapses, signals, trajectory,
                               self._state(), listed, self._work(span), span, given)
        return Plastic(*adapted[..., :chunk.size].sum(axis=2), trajectory)

    def _run_smooth(self, signals, membrane, chunk):
        signals = signals._replace(spikes=chunks.Spikes(signals.spikes.mask, np.zeros_like(signals.v)))
        blocks.all_currents(self._synapses, signals.received, self._lists("received", signals.received, chunk.steps),
                            signals.v, self._work(chunk.steps))
        smooth.forward(self._neurons.k, *membrane, self._synapses.links, signals.v, signals.spikes, signals.psc,
                       self._state()[:3])
        return signals

    def psc(self, tape, chunk):
        return tape.psc[..., :chunk.size].transpose(2, 0, 1)

    # ---- backward ----

    def effect_of_loss(self, tape, psc_gradient):
        effect = self._buffers.get(("errors", self._slot), tape.v.shape, self._dtype)
        step.effect_of_loss(self._neurons.k, np.ascontiguousarray(psc_gradient, np.float64), effect)
        return Above(np.zeros((0, 0), self._dtype), effect)

    def effect_below(self, errors):
        return self._effect(Above(self._synapses.w, errors))

    def _effect(self, above):
        """A of the layer that ``above`` is above of."""
        effect = self._buffers.get(("effect", self._slot), (len(above.errors), len(above.w), LANES), self._dtype)
        kernels.dense(above.w, above.errors, effect)
        return effect

    def backward(self, tape, above, gradients, keep_errors=True, keep_delta=False):
        ahead.wait("backward", self._dtype)
        membrane = tape.membrane
        if tape.plastic is not None:
            R, tau = tape.plastic.trajectory
            membrane = Membrane(1 / tau, R / tau)
        steps = len(tape.v)
        delta = self._buffers.get(("delta of all", self._slot, keep_delta), (steps if keep_delta else 0, self._width,
                                                                             LANES), self._dtype)
        kept = delta if keep_delta else None
        if self._neurons.smooth:
            return Above(self._synapses.w, self._back_smooth(tape, membrane, above, gradients, delta)), kept
        span = blocks.span_of(steps)
        errors = above.errors
        if above.w.size:
            length = steps if keep_errors or not tape.received.mask.size else span
            errors = self._buffers.get(("errors", self._slot, length), (length, self._width, LANES), self._dtype)
        blocks.backward(self._neurons.k, membrane, self._synapses, _signals(tape), above, gradients, errors, delta,
                        self._scratch(tape, steps, span), span, self._neurons.through_time)
        return Above(self._synapses.w, errors) if keep_errors else None, kept

    def intrinsic_gradients(self, tape, delta):
        result = np.empty((2, self._width), self._dtype)
        intrinsic.gradients(self._neurons.k, tape.membrane.inv_tau, tape.v, tape.spikes.values, delta, self._state(),
                            result)
        return result[None]

    def _back_smooth(self, tape, membrane, above, gradients, delta):
        errors = self._effect(above) if above.w.size else above.errors
        smooth.backward(self._neurons.k, *membrane, self._bundles, tape.v, tape.spikes, errors, delta,
                        self._state()[:2])
        self.weight_gradients(tape, errors, gradients)
        return errors

    def room_for_gradients(self, feedforward=True):
        w, links = self._synapses
        dw = self._buffers.zeroed(("dw", self._slot), w.shape, w.dtype) if feedforward else w[:0]
        return Gradients(dw, self._buffers.zeroed(("dlinks", self._slot), links.data.shape, w.dtype))

    def weight_gradients(self, tape, errors, gradients):
        blocks.weight_gradients(tape.received, tape.spikes, self._synapses.links, errors, gradients,
                                self._scratch(tape, len(errors), len(errors)))

    # ---- scratch ----

    def _state(self):
        return self._buffers.zeroed(("state", self._slot), (4, self._width, LANES), self._dtype)

    @functools.cached_property
    def _bundles(self):
        """The links in bundles, with the weights of this pass."""
        links = self._synapses.links
        pattern = self._buffers.kept(("bundles", self._slot), links.indices, lambda: bundles.pattern_of(links))
        return bundles.filled(pattern, links.data)

    def _scratch(self, tape, steps, span):
        """What backward needs beside its arguments, for spans of so many steps."""
        tiles = self._buffers.kept(("tiles", self._slot), self._synapses.links.indices,
                                   lambda: lists.tiles_of(self._synapses.links))
        return blocks.Scratch(
            self._state(), self._lists("received", tape.received, span), self._lists("sent", tape.spikes, span),
            self._work(span), self._buffers.get(("delta", self._slot), (blocks.BLOCK, LANES), self._dtype),
            self._bundles, tiles,
            self._buffers.zeroed(("sums", self._slot), (len(tiles.sender), LANES), self._dtype),
            self._buffers.zeroed(("panel", self._slot), (steps, 4, LANES), self._dtype))

    def _lists(self, name, spikes, span):
        """Unfilled lists, long enough for the spikes of any span; of few different sizes, so that they are kept."""
        size = 1 << (lists.most_set(spikes.mask, span) + lists.SPARE).bit_length()
        start = max(max(span, len(spikes.mask)) * LANES, spikes.mask.shape[1]) + 1
        start = self._buffers.get(("start", name, self._slot), (start,), np.uint32)
        member = self._buffers.get(("member", name, self._slot), (size,), np.uint32)
        if spikes.values.size:
            return lists.Lists(start, member, self._buffers.get(("weight", name, self._slot), (size,), self._dtype))
        return lists.Lists(start, member, self._buffers.ones(size, self._dtype))

    def _work(self, span):
        return lists.Work(self._buffers.get("rows", (span * LANES, lists.COLUMNS), self._dtype),
                          self._buffers.get("square", (LANES, LANES), self._dtype))


def _signals(tape):
    """A tape as the kernels take it."""
    return blocks.Signals(tape.received, tape.spikes, tape.v, tape.silent, tape.psc)


def _count(spikes, size):
    """Spikes of a chunk's samples, (1,)."""
    if spikes.values.size:
        return spikes.values[..., :size].sum().reshape(1)
    return np.array([lists.bits_set(spikes.mask.reshape(-1))])


def _lanes(values, chunk):
    """(N,), (T, N) or (B, T, N) as (1, N, LANES) or (T, N, LANES); unused lanes repeat the last sample."""
    if values.ndim < 3:
        rows = values.reshape(-1, values.shape[-1], 1)
        return np.ascontiguousarray(np.broadcast_to(rows, (*rows.shape[:2], LANES)))
    samples = values[chunk.first:chunk.first + chunk.size]
    filled = samples[np.minimum(np.arange(LANES), len(samples) - 1)]
    return np.ascontiguousarray(np.moveaxis(filled, 0, -1))
