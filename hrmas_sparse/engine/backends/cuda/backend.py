"""The CUDA backend: a whole batch in one launch per layer and direction, kernels compiled by Numba, GEMMs by CuPy.

Needs a GPU and both packages, or the CUDA simulator; see :mod:`.probe`.
"""

from typing import NamedTuple

import numpy as np

from hrmas_sparse.storage import memory
from hrmas_sparse.engine.backends.base import (
    EVALUATION_BATCH, Above, Chunk, Gradients, Intrinsic, Plastic, Synapses, Tape)
from hrmas_sparse.engine.backends.cuda import (
    RESIDENT, TOGETHER, chunks, dynamics, geometry, links, smooth, synapses as kernels)
from hrmas_sparse.engine.backends.cuda.arrays import add, memory_info, to_device, to_host, xp
from hrmas_sparse.engine.backends.cuda.carried import Carried
from hrmas_sparse.engine.backends.cuda.footprint import simulation
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.events import EVENT_ARRAYS

SAMPLES = EVALUATION_BATCH  # of a chunk: as many as are evaluated together, so that a batch is one chunk


class Weights(NamedTuple):
    """The weights of one layer on the device."""

    w: object           # (M, C, N) feedforward
    pattern: object     # links.Pattern
    incoming: object    # (M, K, N) weights of the links, as a neuron receives by them
    outgoing: object    # (M, K, N) as it sends
    recurrent: bool


