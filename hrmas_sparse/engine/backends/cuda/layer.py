"""A layer on the GPU during one pass: its weights there, and every launch of its kernels.

Shapes: S samples, T steps, C senders, N neurons, K links of the neuron that has most, M networks of S/M samples each.
"""

import functools
from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.backends import base
from hrmas_sparse.engine.backends.base import Above, Gradients, Membrane, Plastic, Tape
from hrmas_sparse.engine.backends.cuda import chunks, intrinsic, launch, links, losses, output, smooth, step
from hrmas_sparse.engine.backends.cuda import synapses as kernels
from hrmas_sparse.engine.backends.cuda.arrays import filled, to_device, xp
from hrmas_sparse.engine.backends.cuda.products import product
from hrmas_sparse.storage.errors import InputError

COUNTED = 1 << 32   # numbers that an index of step.py reaches


class Weights(NamedTuple):
    """The weights of one layer on the device."""

    w: object           # (M, C, N) feedforward
    pattern: object     # links.Pattern
    incoming: object    # (M, K N) weights of the links, as a neuron receives by them
    outgoing: object    # (M, K N) as it sends
    recurrent: bool


class Layer(base.Layer):
    """See :class:`hrmas_sparse.engine.backends.base.Layer`.

    ``patterns`` are :class:`links.Patterns`; ``reached`` is a function (:class:`Weights`) that is told of the weights
    when they are put on the device, which is when the first chunk gets here; ``membrane`` gives 1/tau and R/tau.
    """

    def __init__(self, patterns, reached, neurons, synapses, intrinsic, membrane):
        self._patterns, self._reached, self._membrane = patterns, reached, membrane
        self._neurons, self._synapses, self._intrinsic = neurons, synapses, intrinsic

    @functools.cached_property
    def _weights(self):
        each, w = self._links, to_device(self._synapses.w)
        pattern = self._patterns.of(each)
        weights = Weights(w.reshape(len(each), *w.shape[-2:]), pattern, *links.weights(pattern, each),
                          any(network.data.size for network in each))
        self._reached(weights)
        return weights

    @property
    def _links(self):
        """The links of one network or of several, as a list."""
        given = self._synapses.links
        return given if isinstance(given, list) else [given]

    # ---- forward ----

    def forward(self, chunk, received, keep_psc=False, keep_trajectory=False):
        received = self._as_numbers(received)
        v = self._currents(received)
        samples, steps, neurons = v.shape
        if v.size >= COUNTED:
            raise InputError(f"a batch of {samples} samples, {steps} steps and {neurons} neurons is more than a kernel "
                             f"counts, {COUNTED - 1:,}: a smaller training.batch or fewer seeds at once would do")
        words = xp.empty((2, samples, -(-steps // 32), neurons), np.uint32)
        psc = xp.empty((samples if keep_psc else 0, steps, neurons), v.dtype)
        sent = xp.empty((samples, neurons), np.int32)  # by every neuron, until it is summed
        tape = Tape(received, chunks.Bits(words[0], steps), v, words[1], psc, None, None, sent)
        if self._neurons.p is not None:
            tape = tape._replace(plastic=self._run_plastic(tape, keep_trajectory))
        else:
            tape = tape._replace(membrane=Membrane(*(_rows(values, chunk) for values in self._membrane())))
            tape = (self._run_smooth if self._neurons.smooth else self._run)(tape, keep_psc)
        return tape

    def _as_numbers(self, received):
        """What is received, spikes of neurons as numbers: for two products, that of the weights' gradient too."""
        return chunks.Values(chunks.dense(received, self._weights.w.dtype)) if isinstance(
            received, chunks.Bits) else received

    def _currents(self, received):
        """Feedforward current of every step, (S, T, N)."""
        w = self._weights.w
        networks, senders, neurons = w.shape
        samples, steps, _ = received.shape
        if isinstance(received, chunks.EventRows):
            current = xp.empty((samples * steps, neurons), w.dtype)
            kernels.feedforward[launch.over(samples * steps, neurons)](
                received.row_start, received.channel, received.value, w, current)
        else:
            current = product(received.values.reshape(networks, -1, senders), w)
        return current.reshape(samples, steps, neurons)

    def _run(self, tape, keep_psc):
        grid, block, per, bits = self._geometry(tape)
        moving, membrane = _through_time(tape.membrane, tape.v.shape[1])
        step.forward(per, self._weights.recurrent, moving, False, keep_psc)[grid, block, 0, bits](
            self._neurons.k, self._neurons.k, *map(_flat, membrane), *self._senders, *map(_flat, (
                tape.v, tape.spikes.words, tape.silent, tape.count)), _kept(tape.psc, keep_psc).reshape(1, -1))
        return tape

    def _run_plastic(self, tape, keep_trajectory):
        R, tau = map(to_device, self._intrinsic)
        samples, steps, neurons = tape.v.shape
        grid, block, per, bits = self._geometry(tape)
        adapted, sums = (xp.empty((2, rows, neurons), tape.v.dtype) for rows in (samples, R.size // neurons))
        for values, given in zip(adapted, (R, tau)):
            given = given.reshape(-1, 1, neurons)  # its network's, for each sample
            values.reshape(len(given), -1, neurons)[:] = given
        trajectory = xp.empty((2, samples, steps if keep_trajectory else 0, neurons), tape.v.dtype)
        kept = _kept(trajectory, keep_trajectory)
        step.forward(per, self._weights.recurrent, False, True, keep_trajectory)[grid, block, 0, bits](
            self._neurons.k, self._neurons.p, *map(_flat, (adapted[1], adapted[0])), *self._senders, *map(_flat, (
                tape.v, tape.spikes.words, tape.silent, tape.count)), kept.reshape(len(kept), -1))
        for values, total in zip(adapted, sums):
            kernels.sum_samples[launch.over(len(total), neurons)](values, total)
        return Plastic(sums[0].reshape(R.shape), sums[1].reshape(R.shape), trajectory)

    def _run_smooth(self, tape, keep_psc):
        grid, block, per = launch.layer(tape.v.shape[0], tape.v.shape[2], True)
        spikes = chunks.Values(xp.empty_like(tape.v))
        smooth.forward(per)[grid, block](
            self._neurons.k, *tape.membrane, *self._incoming, tape.v, spikes.values, _kept(tape.psc, keep_psc),
            keep_psc)
        return tape._replace(spikes=spikes, count=spikes.values)

    def _geometry(self, tape):
        """Grid, block, neurons a thread and bytes of shared memory of a forward pass."""
        samples, _, neurons = tape.v.shape
        recurrent = self._weights.recurrent
        return *launch.layer(samples, neurons, recurrent), 3 * 4 * (-(-neurons // 32)) if recurrent else 0

    @property
    def _senders(self):
        """The links as :func:`step.forward` takes them."""
        entries, size = self._weights.pattern.senders
        return _flat(entries), size, _flat(self._weights.incoming), self._weights.incoming.shape[1]

    @property
    def _incoming(self):
        """The links as :func:`smooth.forward` takes them."""
        degree, others, _ = self._weights.pattern.incoming
        return degree, _flat(others), _flat(self._weights.incoming)

    @property
    def _outgoing(self):
        """The links as :func:`step.backward` takes them."""
        degree, others, _ = self._weights.pattern.outgoing
        return degree, _flat(others), _flat(self._weights.outgoing)

    def psc(self, tape, chunk):
        return tape.psc

    # ---- as an output layer, in one launch ----

    def judged(self, loss, labels, received, tapes, backward):
        """Run forward, the loss and, if wanted, back: what Backend.output gives, errors in place of the gradient.

        None where the kernel is not for this layer or loss. A tape made here has no ``silent``.
        """
        run, sent = losses.known(loss), [tape.count for tape in tapes]
        w, neurons = self._weights.w, self._neurons
        if (run is None or neurons.smooth or self._weights.recurrent or w.shape[-1] > output.MOST
                or any(count.dtype != np.int32 for count in sent)):
            return None
        received = self._as_numbers(received)
        v = self._currents(received)
        psc, errors = xp.empty_like(v), xp.empty_like(v)
        own = xp.empty((v.shape[0], v.shape[2]), np.int32)
        sent = *sent, own
        numbers = xp.empty((len(v), 1 + v.shape[2] + len(sent)), np.float64)
        of_loss, first, second = run
        output.output(of_loss, backward, neurons.through_time)[len(v), launch.TILE, 0, 8 * launch.TILE](
            neurons.k, *self._membrane(), labels, first, second, sent, v, psc, numbers, errors)
        return Tape(received, None, v, None, psc, None, None, own), numbers, errors

    # ---- backward ----

    def effect_of_loss(self, tape, psc_gradient):
        if tape.silent is None:    # errors already
            return Above(np.zeros((0, 0), tape.v.dtype), psc_gradient)
        effect = to_device(psc_gradient).astype(tape.v.dtype, copy=False)
        samples, _, neurons = effect.shape
        step.filter_back[launch.over(samples, neurons)](self._neurons.k, effect)
        return Above(np.zeros((0, 0), tape.v.dtype), effect)

    def effect_below(self, errors):
        return _effect(Above(self._synapses.w, errors))

    def backward(self, tape, above, gradients, keep_errors=True, keep_delta=False):
        if tape.silent is None:
            self.weight_gradients(tape, above.errors, gradients)
            return Above(self._synapses.w, above.errors) if keep_errors else None, None
        membrane, errors = tape.membrane, _effect(above) if above.w.size else above.errors
        if tape.plastic is not None:
            membrane = membrane_of(tape.plastic.trajectory)
        back = self._back_smooth if self._neurons.smooth else self._back
        delta = back(tape, membrane, errors, keep_delta)
        self.weight_gradients(tape, errors, gradients)
        return Above(self._synapses.w, errors) if keep_errors else None, delta

    def _back(self, tape, membrane, errors, keep_delta):
        """Turn A into E, in place; returns delta if kept."""
        samples, steps, neurons = errors.shape
        recurrent = self._weights.recurrent
        delta = xp.empty((samples, steps if keep_delta else 0, neurons), errors.dtype)
        grid, block, per = launch.layer(samples, neurons, recurrent)
        room = 2 * neurons * errors.dtype.itemsize
        resident = recurrent and room <= launch.SHARED
        moving, membrane = _through_time(membrane, steps)
        kernel = step.backward(per, recurrent, resident, moving, keep_delta, self._neurons.through_time)
        kernel[grid, block, 0, room if resident else 0](
            self._neurons.k, *map(_flat, membrane), *self._outgoing, *map(_flat, (
                tape.v, tape.silent, errors, _kept(delta, keep_delta))))
        return delta if keep_delta else None

    def _back_smooth(self, tape, membrane, errors, keep_delta):
        """As :meth:`_back`."""
        delta = xp.empty((len(errors), errors.shape[1] if keep_delta else 0, errors.shape[2]), errors.dtype)
        grid, block, per = launch.layer(errors.shape[0], errors.shape[2], True)
        smooth.backward(per)[grid, block](
            self._neurons.k, *membrane, *self._outgoing, tape.v, tape.spikes.values, errors,
            _kept(delta, keep_delta), keep_delta)
        return delta if keep_delta else None

    def intrinsic_gradients(self, tape, delta):
        samples, _, neurons = delta.shape
        shares = xp.empty((samples, 2, neurons), delta.dtype)
        result = xp.empty((len(self._links), 2 * neurons), delta.dtype)
        intrinsic.sums(self._neurons.smooth)[launch.over(samples, neurons)](
            self._neurons.k, tape.membrane.inv_tau, tape.v, tape.spikes.values if self._neurons.smooth else tape.v,
            delta, shares)
        kernels.sum_samples[launch.over(len(result), 2 * neurons)](shares.reshape(samples, -1), result)
        return result.reshape(-1, 2, neurons)

    def room_for_gradients(self, feedforward=True):
        w = self._synapses.w
        return Gradients(xp.empty(w.shape if feedforward else (0, w.shape[-1]), w.dtype),
                         xp.empty(sum(network.data.size for network in self._links), w.dtype))

    def weight_gradients(self, tape, errors, gradients):
        with filled(gradients.dw, errors) as dw:
            if dw.size:
                self._feedforward_gradient(tape.received, errors, dw)
        with filled(gradients.dlinks, errors) as dlinks:
            if dlinks.size:
                self._links_gradient(tape.spikes, errors, dlinks)

    def _feedforward_gradient(self, received, errors, dw):
        """Gradient of w."""
        networks, senders, neurons = self._weights.w.shape
        if isinstance(received, chunks.EventRows):
            kernels.feedforward_gradient[launch.over(networks * senders, neurons)](
                received.column_start, received.row, received.sent, errors.reshape(-1, neurons),
                dw.reshape(-1, neurons))
            return
        sent = chunks.dense(received, errors.dtype).reshape(networks, -1, senders)
        product(sent, errors.reshape(networks, -1, neurons), transpose_a=True, out=dw.reshape(self._weights.w.shape))

    def _links_gradient(self, spikes, errors, dlinks):
        """Gradient of the links' weights, of all networks one after another."""
        pattern, (_, steps, neurons) = self._weights.pattern, errors.shape
        samples, smooth_spikes = len(errors) // len(self._weights.w), isinstance(spikes, chunks.Values)
        blocks, width, parts, lanes = launch.links(dlinks.size, samples)
        kernels.links_gradient(smooth_spikes)[blocks, width, 0, parts * lanes * errors.dtype.itemsize](
            pattern.source, pattern.target, pattern.network, samples, parts, lanes, steps, neurons,
            _flat(spikes.values if smooth_spikes else spikes.words), _flat(errors), dlinks)


def membrane_of(intrinsic):
    """1/tau and R/tau from R and tau, in one launch where both are of a kind."""
    R, tau = map(to_device, intrinsic)
    if R.shape != tau.shape:
        return Membrane(1 / tau, R / tau)
    membrane = Membrane(xp.empty_like(tau), xp.empty_like(tau))
    kernels.membrane[launch.flat(tau.size)](*(array.reshape(-1) for array in (R, tau, *membrane)))
    return membrane


def _effect(above):
    """A of the layer that ``above`` is above of, (S, T, N)."""
    w = to_device(above.w)
    w = w if w.ndim == 3 else w[None]
    networks, senders, receivers = w.shape
    effect = product(above.errors.reshape(networks, -1, receivers), w, transpose_b=True)
    return effect.reshape(*above.errors.shape[:2], senders)


def _flat(array):
    """As the kernels of step.py take arrays."""
    return array.reshape(-1)


def _through_time(membrane, steps):
    """Whether 1/tau or R/tau (., 1 or T, N) change with time; and both, (., T, N) if so."""
    moving = any(values.shape[1] > 1 for values in membrane)
    if not moving:
        return False, membrane
    return True, [values if values.shape[1] == steps else
                  xp.broadcast_to(values, (len(values), steps, values.shape[2])).copy() for values in membrane]


def _kept(array, keep):
    """An output, or what stands in for one that is not asked for: no kernel is given an array without memory."""
    return array if keep else xp.empty((1,) * array.ndim, array.dtype)


def _rows(values, chunk):
    """(N,), (T, N) or (B, T, N) as (1, 1, N), (1, T, N) or (b, T, N)."""
    if values.ndim == 3:
        values = values[chunk.first:chunk.first + chunk.size]
    return to_device(values.reshape((1,) * (3 - values.ndim) + values.shape))
