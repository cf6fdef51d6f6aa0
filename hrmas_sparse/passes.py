"""A pass over a batch: its chunks forward through all layers, and back.

A batch is cut into chunks by the backend; a chunk goes forward and back through all layers before the
next one starts, so its tapes stay in cache and the memory needed does not grow with the batch.
"""

import math
import threading
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from hrmas_sparse import neuron
from hrmas_sparse.backends.base import Above, Gradients, Synapses


class _Part(NamedTuple):
    """A chunk's contribution to an outcome; sums, not means."""

    loss: np.ndarray
    predicted: np.ndarray
    plastic: list
    records: list | None
    spikes: list


def decide(psc):
    """The decided class of each sample: largest summed output psc, the lower class of a tie; (b,)."""
    return psc.sum(axis=1, dtype=np.float64).argmax(axis=1)


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
    """One pass over one batch; :meth:`chunk` may run on several threads at once.

    With several sets of parameters, ``points``, the events are those of each, one set's after the other's.
    """

    def __init__(self, network, points, intrinsic, events, backward, plasticity=None, record=False, feedforward=True):
        self.network, self.points, self.intrinsic, self.feedforward = network, points, intrinsic, feedforward
        self.backward, self.plasticity, self.record = backward, plasticity, record
        self.samples = len(events) // len(points)
        self.synapses, *others = [network.synapses(parameters) for parameters in points]
        if others:
            self.synapses = [Synapses(np.stack([s.w for s in layer]), [s.links for s in layer])
                             for layer in zip(self.synapses, *others)]
        self.fixed = network.backend.to_device(
            np.full(network.output.size, network.neurons.tau_m, network.dtype))
        self.total, self.turns = None, _Turns()

    def chunk(self, numbered):
        """Simulate one chunk; returns a :class:`_Part`, adds its gradients to ``self.total``."""
        try:
            return self._chunk(*numbered)
        except BaseException:
            self.turns.fail(numbered[0])
            raise

    def _chunk(self, index, chunk):
        tapes, intrinsics, plastics = self._forward(chunk)
        size = len(chunk.labels)
        psc = self.network.backend.psc(tapes[-1], size)
        loss, psc_gradient = self.network.loss(psc, chunk.labels)
        records = [self._record(tape, plastic, size) for tape, plastic in zip(tapes, plastics)] if self.record else None
        if self.backward:
            self._backward(index, tapes, intrinsics, psc_gradient, records, size)
        spikes = [self.network.backend.count(tape.spikes, size) for tape in tapes]
        return _Part(loss, decide(psc), plastics, records, spikes)

    def _forward(self, chunk):
        net, backend = self.network, self.network.backend
        run = backend.forward_smooth if net.neurons.smooth else backend.forward
        received, tapes, intrinsics, plastics = chunk.spikes, [], [], []
        for slot, (layer, k, synapses) in enumerate(zip(net.layers, net.constants, self.synapses)):
            last = slot == len(net.layers) - 1
            R, tau = (self.fixed, self.fixed) if last else (
                self.intrinsic[f"R{slot + 1}"], self.intrinsic[f"tau{slot + 1}"])
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

    def reduced(self):
        """Gradients of the batch mean, pulled back to each set of parameters: a list of dicts."""
        net, points = self.network, len(self.points)
        scale = net.dtype.type(1 / self.samples)
        found = [{} for _ in self.points]
        for n, (name, layer, total) in enumerate(zip(net.names, net.layers, self.total), start=1):
            for array in total:
                array *= scale
            dw = total.dw.reshape(points, -1, layer.size)
            dlinks = total.dlinks.reshape(points, -1) if layer.recurrence is not None else None
            for point, (parameters, own) in enumerate(zip(self.points, found)):
                if self.feedforward:
                    own[name] = dw[point]
                if layer.recurrence is not None:
                    pulled = layer.recurrence.pullback(net.own(parameters, n), dlinks[point])
                    own.update({f"rec{n}.{key}": value for key, value in pulled.items()})
        return found
