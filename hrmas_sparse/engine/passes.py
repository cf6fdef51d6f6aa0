"""Passes over batches: their chunks forward through all layers, and back.

A batch is cut into chunks by the backend; a chunk goes forward and back through all layers before the
next one starts, so its tapes stay in cache and the memory needed does not grow with the batch.

A pass may be that of several networks, each with parameters and a batch of its own, where a backend simulates
them in one chunk: seeds that are trained together, or one network at w+ and at w-.
"""

import math
import threading
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends.base import Above, Gradients, Synapses
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.data.events import EVENT_ARRAYS


class Asked(NamedTuple):
    """A pass somebody wants: of a network, over a batch. Its arrays lie where the backend computes."""

    network: Any               # hrmas_sparse.engine.network.Network
    parameters: Parameters
    events: Any
    backward: bool
    plasticity: Any = None     # SpiKL-IP runs during the pass
    record: bool = False
    feedforward: bool = True   # gradients of feedforward weights too

    @property
    def kind(self):
        """Passes run together where this is the same, if their networks differ in links and parameters at most."""
        shapes = tuple(own[name].shape for own in self.parameters.layers[:-1] for name in INTRINSIC)
        return (*self[3:], shapes, len(self.events), self.network.backend.form(self.events))


class Found(NamedTuple):
    """What a pass finds out about one network, arrays where the backend computes."""

    numbers: Any               # (B + B O + layers,) float64: loss of each sample, its scores; spikes of each layer
    gradients: Parameters | None   # of the batch mean
    intrinsic: Parameters | None   # R and tau after SpiKL-IP
    records: list | None       # a dict of arrays per layer


def run(asked):
    """What each of the passes asked for finds, in order: all of one kind, as many in one as the backend takes."""
    first = asked[0]
    backend = first.network.backend
    most = 1 if first.record else backend.together(len(first.events))
    passes = [Pass(asked[n:n + most]) for n in range(0, len(asked), most)]
    backend.map(lambda one: one[0].chunk(*one[1:]), [(own, n, chunk) for own in passes
                                                     for n, chunk in enumerate(own.chunks)])
    return [found for own in passes for found in own.found()]


def _end_to_end(batches):
    """Batches as one, the samples of each after those of the one before."""
    if len(batches) == 1:
        return batches[0]
    ends = np.cumsum([batch.indptr[-1] for batch in batches])
    indptr = np.concatenate([[0], *(batch.indptr[1:] + end - batch.indptr[-1] for batch, end in zip(batches, ends))])
    arrays = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in ("labels", *EVENT_ARRAYS)}
    return batches[0]._with(indptr=indptr, **arrays)


def _side_by_side(layer):
    """The synapses of one layer of several networks as the backend wants them."""
    if len(layer) == 1:
        return layer[0]
    return Synapses(np.stack([own.w for own in layer]), [own.links for own in layer])


def _each(values):
    """R or tau of several networks, one's or each sample's, as the backend wants them."""
    if len(values) == 1:
        return values[0]
    return np.concatenate([own if own.ndim == 3 else own.reshape(1, -1, own.shape[-1]) for own in values])


class _Part(NamedTuple):
    """A chunk's contribution; sums, not means."""

    loss: np.ndarray
    scores: np.ndarray         # (b, O) summed output psc: the largest decides
    plastic: list
    records: list | None
    spikes: list


def joined(records):
    """One layer's records of all chunks, put together along the axis of samples."""
    return {key: np.concatenate([record[key] for record in records], axis=-3) for key in records[0]}


