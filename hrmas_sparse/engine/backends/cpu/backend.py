"""The CPU backend: chunks of ``LANES`` samples, one worker thread each, kernels compiled by Numba."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.engine.backends.base import Backend
from hrmas_sparse.engine.backends.cpu import DENSE, LANES, ahead, chunks, losses
from hrmas_sparse.engine.backends.cpu.compile import KERNELS
from hrmas_sparse.engine.backends.cpu.integrator import Integrator
from hrmas_sparse.engine.backends.cpu.layer import Layer
from hrmas_sparse.engine.backends.cpu.relaxation import Relaxation
from hrmas_sparse.engine.losses import PscLoss


class Packed:
    """See :class:`hrmas_sparse.engine.backends.base.Chunk`; its spikes are packed by the worker that asks for them."""

    def __init__(self, batch, first, last, dtype):
        self.labels, self.first, self.steps, self.size = batch.labels[first:last], first, batch.steps, last - first
        self._wanted = batch, first, last, dtype

    @functools.cached_property
    def spikes(self):
        """What the samples send into the first layer."""
        return chunks.pack(*self._wanted)


class CpuBackend(Backend):
    """See :class:`hrmas_sparse.engine.backends.base.Backend`."""

    name = "cpu"
    notice = KERNELS.notice
    chunk, dense, relaxation = LANES, DENSE, Relaxation

    def __init__(self, threads=None):
        self.threads = threads or environment.threads()
        self._workers = ThreadPoolExecutor(self.threads, "hrmas") if self.threads > 1 else None
        if self._workers:
            ahead.start()
        self._buffers = chunks.Buffers()

    def layer(self, slot, neurons, synapses, intrinsic):
        return Layer(self._buffers, slot, neurons, synapses, intrinsic)

    def integrator(self, slot, neurons, windows, steps, w):
        return Integrator(self._buffers, slot, neurons, windows, steps, w)

    def pack(self, batch, dtype, networks=1):
        return [Packed(batch, first, last, dtype) for first, last in itertools.pairwise(chunks.cuts(len(batch)))]

    def judge(self, loss, psc, labels, tapes):
        if type(getattr(loss, "func", None)) is not PscLoss:
            return super().judge(loss, np.ascontiguousarray(psc), labels, tapes)
        of_samples, scores, gradient = losses.judge(loss, psc, labels, self._buffers)
        counts = np.zeros((len(scores), len(tapes)))
        counts[0] = [float(tape.count[0]) for tape in tapes]  # of all samples together
        return np.concatenate([of_samples[:, None], scores, counts], axis=1), gradient

    def unpack(self, opaque, size):
        return chunks.unpack(opaque, size)

    def map(self, function, items):
        if self._workers is None or len(items) < 2:
            return super().map(function, items)
        return list(self._workers.map(function, items))
