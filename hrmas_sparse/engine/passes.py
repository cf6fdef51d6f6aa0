"""Passes over batches: their chunks forward through all layers, and back.

A batch is cut into chunks by the backend; a chunk goes forward and back through all layers before the
next one starts, so its tapes stay in cache and the memory needed does not grow with the batch.

A pass may be that of several networks, each with parameters and a batch of its own, where a backend simulates
them in one chunk: seeds that are trained together, or one network at w+ and at w-.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.backends.base import Chunk, Intrinsic, Plastic, Synapses, Tape, is_dense
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.engine.stack import Plasticity, Stack


class PassOptions(NamedTuple):
    """What a pass does besides running forward."""

    backward: bool = False                 # make gradients
    plasticity: Plasticity | None = None   # SpiKL-IP runs during the pass
    record: bool = False                   # keep everything
    feedforward: bool = True               # make gradients of feedforward weights too
    intrinsic: bool = False                # make gradients of hidden neurons' ln R and ln tau too


class Request(NamedTuple):
    """A pass that is wanted: a network at some parameters, over a batch. Its arrays lie where the backend computes."""

    stack: Stack
    parameters: Parameters
    batch: Events
    options: PassOptions

    @property
    def kind(self) -> tuple:
        """Passes may run as one where this is the same: their networks differ in links and parameters at most."""
        intrinsic = tuple(arrays[name].shape for arrays in self.parameters.layers[:-1] for name in INTRINSIC)
        return self.options, intrinsic, len(self.batch), is_dense(self.batch, self.stack.backend.dense)


class Result(NamedTuple):
    """What a pass gives for one network, arrays where the backend computes."""

    numbers: Any                  # (B, 1 + O + layers) float64, see Backend.judge
    gradients: Parameters | None  # of the batch mean
    intrinsic: Parameters | None  # R and tau after SpiKL-IP
    records: list[dict] | None    # a dict of arrays per layer


def run(requests: list[Request]) -> list[Result]:
    """Return the results of passes of one kind, in order; as many run as one as the backend takes."""
    return requests[0].stack.backend.repeated(_run, requests)


def _run(requests):
    stack, _, batch, options = requests[0]
    most = 1 if options.record else stack.backend.networks(len(batch))
    passes = [Pass(requests[n:n + most]) for n in range(0, len(requests), most)]
    stack.backend.map(lambda item: item[0].run(*item[1:]),
                      [(each, n, chunk) for each in passes for n, chunk in enumerate(each.chunks)])
    return [result for each in passes for result in each.results()]


def _side_by_side(layer, backend):
    """The synapses of one layer of several networks as the backend wants them."""
    if len(layer) == 1:
        return layer[0]
    return Synapses(backend.rows([synapses.w[None] for synapses in layer]), [synapses.links for synapses in layer])


def _each(values, backend):
    """R or tau of several networks, one's or each sample's, as the backend wants them."""
    if len(values) == 1:
        return values[0]
    return backend.rows([x if x.ndim == 3 else x.reshape(1, -1, x.shape[-1]) for x in values])


class _Part(NamedTuple):
    """A chunk's contribution; sums, not means."""

    numbers: Any                      # (b, 1 + O + layers), see Backend.judge
    plastic: list[Plastic | None]     # of each layer
    records: list[dict] | None


def _whole_record(records):
    """One layer's records of all chunks, put together along the axis of samples."""
    return {key: np.concatenate([record[key] for record in records], axis=-3) for key in records[0]}


