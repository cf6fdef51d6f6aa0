"""The CUDA backend: a whole batch in one launch per layer and direction, kernels compiled by Numba, GEMMs by CuPy.

Needs a GPU and both packages, or the CUDA simulator; see :mod:`.probe`.
"""

import contextlib
import functools

import numpy as np

from hrmas_sparse.data.events import EVENT_ARRAYS
from hrmas_sparse.engine.backends.base import EVALUATION_BATCH, Backend, Chunk, Loader
from hrmas_sparse.engine.backends.cuda import DENSE, RESIDENT, TOGETHER, chunks, copies, learning, losses
from hrmas_sparse.engine.backends.cuda.arrays import memory_info, to_device, to_host, xp
from hrmas_sparse.engine.backends.cuda.footprint import simulation
from hrmas_sparse.engine.backends.cuda.integrator import Integrator
from hrmas_sparse.engine.backends.cuda.layer import Layer, membrane_of
from hrmas_sparse.engine.backends.cuda.links import Patterns
from hrmas_sparse.engine.backends.cuda.loader import CarryingLoader, DeviceEvents
from hrmas_sparse.engine.backends.cuda.relaxation import Relaxation, Selection
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.memory import text


class CudaBackend(Backend):
    """See :class:`hrmas_sparse.engine.backends.base.Backend`."""

    name = "cuda"
    chunk = EVALUATION_BATCH  # as many as are scored together, so that a batch is one chunk
    together, dense, learning, relaxation, selection = TOGETHER, DENSE, learning, Relaxation, Selection

    def __init__(self):
        self._patterns = Patterns()
        self._membranes: dict = {}       # of each slot's last layer: R and tau, and what gives 1/tau and R/tau
        self._resident = None, None      # a training set, and its loader
        self._batch, self._reached = (0, 0), {}   # samples and steps of the last chunk, layers it has got to
        self._graphs, self._prepared = None, None    # see graphs.py; a chunk that is there already

    # ---- layers ----

    def layer(self, slot, neurons, synapses, intrinsic):
        def reached(weights):
            self._reached[slot] = (weights.w.shape, weights.pattern.source.size, weights.w.dtype.itemsize)

        if self._membranes.get(slot, (None,))[0] is not intrinsic:    # that of the output is the same in every pass
            self._membranes[slot] = intrinsic, functools.cache(functools.partial(membrane_of, intrinsic))
        return Layer(self._patterns, reached, neurons, synapses, intrinsic, self._membranes[slot][1])

    def integrator(self, slot, neurons, windows, steps, w):
        return Integrator(neurons, windows, steps, w)

    def pack(self, batch, dtype, networks=1):
        packed, most = [], self.chunk * networks
        self._reached.clear()
        for first in range(0, len(batch), most):
            last = min(first + most, len(batch))
            self._batch = last - first, batch.steps
            spikes = chunks.pack(batch, first, last, dtype, self.dense, networks)
            packed.append(Chunk(spikes, to_device(batch.labels[first:last]), first, batch.steps))
        return packed

    def chunks(self, batches, dtype):
        return super().chunks(batches, dtype) if self._prepared is None else [self._prepared]

    @contextlib.contextmanager
    def prepared(self, chunk):
        """Let batches be this chunk while the block runs."""
        self._prepared = chunk
        try:
            yield
        finally:
            self._prepared = None

    def use_graphs(self):
        """Start passes as CUDA graphs, for a device that has passed the self-test."""
        from hrmas_sparse.engine.backends.cuda.graphs import Graphs
        self._graphs = Graphs(self)

    def repeated(self, function, requests):
        return function(requests) if self._graphs is None else self._graphs.run(function, requests)

    def judge(self, loss, psc, labels, tapes):
        judged = losses.judge(loss, psc, labels, [tape.count for tape in tapes])
        return super().judge(loss, psc, labels, tapes) if judged is None else judged

    def output(self, top, loss, chunk, received, tapes, backward, record):
        if not record and isinstance(top, Layer):
            judged = top.judged(loss, chunk.labels, received, tapes, backward)
            if judged is not None:
                return judged
        return super().output(top, loss, chunk, received, tapes, backward, record)

    def kept(self, array):
        return array     # no other chunk gets it

    def rows(self, arrays):
        return copies.rows(arrays)

    def unpack(self, opaque, size):
        return chunks.unpack(opaque, size)

    def map(self, function, items):
        try:
            return super().map(function, items)
        except MemoryError as error:  # CuPy's is one
            raise self._full() from error
        except Exception as error:    # Numba's says so only in its text
            if "OUT_OF_MEMORY" in str(error):
                raise self._full() from error
            raise

    def needed(self):
        """Bytes that the last chunk took, as far as it has got."""
        (samples, steps), layers = self._batch, [shape[1:] for shape, *_ in self._reached.values()]
        links = sum(count for _, count, _ in self._reached.values())
        itemsize, networks = max(((itemsize, shape[0]) for shape, _, itemsize in self._reached.values()),
                                 default=(4, 1))
        return simulation(samples, steps, layers, links, itemsize, networks)

    def _full(self):
        """The error to raise when the device's memory was not enough."""
        (samples, steps), layers = self._batch, [shape[2] for shape, *_ in self._reached.values()]
        free, total = memory_info()
        return InputError(
            f"the GPU's memory is full: {text(free)} of {text(total)} are free, a batch of {samples} samples and "
            f"{steps} steps needs about {text(self.needed())} for the layers reached so far, "
            f"{' and '.join(map(str, layers)) or 'none'} neurons. A smaller training.batch, fewer "
            "network.neurons or fewer seeds at once would do")

    # ---- arrays ----

    def to_device(self, array):
        return to_device(array)

    def to_host(self, array):
        return to_host(array)

    def fetch(self, arrays):
        flat = [to_device(array).reshape(-1).astype(np.float64, copy=False) for array in arrays]
        numbers = to_host(flat[0] if len(flat) == 1 else xp.concatenate(flat))
        ends = np.cumsum([array.size for array in arrays])[:-1]
        return [part.reshape(array.shape) for part, array in zip(np.split(numbers, ends), arrays)]

    def loader(self, events):
        if events is not self._resident[0]:  # several runs learn from the same
            size = sum(getattr(events, name).nbytes for name in EVENT_ARRAYS)
            if size >= RESIDENT * memory_info()[0]:
                return CarryingLoader(events)
            self._resident = events, Loader(DeviceEvents.of(events))
        return self._resident[1]

    def free_memory(self):
        return memory_info()[0]