class CudaBackend:
    """See :class:`hrmas_sparse.engine.backends.base.Backend`."""

    name = "cuda"
    notice = ""
    threads = 1

    def __init__(self):
        self._patterns = links.Patterns()
        self._weights = {}
        self._resident = None, None
        self._batch = 0, 0  # samples and steps of the last chunk

    def to_device(self, array):
        return to_device(array)

    def to_host(self, array):
        return to_host(array)

    def fetch(self, arrays):
        numbers = to_host(xp.concatenate([to_device(array).reshape(-1).astype(np.float64) for array in arrays]))
        ends = np.cumsum([array.size for array in arrays])[:-1]
        return [part.reshape(array.shape) for part, array in zip(np.split(numbers, ends), arrays)]

    def together(self, samples):
        return max(1, TOGETHER // samples) if samples <= SAMPLES else 1

    def row_sums(self, rows, count):
        order = np.argsort(rows, kind="stable")
        start = to_device(np.searchsorted(rows[order], np.arange(count + 1)))
        order = to_device(order)

        def sums(values):
            found = xp.empty(count, np.float64)
            kernels.sum_rows[geometry.flat(count)](start, order, values, found)
            return found

        return sums

    def free_memory(self):
        return memory_info()[0]

    def resident(self, events):
        if events is not self._resident[0]:  # several runs learn from the same
            size = sum(getattr(events, name).nbytes for name in EVENT_ARRAYS)
            if size >= RESIDENT * memory_info()[0]:
                return Carried.of(events)
            self._resident = events, chunks.Resident.of(events)
        return self._resident[1]

    def ahead(self, events, index):
        if isinstance(events, Carried):
            events.ahead(index)

    def map(self, function, items):
        try:
            return [function(item) for item in items]
        except MemoryError as error:  # CuPy's is one
            raise self._full() from error
        except Exception as error:    # Numba's says so only in its text
            if "OUT_OF_MEMORY" in str(error):
                raise self._full() from error
            raise

    def _full(self):
        """What to say when the device's memory was not enough."""
        reached = [weights for _, weights in self._weights.values()]
        layers = [weights.w.shape[1:] for weights in reached]
        links = sum(weights.pattern.source.size for weights in reached)
        itemsize, networks = max(((w.w.dtype.itemsize, len(w.w)) for w in reached), default=(4, 1))
        needed = simulation(*self._batch, layers, links, itemsize, networks)
        free, total = memory_info()
        samples, steps = self._batch
        return InputError(
            f"the GPU's memory is full: {memory.text(free)} of {memory.text(total)} are free, a batch of {samples} "
            f"samples and {steps} steps needs about {memory.text(needed)} for the layers reached so far, "
            f"{' and '.join(str(n) for _, n in layers) or 'none'} neurons. A smaller training.batch, fewer "
            "network.neurons or fewer seeds at once would do")

    def form(self, events):
        return chunks.is_dense(events)

    def pack(self, events, dtype, networks=1):
        found = []
        self._weights.clear()
        most = SAMPLES * networks
        for first in range(0, len(events), most):
            last = min(first + most, len(events))
            self._batch = last - first, events.steps
            spikes = chunks.pack(events, first, last, dtype, networks)
            found.append(Chunk(spikes, to_device(events.labels[first:last]), first, events.steps))
        return found

    def unpack(self, array, size):
        return to_host(array[..., :size, :, :])

    def psc(self, tape, size):
        return tape.psc

    def unpack_spikes(self, spikes, size):
        return chunks.unpack_spikes(spikes)[:size]

    def count(self, spikes, size, networks=1):
        if isinstance(spikes, chunks.Values):
            return spikes.values[:size].reshape(networks, -1).sum(axis=1)
        bits = xp.unpackbits(spikes.words[:size].view(np.uint8))
        return bits.reshape(networks, -1).sum(axis=1, dtype=np.int64)

    def intrinsic(self, R, tau, chunk):
        R, tau = to_device(R), to_device(tau)
        return Intrinsic(_rows(1 / tau, chunk), _rows(R / tau, chunk))

    def trajectory(self, plastic):
        R, tau = plastic.trajectory
        return Intrinsic(1 / tau, R / tau)

    def forward(self, k, synapses, intrinsic, received, slot, keep_psc=False):
        weights, tape, grid, block, per = self._prepare(synapses, received, slot, keep_psc)
        run = dynamics.forward(per, weights.recurrent)[grid, block, 0, _bits(tape.v, weights)]
        run(k, *intrinsic, *weights.pattern.incoming[:2], weights.incoming, tape.v, tape.spikes.words, tape.silent,
            _kept(tape.psc, keep_psc), keep_psc)
        return tape

    def forward_plastic(self, k, p, synapses, R, tau, received, slot, size, keep_trajectory=False):
        weights, tape, grid, block, per = self._prepare(synapses, received, slot, False)
        samples, steps, neurons = tape.v.shape
        own, sums = (xp.empty((2, rows, neurons), tape.v.dtype) for rows in (samples, R.size // neurons))
        for values, given in zip(own, (R, tau)):
            given = to_device(given).reshape(-1, 1, neurons)  # its network's, for each sample
            values.reshape(len(given), -1, neurons)[:] = given
        trajectory = xp.empty((2, samples, steps if keep_trajectory else 0, neurons), tape.v.dtype)
        run = dynamics.forward_plastic(per, weights.recurrent)[grid, block, 0, _bits(tape.v, weights)]
        run(k, p, own, *weights.pattern.incoming[:2], weights.incoming, tape.v, tape.spikes.words, tape.silent,
            _kept(trajectory, keep_trajectory), keep_trajectory)
        for values, total in zip(own, sums):
            kernels.sum_samples[geometry.over(len(total), neurons)](values, total)
        return tape, Plastic(sums[0].reshape(R.shape), sums[1].reshape(R.shape), trajectory)

    def effect_of_output(self, k, tape, psc_gradient, slot):
        effect = to_device(psc_gradient).astype(tape.v.dtype)
        samples, _, neurons = effect.shape
        dynamics.filter_back[geometry.over(samples, neurons)](k, effect)
        return Above(np.zeros((0, 0), tape.v.dtype), effect)

    def effect_below(self, w, errors, slot):
        w = to_device(w)
        w = w if w.ndim == 3 else w[None]
        networks, senders, receivers = w.shape
        effect = xp.matmul(errors.reshape(networks, -1, receivers), w.transpose(0, 2, 1))
        return effect.reshape(*errors.shape[:2], senders)

    def backward(self, k, synapses, intrinsic, tape, above, gradients, slot, keep_errors=True, keep_delta=False):
        weights = self._on_device(synapses, slot)
        samples, steps, neurons = tape.v.shape
        errors = self.effect_below(above.w, above.errors, slot) if above.w.size else above.errors
        delta = xp.empty((samples, steps if keep_delta else 0, neurons), errors.dtype)
        grid, block, per = geometry.layer(samples, neurons, weights.recurrent)
        room = neurons * errors.dtype.itemsize
        resident = weights.recurrent and room <= geometry.SHARED
        run = dynamics.backward(per, weights.recurrent, resident)[grid, block, 0, room if resident else 0]
        run(k, *intrinsic, *weights.pattern.outgoing[:2], weights.outgoing, tape.v, tape.silent, errors,
            _kept(delta, keep_delta), keep_delta)
        self.weight_gradients(tape, synapses, errors, gradients, slot)
        return errors if keep_errors else None, delta if keep_delta else None

    def zero_gradients(self, synapses, slot, feedforward=True):
        w, links = synapses.w, _listed(synapses.links)
        return Gradients(xp.zeros(w.shape if feedforward else (0, w.shape[-1]), w.dtype),
                         xp.zeros(sum(own.data.size for own in links), w.dtype))

    def weight_gradients(self, tape, synapses, errors, gradients, slot):
        weights = self._on_device(synapses, slot)
        if gradients.dw.size:
            add(gradients.dw, _feedforward_gradient(weights, tape.received, errors).reshape(gradients.dw.shape))
        if gradients.dlinks.size:
            add(gradients.dlinks, _links_gradient(weights, tape.spikes, errors))

    def forward_smooth(self, k, synapses, intrinsic, received, slot, keep_psc=False):
        weights, tape, _, _, _ = self._prepare(synapses, received, slot, keep_psc)
        grid, block, per = geometry.layer(tape.v.shape[0], tape.v.shape[2], True)
        spikes = chunks.Values(xp.empty_like(tape.v))
        smooth.forward_smooth(per)[grid, block](
            k, *intrinsic, *weights.pattern.incoming[:2], weights.incoming, tape.v, spikes.values,
            _kept(tape.psc, keep_psc), keep_psc)
        return tape._replace(spikes=spikes)

    def backward_smooth(self, k, synapses, intrinsic, tape, above, gradients, slot, keep_errors=True,
                        keep_delta=False):
        weights = self._on_device(synapses, slot)
        errors = self.effect_below(above.w, above.errors, slot) if above.w.size else above.errors
        grid, block, per = geometry.layer(errors.shape[0], errors.shape[2], True)
        smooth.backward_smooth(per)[grid, block](
            k, *intrinsic, *weights.pattern.outgoing[:2], weights.outgoing, tape.v, tape.spikes.values, errors)
        self.weight_gradients(tape, synapses, errors, gradients, slot)
        return errors, None

    def _on_device(self, synapses: Synapses, slot):
        """The :class:`Weights` of a layer, made once a pass: going back they are those of going forward."""
        known, weights = self._weights.get(slot, (None, None))
        if known is not synapses:
            own, w = _listed(synapses.links), to_device(synapses.w)
            pattern = self._patterns.of(own)
            weights = Weights(w.reshape(len(own), *w.shape[-2:]), pattern, links.weights(pattern.incoming, own),
                              links.weights(pattern.outgoing, own), any(each.data.size for each in own))
            self._weights[slot] = synapses, weights
        return weights

    def _prepare(self, synapses, received, slot, keep_psc):
        """The weights, a tape whose v holds the feedforward current, the launch's geometry."""
        weights = self._on_device(synapses, slot)
        v = _currents(weights, received)
        samples, steps, neurons = v.shape
        words = xp.empty((2, samples, -(-steps // 32), neurons), np.uint32)
        psc = xp.empty((samples if keep_psc else 0, steps, neurons), v.dtype)
        tape = Tape(received, chunks.Bits(words[0], steps), v, words[1], psc)
        return weights, tape, *geometry.layer(samples, neurons, weights.recurrent)


def _listed(links):
    """The links of one network or of several, as a list."""
    return links if isinstance(links, list) else [links]


def _kept(array, keep):
    """An output, or what stands in for one that is not asked for: no kernel is given an array without memory."""
    return array if keep else xp.empty((1,) * array.ndim, array.dtype)


def _rows(values, chunk):
    """(N,), (T, N) or (B, T, N) as (1, 1, N), (1, T, N) or (b, T, N) on the device."""
    if values.ndim == 3:
        values = values[chunk.first:chunk.first + len(chunk.labels)]
    return to_device(values.reshape((1,) * (3 - values.ndim) + values.shape))


def _bits(v, weights):
    """Bytes of shared memory of a forward pass."""
    return 3 * 4 * (-(-v.shape[2] // 32)) if weights.recurrent else 0


def _currents(weights, received):
    """Feedforward current of every step, (S, T, N)."""
    networks, senders, neurons = weights.w.shape
    samples, steps, _ = received.shape
    if isinstance(received, chunks.EventRows):
        current = xp.empty((samples * steps, neurons), weights.w.dtype)
        kernels.feedforward[geometry.over(samples * steps, neurons)](
            received.row_start, received.channel, received.value, weights.w, current)
    else:
        sent = chunks.dense(received, weights.w.dtype)
        current = xp.matmul(sent.reshape(networks, -1, senders), weights.w)
    return current.reshape(samples, steps, neurons)


def _feedforward_gradient(weights, received, errors):
    """Gradient of w, (M, C, N)."""
    networks, senders, neurons = weights.w.shape
    if isinstance(received, chunks.EventRows):
        dw = xp.empty((networks * senders, neurons), errors.dtype)
        kernels.feedforward_gradient[geometry.over(networks * senders, neurons)](
            received.column_start, received.row, received.sent, errors.reshape(-1, neurons), dw)
        return dw.reshape(weights.w.shape)
    sent = chunks.dense(received, errors.dtype).reshape(networks, -1, senders)
    return xp.matmul(sent.transpose(0, 2, 1), errors.reshape(networks, -1, neurons))


def _links_gradient(weights, spikes, errors):
    """Gradient of the links' weights, (nnz,), of all networks one after another."""
    pattern = weights.pattern
    dlinks = xp.empty(pattern.source.shape, errors.dtype)
    run, sent = ((kernels.smooth_links_gradient, spikes.values) if isinstance(spikes, chunks.Values)
                 else (kernels.links_gradient, spikes.words))
    run[geometry.flat(dlinks.size)](pattern.source, pattern.target, pattern.network,
                                    len(errors) // len(weights.w), sent, errors, dlinks)
    return dlinks
