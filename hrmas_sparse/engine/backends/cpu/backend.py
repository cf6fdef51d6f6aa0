"""The CPU backend: chunks of ``LANES`` samples, one worker thread each, kernels compiled by Numba."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from hrmas_sparse import environment
from hrmas_sparse.engine.backends.base import Backend, Chunk
from hrmas_sparse.engine.backends.cpu import DENSE, LANES, ahead, chunks
from hrmas_sparse.engine.backends.cpu.compile import KERNELS
from hrmas_sparse.engine.backends.cpu.integrator import Integrator
from hrmas_sparse.engine.backends.cpu.layer import Layer


class CpuBackend(Backend):
    """See :class:`hrmas_sparse.engine.backends.base.Backend`."""

    name = "cpu"
    notice = KERNELS.notice
    chunk, dense = LANES, DENSE

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
        return [Chunk(chunks.pack(batch, first, last, dtype), batch.labels[first:last], first, batch.steps)
                for first, last in itertools.pairwise(chunks.cuts(len(batch)))]

    def unpack(self, opaque, size):
        return chunks.unpack(opaque, size)

    def map(self, function, items):
        if self._workers is None or len(items) < 2:
            return super().map(function, items)
        return list(self._workers.map(function, items))
