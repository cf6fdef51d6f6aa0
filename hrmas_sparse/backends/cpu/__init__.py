"""The CPU backend: chunks of ``LANES`` samples, one worker thread each, kernels compiled by Numba."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import config

from hrmas_sparse.backends.base import Chunk, Intrinsic, Plastic, Tape
from hrmas_sparse.backends.cpu.cache import use_own_folder

use_own_folder()  # before the first kernel below is declared

from hrmas_sparse.backends.cpu import chunks, dynamics, synapses as kernels  # noqa: E402
from hrmas_sparse.backends.cpu.lanes import LANES  # noqa: E402


class CpuBackend:
    """See :class:`hrmas_sparse.backends.base.Backend`."""

    name = "cpu"

    def __init__(self, threads=None):
        self.threads = threads or config.NUMBA_NUM_THREADS
        self._workers = ThreadPoolExecutor(self.threads, "hrmas") if self.threads > 1 else None
        self._buffers = chunks.Buffers()

    def map(self, function, items):
        if self._workers is None or len(items) < 2:
            return [function(item) for item in items]
        return list(self._workers.map(function, items))

    def pack(self, events, dtype):
        return [Chunk(chunks.pack(events, first, dtype), events.label[first:first + LANES], first, events.steps)
                for first in range(0, len(events), LANES)]

    def unpack(self, array, size):
        return np.moveaxis(array[..., :size], -1, -3).copy()

    def unpack_spikes(self, spikes, size):
        return chunks.unpack_spikes(spikes, size)

    def intrinsic(self, R, tau, chunk):
        return Intrinsic(_lanes(1 / tau, chunk), _lanes(R / tau, chunk))

    def trajectory(self, plastic):
        R, tau = plastic.trajectory
        return Intrinsic(1 / tau, R / tau)

    def forward(self, k, synapses, intrinsic, received, slot, keep_psc=False):
        tape, state = self._prepare(synapses, received, slot, keep_psc)
        dynamics.forward(k, *intrinsic, synapses.links, tape.v, tape.spikes, tape.silent, tape.psc, state[:3])
        return tape

    def forward_plastic(self, k, p, synapses, R, tau, received, slot, size, keep_trajectory=False):
        tape, state = self._prepare(synapses, received, slot, False)
        steps, neurons, _ = tape.v.shape
        dtype = tape.v.dtype
        own = self._buffers.get(("own", slot), (2, neurons, LANES), dtype)
        own[0], own[1] = R[:, None], tau[:, None]
        shape = (2, steps if keep_trajectory else 0, neurons, LANES)
        trajectory = self._buffers.get(("trajectory", slot, keep_trajectory), shape, dtype)
        dynamics.forward_plastic(k, p, own[0], own[1], synapses.links, tape.v, tape.spikes, tape.silent, tape.psc,
                                 state, trajectory)
        return tape, Plastic(own[0, :, :size].sum(axis=1), own[1, :, :size].sum(axis=1), trajectory)

    def effect_of_output(self, k, tape, psc_gradient, slot):
        effect = self._buffers.zeroed(("errors", slot), tape.v.shape, tape.v.dtype)
        effect[..., :psc_gradient.shape[0]] = np.moveaxis(psc_gradient, 0, -1)
        dynamics.filter_back(k, effect)
        return effect

    def effect_below(self, w, errors, slot):
        effect = self._buffers.get(("errors", slot), (errors.shape[0], w.shape[0], LANES), errors.dtype)
        kernels.dense(w, errors, effect)
        return effect

    def backward(self, k, synapses, intrinsic, tape, effect, slot, keep_delta=False):
        steps, neurons, _ = effect.shape
        delta = np.empty((steps if keep_delta else 0, neurons, LANES), effect.dtype)
        state = self._buffers.zeroed(("state", slot), (4, neurons, LANES), effect.dtype)
        dynamics.backward(k, *intrinsic, synapses.links, tape.v, tape.silent, effect, delta, state)
        return effect, delta if keep_delta else None

    def weight_gradients(self, tape, synapses, errors, dw, dlinks, slot):
        if dw is None:
            pass
        elif tape.received.mask.size:
            rows = self._buffers.get(("rows", slot), (LANES, errors.shape[1]), errors.dtype)
            kernels.feedforward_gradient(tape.received, errors, dw, rows)
        else:
            panel = self._buffers.zeroed(("panel", slot), (len(errors), 4, LANES), errors.dtype)
            kernels.dense_gradient(tape.received.values, errors, dw, panel)
        if dlinks.size:
            kernels.links_gradient(synapses.links, tape.spikes, errors, dlinks)

    def forward_smooth(self, k, synapses, intrinsic, received, slot, keep_psc=False):
        tape, state = self._prepare(synapses, received, slot, keep_psc)
        spikes = chunks.Spikes(tape.spikes.mask, np.zeros_like(tape.v))
        dynamics.forward_smooth(k, *intrinsic, synapses.links, tape.v, spikes, tape.psc, state[:3])
        return tape._replace(spikes=spikes)

    def backward_smooth(self, k, synapses, intrinsic, tape, effect, slot):
        state = self._buffers.zeroed(("state", slot), (4, *effect.shape[1:]), effect.dtype)
        dynamics.backward_smooth(k, *intrinsic, synapses.links, tape.v, tape.spikes, effect, state[:2])
        return effect, None

    def _prepare(self, synapses, received, slot, keep_psc):
        """A tape whose v holds the feedforward current, and zeroed state."""
        steps, neurons, dtype = max(len(received.mask), len(received.values)), synapses.w.shape[1], synapses.w.dtype
        get = self._buffers.get
        v = get(("v", slot), (steps, neurons, LANES), dtype)
        spikes = chunks.Spikes(get(("spikes", slot), (steps, neurons), np.uint16), np.zeros((0, 0, 0), dtype))
        silent = get(("silent", slot), (steps, neurons), np.uint16)
        psc = get(("psc", slot, keep_psc), (steps if keep_psc else 0, neurons, LANES), dtype)
        if received.mask.size:
            kernels.feedforward(received, synapses.w, v, get(("rows", slot), (LANES, neurons), dtype))
        else:
            kernels.dense(synapses.w.T, received.values, v)
        state = self._buffers.zeroed(("state", slot), (4, neurons, LANES), dtype)
        return Tape(received, spikes, v, silent, psc), state


def _lanes(values, chunk):
    """(N,), (T, N) or (B, T, N) as (1, N, LANES) or (T, N, LANES); unused lanes repeat the last sample."""
    if values.ndim < 3:
        rows = values.reshape(-1, values.shape[-1], 1)
        return np.ascontiguousarray(np.broadcast_to(rows, (*rows.shape[:2], LANES)))
    own = values[chunk.first:chunk.first + LANES]
    filled = own[np.minimum(np.arange(LANES), len(own) - 1)]
    return np.ascontiguousarray(np.moveaxis(filled, 0, -1))
