"""The integrator readout on the GPU (mathematics 4): output neurons that sum what they receive and never spike.

Shapes: S samples, T steps, K windows, N senders, O outputs, M networks of S/M samples each.
"""

import numpy as np

from hrmas_sparse.engine.backends import base
from hrmas_sparse.engine.backends.base import Above, Gradients, Tape
from hrmas_sparse.engine.backends.cuda import chunks, launch
from hrmas_sparse.engine.backends.cuda import windows as kernels
from hrmas_sparse.engine.backends.cuda.arrays import filled, to_device, xp


class Integrator(base.Layer):
    """See :class:`hrmas_sparse.engine.backends.base.Layer`; its "psc" is the potential at the end, (S, 1, O)."""

    def __init__(self, neurons, windows, steps, w):
        self._k, self._windows, self._steps = neurons.k, windows, steps
        self._w = w
        self._rows = w if w.ndim == 3 else w[None]  # (M, K N, O)

    def forward(self, chunk, received, keep_psc=False, keep_trajectory=False):
        w = to_device(self._rows)
        samples, _, senders = received.shape
        sums = xp.empty((samples, self._windows, senders), w.dtype)
        over = launch.over(samples, senders)
        if isinstance(received, chunks.Values):
            kernels.sum_windows_of_values[over](self._k, received.values, self._steps, sums)
        else:
            kernels.sum_windows[over](self._k, received.words, self._steps, sums)
        v = xp.matmul(self._of_networks(sums), w).reshape(samples, 1, w.shape[-1])
        return Tape(sums, None, v, None, v, None, None, xp.zeros((samples, 1), np.int32))

    def _of_networks(self, array):
        """(M, S/M, everything of a sample)."""
        return array.reshape(len(self._rows), len(array) // len(self._rows), -1)

    def psc(self, tape, chunk):
        return tape.v

    def effect_of_loss(self, tape, psc_gradient):
        return Above(np.zeros((0, 0), tape.v.dtype), to_device(psc_gradient).astype(tape.v.dtype, copy=False))

    def effect_below(self, errors):
        gradient = xp.matmul(self._of_networks(errors), to_device(self._rows).transpose(0, 2, 1))
        gradient = xp.ascontiguousarray(gradient).reshape(len(errors), self._windows, -1)
        effect = xp.empty((len(errors), self._steps, gradient.shape[-1]), gradient.dtype)
        kernels.effects[launch.over(len(errors), gradient.shape[-1])](self._k, gradient, effect)
        return effect

    def backward(self, tape, above, gradients, keep_errors=True, keep_delta=False):
        self.weight_gradients(tape, above.errors, gradients)
        return Above(np.zeros((0, 0), tape.v.dtype), self.effect_below(above.errors)), None

    def room_for_gradients(self, feedforward=True):
        w = self._w
        return Gradients(xp.empty(w.shape if feedforward else (0, w.shape[-1]), w.dtype), xp.empty(0, w.dtype))

    def weight_gradients(self, tape, errors, gradients):
        with filled(gradients.dw, errors) as dw:
            if dw.size:
                xp.matmul(self._of_networks(tape.received).transpose(0, 2, 1), self._of_networks(errors),
                          out=dw.reshape(self._rows.shape))