class _Turns:
    """Lets chunks add to a sum in their order, whichever thread each runs on.

    A chunk waits for those before it only, which started before it, so somebody can always go on.
    """

    def __init__(self):
        self._next, self._failed, self._changed = 0, math.inf, threading.Condition()

    @contextmanager
    def taken(self, index):
        """Wait for the turn of a chunk; its end is the next one's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed < index or self._next == index)
            if self._failed < index:
                raise RuntimeError("a chunk before this one failed")
            yield
            self._next += 1
            self._changed.notify_all()

    def fail(self, index):
        """Wake those who would wait for this chunk for ever."""
        with self._changed:
            self._failed = min(self._failed, index)
            self._changed.notify_all()


class Pass:
    """One pass over one batch of each of the networks that :class:`Asked` name, all of one kind.

    :meth:`chunk` may run on several threads at once.
    """

    def __init__(self, asked):
        first = asked[0]
        self.asked, self.network = asked, first.network  # what the networks have in common is the first's
        self.backward, self.plasticity, self.record, self.feedforward = first[3:]
        self.intrinsic = [{name: _each([own[name] for own in layer]) for name in INTRINSIC}
                          for layer in zip(*(own.parameters.layers[:-1] for own in asked))]
        layers = zip(*(own.network.synapses(own.parameters) for own in asked))
        self.synapses = [_side_by_side(layer) for layer in layers]
        self.fixed = self.network.backend.to_device(
            np.full(self.network.output.size, self.network.neurons.tau_m, self.network.dtype))
        events = _end_to_end([own.events for own in asked])
        self.chunks = self.network.backend.pack(events, self.network.dtype, len(asked))
        self.parts, self.total, self.turns = [None] * len(self.chunks), None, _Turns()

    def chunk(self, index, chunk):
        """Simulate one chunk; keeps its :class:`_Part`, adds its gradients to ``self.total``."""
        try:
            self.parts[index] = self._chunk(index, chunk)
        except BaseException:
            self.turns.fail(index)
            raise

    def _chunk(self, index, chunk):
        tapes, intrinsics, plastics = self._forward(chunk)
        size = len(chunk.labels)
        psc = self.network.backend.psc(tapes[-1], size)
        loss, psc_gradient = self.network.criterion(psc, chunk.labels)
        records = [self._record(tape, plastic, size) for tape, plastic in zip(tapes, plastics)] if self.record else None
        if self.backward:
            self._backward(index, tapes, intrinsics, psc_gradient, records, size)
        spikes = [self.network.backend.count(tape.spikes, size, len(self.asked)) for tape in tapes]
        return _Part(loss, psc.sum(axis=1, dtype=np.float64), plastics, records, spikes)

    def _forward(self, chunk):
        net, backend = self.network, self.network.backend
        run = backend.forward_smooth if net.neurons.smooth else backend.forward
        received, tapes, intrinsics, plastics = chunk.spikes, [], [], []
        for slot, (layer, k, synapses) in enumerate(zip(net.layers, net.constants, self.synapses)):
            last = slot == len(net.layers) - 1
            R, tau = (self.fixed, self.fixed) if last else self.intrinsic[slot].values()
            plastic = None
            if self.plasticity and layer.recurrence is not None:
                p = neuron.plasticity_constants(net.dtype, net.neurons.tau_m, self.plasticity.tau_cal, layer.v_th,
                                                self.plasticity.gamma, self.plasticity.mu)
                keep = self.backward or self.record
                tape, plastic = backend.forward_plastic(k, p, synapses, R, tau, received, slot, len(chunk.labels), keep)
                intrinsic = backend.trajectory(plastic) if self.backward else None
            else:
                intrinsic = backend.intrinsic(R, tau, chunk)
                tape = run(k, synapses, intrinsic, received, slot, keep_psc=last or self.record)
            tapes.append(tape)
            intrinsics.append(intrinsic)
            plastics.append(plastic)
            received = tape.spikes
        return tapes, intrinsics, plastics

    def _backward(self, index, tapes, intrinsics, psc_gradient, records, size):
        net, backend = self.network, self.network.backend
        run = backend.backward_smooth if net.neurons.smooth else backend.backward
        own = [backend.zero_gradients(s, slot, self.feedforward) for slot, s in enumerate(self.synapses)]
        top = len(tapes) - 1
        above = backend.effect_of_output(net.constants[top], tapes[top], psc_gradient, top)
        for slot in range(top, -1, -1):
            errors, delta = run(net.constants[slot], self.synapses[slot], intrinsics[slot], tapes[slot], above,
                                own[slot], slot, keep_errors=slot > 0, keep_delta=records is not None)
            if delta is not None:
                records[slot]["delta"] = backend.unpack(delta, size)
            above = Above(self.synapses[slot].w, errors)
        with self.turns.taken(index):
            if self.total is None:
                self.total = [Gradients(*(array.copy() for array in layer)) for layer in own]
            else:
                for mine, layer in zip(own, self.total):
                    for array, whole in zip(mine, layer):
                        whole += array

    def _record(self, tape, plastic, size):
        """Everything a test or a figure may want of a layer, as plain arrays (b, T, N)."""
        backend = self.network.backend
        found = {"spikes": backend.unpack_spikes(tape.spikes, size), "v": backend.unpack(tape.v, size)}
        if tape.psc.shape[0]:
            found["psc"] = backend.unpack(tape.psc, size)
        if plastic is not None:
            found["trajectory"] = backend.unpack(plastic.trajectory, size)
        return found

    def found(self):
        """What the pass found, once all chunks have run: a list of :class:`Found`."""
        networks, parts = len(self.asked), self.parts
        losses, scores = (np.concatenate([getattr(part, name) for part in parts]).reshape(networks, -1)
                          for name in ("loss", "scores"))
        spikes = np.stack([np.stack(part.spikes) for part in parts]).astype(np.float64).sum(axis=0)
        numbers = np.concatenate([losses, scores, spikes.T], axis=1)
        gradients = self._gradients() if self.backward else [None] * networks
        after = self._intrinsic_after() if self.plasticity else [None] * networks
        records = None
        if self.record:
            records = [joined([part.records[l] for part in parts]) for l in range(len(self.network.layers))]
        return [Found(*own, records) for own in zip(numbers, gradients, after)]

    def _gradients(self):
        """Gradients of the batch mean, pulled back to the parameters of each network: a list of Parameters."""
        net, found = self.network, [[] for _ in self.asked]
        scale = net.dtype.type(1 / len(self.asked[0].events))
        for n, (layer, total) in enumerate(zip(net.layers, self.total)):
            for array in total:
                array *= scale
            dw, start = total.dw.reshape(len(found), -1, layer.size), 0
            for m, (asked, layers) in enumerate(zip(self.asked, found)):
                own = {"w": dw[m]} if self.feedforward else {}
                recurrence = asked.network.layers[n].recurrence
                if recurrence is not None:
                    end = start + recurrence.indices.size
                    own |= recurrence.pullback(asked.parameters.layers[n], total.dlinks[start:end])
                    start = end
                layers.append(own)
        return [Parameters(layers) for layers in found]

    def _intrinsic_after(self):
        """The window's result: each neuron's mean over the samples' copies, summed chunk by chunk; R, tau alone."""
        net, found = self.network, [own.parameters.intrinsic() for own in self.asked]
        for n, layer in enumerate(net.hidden):
            if layer.recurrence is not None:
                for name in INTRINSIC:
                    total = sum(getattr(part.plastic[n], f"{name}_sum") for part in self.parts)
                    means = (total / len(self.asked[0].events)).astype(net.dtype).reshape(-1, layer.size)
                    for own, mean in zip(found, means):
                        own.layers[n][name] = mean
        return found
