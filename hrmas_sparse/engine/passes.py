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
from hrmas_sparse.engine.backends.base import Gradients, Intrinsic, Neurons, Synapses, is_dense
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
        return (*self[3:], shapes, len(self.events), is_dense(self.events, self.network.backend.dense))


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
    most = 1 if first.record else backend.networks(len(first.events))
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
        self.fixed = self.network.backend.to_device(
            np.full(self.network.classes, self.network.neuron.tau_m, self.network.dtype))
        self.layers = [self._bound(slot, _side_by_side(layer)) for slot, layer in enumerate(layers)]
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

    def _bound(self, slot, synapses):
        net, last = self.network, slot == len(self.network.layers) - 1
        R, tau = (self.fixed, self.fixed) if last else self.intrinsic[slot].values()
        p = None
        if self.plasticity and net.layers[slot].recurrence is not None:
            p = neuron.plasticity_constants(net.dtype, net.neuron.tau_m, self.plasticity.tau_cal,
                                            net.layers[slot].v_th, self.plasticity.gamma, self.plasticity.mu)
        return net.backend.layer(slot, Neurons(net.constants[slot], p, net.smooth), synapses,
                                 Intrinsic(R, tau))

    def _chunk(self, index, chunk):
        tapes = self._forward(chunk)
        psc = self.layers[-1].psc(tapes[-1], chunk)
        loss, psc_gradient = self.network.criterion(psc, chunk.labels)
        records = [self._record(tape, chunk.size) for tape in tapes] if self.record else None
        if self.backward:
            self._backward(index, tapes, psc_gradient, records, chunk.size)
        return _Part(loss, psc.sum(axis=1, dtype=np.float64), [tape.plastic for tape in tapes], records,
                     [tape.count for tape in tapes])

    def _forward(self, chunk):
        received, tapes = chunk.spikes, []
        for layer in self.layers:
            tape = layer.forward(chunk, received, layer is self.layers[-1] or self.record, self.backward or self.record)
            tapes.append(tape)
            received = tape.spikes
        return tapes

    def _backward(self, index, tapes, psc_gradient, records, size):
        own = [layer.zero_gradients(self.feedforward) for layer in self.layers]
        top = len(tapes) - 1
        above = self.layers[top].effect_of_loss(tapes[top], psc_gradient)
        for slot in range(top, -1, -1):
            above, delta = self.layers[slot].backward(tapes[slot], above, own[slot], keep_errors=slot > 0,
                                                      keep_delta=records is not None)
            if delta is not None:
                records[slot]["delta"] = self.network.backend.unpack(delta, size)
        with self.turns.taken(index):
            if self.total is None:
                self.total = [Gradients(*(array.copy() for array in layer)) for layer in own]
            else:
                for mine, layer in zip(own, self.total):
                    for array, whole in zip(mine, layer):
                        whole += array

    def _record(self, tape, size):
        """Everything a test or a figure may want of a layer, as plain arrays (b, T, N)."""
        unpack = self.network.backend.unpack
        found = {"spikes": unpack(tape.spikes, size), "v": unpack(tape.v, size)}
        if tape.psc.shape[0]:
            found["psc"] = unpack(tape.psc, size)
        if tape.plastic is not None:
            found["trajectory"] = unpack(tape.plastic.trajectory, size)
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
