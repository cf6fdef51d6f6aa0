"""One layer of one chunk through all steps, a span of steps at a time.

A span is as many steps as fit in the cache of one core, so what one kernel leaves the next one finds
there: going forward only v travels to main memory, going back only v comes from it. The sums are those
of whole arrays, in the same order.

Shapes: T steps, C senders, N neurons, P neurons of the layer above, L = LANES.
"""

from hrmas_sparse.backends.base import Tape
from hrmas_sparse.backends.cpu import dynamics
from hrmas_sparse.backends.cpu.chunks import Spikes
from hrmas_sparse.backends.cpu.compile import jit
from hrmas_sparse.backends.cpu.lanes import LANES
from hrmas_sparse.backends.cpu.synapses import (
    dense, dense_gradient, feedforward, feedforward_gradient, links_gradient, scatter)

SPAN_BYTES = 1 << 19


def span_of(steps, neurons, dtype):
    """Steps of a layer's v that stay in the cache of one core beside what else is needed there."""
    return max(1, min(steps, SPAN_BYTES // (neurons * LANES * dtype.itemsize)))


@jit
def _spikes(spikes, first, last):
    """Spikes of a span; what is empty stays empty."""
    return Spikes(spikes.mask[first:last], spikes.values[first:last])


@jit
def _tape(tape, first, last):
    """What a span's kernels write and read of a tape."""
    return Tape(_spikes(tape.received, first, last), _spikes(tape.spikes, first, last), tape.v[first:last],
                tape.silent[first:last], tape.psc[first:last])


@jit
def _rows(array, first, last):
    """Rows of a span of an array that is constant in time, (1, N, L), or not, (T, N, L)."""
    return array if array.shape[0] == 1 else array[first:last]


@jit
def _currents(synapses, tape, first, part, rows):
    """Fill a span's v with the current it receives from below and, in its first step, along the links."""
    if part.received.mask.size:
        feedforward(part.received, synapses.w, part.v, rows)
    else:
        dense(synapses.w.T, part.received.values, part.v)
    if first > 0:
        scatter(synapses.links, tape.spikes, first - 1, part.v[0])


@jit
def forward(k, intrinsic, synapses, tape, state, rows, span):
    """Run a layer (SPEC 1); fills the tape. state zeroed (3, N, L), scratch rows (L, N)."""
    steps = tape.v.shape[0]
    for first in range(0, steps, span):
        last = min(first + span, steps)
        part = _tape(tape, first, last)
        _currents(synapses, tape, first, part, rows)
        dynamics.forward(k, _rows(intrinsic.inv_tau, first, last), _rows(intrinsic.gain, first, last), synapses.links,
                         part.v, part.spikes, part.silent, part.psc, state)


@jit
def forward_plastic(k, p, own, synapses, tape, trajectory, state, rows, span):
    """As :func:`forward` with SpiKL-IP (SPEC 8); own (2, N, L): each lane's R and tau, adapted in place.

    trajectory (2, T, N, L) to keep the R and tau of each step, or (2, 0, N, L); state zeroed (4, N, L).
    """
    steps = tape.v.shape[0]
    for first in range(0, steps, span):
        last = min(first + span, steps)
        part = _tape(tape, first, last)
        _currents(synapses, tape, first, part, rows)
        dynamics.forward_plastic(k, p, own[0], own[1], synapses.links, part.v, part.spikes, part.silent, part.psc,
                                 state, trajectory[:, first:last])


@jit
def backward(k, intrinsic, synapses, tape, above, gradients, errors, delta, scratch, span):
    """Run TSSL-BP back through a layer and add its weight gradients (SPEC 5, 6).

    above : w (N, P) and E (T, P, L) of the layer above; w empty: errors (T, N, L) hold A already
    gradients : dw (C, N) or empty, dlinks (nnz,), added to
    errors : becomes E; (T, N, L), or (span, N, L) where nobody below needs it and the input is sparse
    delta : (T, N, L) to keep the errors at v, or (0, N, L)
    scratch : state zeroed (4, N, L), rows (L, N), panel (T, 4, L)
    """
    steps, whole = tape.v.shape[0], errors.shape[0] == tape.v.shape[0]
    for first in range((steps - 1) // span * span, -1, -span):
        last = min(first + span, steps)
        part, error = _tape(tape, first, last), errors[first:last] if whole else errors[:last - first]
        if above.w.size:
            dense(above.w, above.errors[first:last], error)
        if first > 0:
            scratch.state[3] = tape.v[first - 1]
        else:
            scratch.state[3] = k.zero
        dynamics.backward(k, _rows(intrinsic.inv_tau, first, min(last + 1, steps)), _rows(intrinsic.gain, first, last),
                          synapses.links, part.v, part.silent, error, delta[first:last], scratch.state)
        if gradients.dw.size and part.received.mask.size:
            feedforward_gradient(part.received, error, gradients.dw, scratch.rows)
        if gradients.dlinks.size:
            start = max(first, 1)
            links_gradient(synapses.links, _spikes(tape.spikes, start - 1, last - 1), error[start - first:],
                           gradients.dlinks)
    if gradients.dw.size and not tape.received.mask.size:
        dense_gradient(tape.received.values, errors, gradients.dw, scratch.panel)