class _Turns:
    """Lets chunks add to a sum in their order, whichever thread each runs on.

    A chunk waits for those before it only, which started before it, so one of them can always go on.
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
        """Wake the chunks that would wait for this one for ever."""
        with self._changed:
            self._failed = min(self._failed, index)
            self._changed.notify_all()


class Pass:
    """One pass over one batch of each of the networks that :class:`Request` name, all of one kind.

    :meth:`run` may run on several threads at once.
    """

    def __init__(self, requests: list[Request]):
        self.requests = requests
        self.stack, self.options = requests[0].stack, requests[0].options   # the networks have these in common
        self.layers = self._bound()
        self.chunks = self.stack.backend.chunks([request.batch for request in requests], self.stack.dtype)
        self.parts: list[Any] = [None] * len(self.chunks)
        self.total: list[list[Any]] | None = None   # of each layer, see _backward
        self.turns = _Turns()

    def _bound(self):
        """The layers, bound to the backend."""
        stack = self.stack
        *below, top = (_side_by_side(layer, stack.backend) for layer in zip(
            *(request.stack.synapses(request.parameters) for request in self.requests)))
        hidden = zip(*(request.parameters.layers[:-1] for request in self.requests))
        intrinsic = [Intrinsic(*(_each([arrays[name] for arrays in layer], stack.backend) for name in INTRINSIC))
                     for layer in hidden]
        layers = [stack.backend.layer(slot, stack.neurons(slot, self.options.plasticity), synapses, R_and_tau)
                  for slot, (synapses, R_and_tau) in enumerate(zip(below, intrinsic))]
        return [*layers, self._output(top)]

    def _output(self, synapses):
        stack, slot = self.stack, len(self.stack.layers) - 1
        neurons, layer = stack.neurons(slot), stack.layers[slot]
        if layer.windows:
            return stack.backend.integrator(slot, neurons, layer.windows, self.requests[0].batch.steps, synapses.w)
        return stack.backend.layer(slot, neurons, synapses, stack.output_intrinsic)

    def run(self, index: int, chunk: Chunk) -> None:
        """Simulate one chunk; keeps its :class:`_Part`, adds its gradients to ``self.total``."""
        try:
            self.parts[index] = self._run(index, chunk)
        except BaseException:
            self.turns.fail(index)
            raise

    def _run(self, index, chunk):
        tapes, numbers, psc_gradient = self._forward(chunk)
        records = [self._record(tape, chunk) for tape in tapes] if self.options.record else None
        if self.options.backward:
            self._add(index, self._backward(tapes, psc_gradient, records, chunk))
        return _Part(numbers, [tape.plastic for tape in tapes], records)

    def _forward(self, chunk) -> tuple[list[Tape], Any, Any]:
        """Tapes of all layers, what the pass is judged by, and the gradient of its loss."""
        received, tapes, record = chunk.spikes, [], self.options.record
        *below, top = self.layers
        for layer in below:
            tapes.append(layer.forward(chunk, received, keep_psc=record,
                                       keep_trajectory=record or self.options.backward))
            received = tapes[-1].spikes
        tape, *judged = self.stack.backend.output(top, self.stack.loss, chunk, received, tapes, self.options.backward,
                                                  record)
        return [*tapes, tape], *judged

    def _backward(self, tapes, psc_gradient, records, chunk) -> list[list]:
        """A chunk's gradients of each layer: dw, dlinks, and if wanted those of R and tau; delta goes into records."""
        room = [layer.room_for_gradients(self.options.feedforward) for layer in self.layers]
        gradients = [list(layer) for layer in room]
        above = self.layers[-1].effect_of_loss(tapes[-1], psc_gradient)
        for slot, layer in reversed([*enumerate(self.layers)]):
            intrinsic = self.options.intrinsic and slot < len(tapes) - 1
            above, delta = layer.backward(tapes[slot], above, room[slot], keep_errors=slot > 0,
                                          keep_delta=intrinsic or records is not None)
            if intrinsic:
                gradients[slot].append(layer.intrinsic_gradients(tapes[slot], delta))
            if records is not None and delta is not None:
                records[slot]["delta"] = self.stack.backend.unpack(delta, chunk.size)
        return gradients

    def _add(self, index, gradients):
        """Add a chunk's gradients to the sum, in the order of the chunks."""
        with self.turns.taken(index):
            if self.total is None:
                self.total = [[*map(self.stack.backend.kept, layer)] for layer in gradients]
            else:
                for layer, sums in zip(gradients, self.total):
                    for array, total in zip(layer, sums):
                        total += array

    def _record(self, tape, chunk):
        """Everything a test or a figure may want of a layer, as plain arrays (b, T, N)."""
        arrays = {"spikes": tape.spikes, "v": tape.v, "psc": tape.psc}
        if tape.plastic is not None:
            arrays["trajectory"] = tape.plastic.trajectory
        return {name: self.stack.backend.unpack(array, chunk.size) for name, array in arrays.items()
                if array is not None}

    def results(self) -> list[Result]:
        """Return what the pass gave for each network, once all chunks have run."""
        networks, parts = len(self.requests), self.parts
        numbers = parts[0].numbers if len(parts) == 1 else np.concatenate([part.numbers for part in parts])
        numbers = numbers.reshape(networks, -1, numbers.shape[-1])
        gradients = self._gradients() if self.options.backward else [None] * networks
        intrinsic = self._intrinsic() if self.options.plasticity else [None] * networks
        records = None
        if self.options.record:
            records = [_whole_record(layer) for layer in zip(*(part.records for part in parts))]
        return [Result(*result, records) for result in zip(numbers, gradients, intrinsic)]

    def _gradients(self):
        """Gradients of the batch mean, pulled back to the parameters of each network."""
        scale = self.stack.dtype.type(1 / len(self.requests[0].batch))
        networks = [[] for _ in self.requests]
        self.stack.backend.learning.scale([array for total in self.total for array in total if array.size], scale)
        for n, (dw, dlinks, *intrinsic) in enumerate(self.total):
            dw, start = dw.reshape(len(networks), -1, dw.shape[-1]), 0
            for m, (request, layers) in enumerate(zip(self.requests, networks)):
                arrays = {"w": dw[m]} if self.options.feedforward else {}
                recurrence = request.stack.layers[n].recurrence
                if recurrence is not None:
                    end = start + recurrence.indices.size
                    arrays |= recurrence.pullback(request.parameters.layers[n], dlinks[start:end])
                    start = end
                for both in intrinsic:
                    arrays |= dict(zip(INTRINSIC, both[m]))
                layers.append(arrays)
        return [Parameters(layers) for layers in networks]

    def _intrinsic(self):
        """R and tau after SpiKL-IP: each neuron's mean over the samples' copies, summed chunk by chunk."""
        networks, samples = [request.parameters.intrinsic() for request in self.requests], len(self.requests[0].batch)
        for n, layer in enumerate(self.stack.layers):
            if layer.recurrence is not None:
                plastic = [part.plastic[n] for part in self.parts]
                for name, total in (("R", reduce(add, (each.R_sum for each in plastic))),
                                    ("tau", reduce(add, (each.tau_sum for each in plastic)))):
                    means = (total / samples).astype(self.stack.dtype, copy=False).reshape(-1, layer.size)
                    for parameters, mean in zip(networks, means):
                        parameters.layers[n][name] = mean
        return networks
