"""The integrator readout on the CPU (mathematics 4): output neurons that sum what they receive and never spike.

Shapes: T steps, K windows, N senders, O outputs, L = LANES samples.
"""

import numpy as np

from hrmas_sparse.engine.backends import base
from hrmas_sparse.engine.backends.base import Above, Gradients, Tape
from hrmas_sparse.engine.backends.cpu import LANES, chunks
from hrmas_sparse.engine.backends.cpu import synapses as kernels
from hrmas_sparse.engine.backends.cpu.compile import filtered, jit
from hrmas_sparse.engine.backends.cpu.lanes import bits_to_lanes, flat, store
from hrmas_sparse.engine.backends.cpu.lists import copy


@jit
def sum_windows(k, mask, sent, sums, state):
    """Add the psc of every sender to the sum of the window that each step is in.

    mask (T, N): who spiked; sent (T, N, L): how much, of the smooth variant, else (0, 0, 0); sums (K, N, L) and
    state (2, N, L) zeroed.
    """
    steps, windows = mask.shape[0], sums.shape[0]
    spike, psc = state[0], state[1]
    for t in range(steps):
        if sent.shape[0]:
            copy(sent[t], 0, spike, 0, mask.shape[1])
        else:
            for n in range(mask.shape[1]):
                store(spike, n, bits_to_lanes(mask[t, n], k.one))
        _add_filtered(k, flat(spike), flat(psc), flat(sums[t * windows // steps]))


@jit
def _add_filtered(k, spike, psc, total):
    for j in range(psc.size):
        psc[j] = filtered(k, psc[j], spike[j])
        total[j] += psc[j]


@jit
def effects(k, gradient, errors):
    """errors[t] = A[t], the effect of a spike at t: gradient (K, N, L) of the window's sum, filtered back in time."""
    steps, windows = errors.shape[0], gradient.shape[0]
    for t in range(steps - 1, -1, -1):
        later, here = flat(errors[min(t + 1, steps - 1)]), flat(errors[t])
        slope = flat(gradient[t * windows // steps])
        for j in range(here.size):
            here[j] = filtered(k, later[j], slope[j]) if t < steps - 1 else slope[j]


class Integrator(base.Layer):
    """See :class:`hrmas_sparse.engine.backends.base.Layer`; its "psc" is the potential at the end, (b, 1, O)."""

    def __init__(self, buffers, slot, neurons, windows, steps, w):
        self._buffers, self._slot, self._k, self._w = buffers, slot, neurons.k, w
        self._windows, self._steps, self._senders = windows, steps, len(w) // windows

    def _array(self, name, *shape):
        return self._buffers.get((name, self._slot), shape, self._w.dtype)

    def _zeroed(self, name, *shape):
        return self._buffers.zeroed((name, self._slot), shape, self._w.dtype)

    def forward(self, chunk, received, keep_psc=False, keep_trajectory=False):
        sums = self._zeroed("sums", self._windows, self._senders, LANES)
        sum_windows(self._k, received.mask, received.values, sums, self._zeroed("state", 2, self._senders, LANES))
        v = self._array("v", 1, self._w.shape[1], LANES)
        kernels.dense(np.ascontiguousarray(self._w.T), sums.reshape(1, -1, LANES), v)
        return Tape(sums, None, v, None, v, None, None, np.zeros(1, np.int64))

    def psc(self, tape, chunk):
        return chunks.unpack(tape.v, chunk.size)

    def effect_of_loss(self, tape, psc_gradient):
        errors = self._zeroed("errors", *tape.v.shape)
        errors[..., :len(psc_gradient)] = np.moveaxis(psc_gradient, 0, -1)
        return Above(np.zeros((0, 0), self._w.dtype), errors)

    def effect_below(self, errors):
        gradient = self._array("gradient", self._windows, self._senders, LANES)
        kernels.dense(self._w, errors, gradient.reshape(1, -1, LANES))
        effect = self._array("effect", self._steps, self._senders, LANES)
        effects(self._k, gradient, effect)
        return effect

    def backward(self, tape, above, gradients, keep_errors=True, keep_delta=False):
        self.weight_gradients(tape, above.errors, gradients)
        return Above(np.zeros((0, 0), self._w.dtype), self.effect_below(above.errors)), None

    def room_for_gradients(self, feedforward=True):
        dw = self._zeroed("dw", *self._w.shape) if feedforward else self._w[:0]
        return Gradients(dw, np.zeros(0, self._w.dtype))

    def weight_gradients(self, tape, errors, gradients):
        if gradients.dw.size:
            kernels.dense_gradient(tape.received.reshape(1, -1, LANES), errors, gradients.dw,
                                   self._array("panel", 1, 4, LANES))
