"""One layer of one chunk through all steps, in pieces that stay in the cache of one core.

A piece is a block of neurons through a span of steps. Links reach only so far, a neuron of step t needs
spikes of step t - 1 no farther away than the reach: so a block moves down by the reach at every step,

    step    block 0   block 1   block 2   block 3         reach = two columns
      0     000000    111111    222222    333333          every neuron a block needs was done
      1     0000    111111    222222    33333333          at the step before, by it or by blocks
      2     00    111111    222222    3333333333          to the left of it

and takes all steps of a span before the next block starts. Input currents and the effects from above are
made just before a block needs them, weight gradients as soon as all steps of their columns are there: so
going forward only v travels to main memory, going back only v comes from it. Links that reach across the
layer leave blocks nothing to do but one step at a time; the sums are those of whole arrays, in the same order.

Shapes: T steps, C senders, N neurons, P neurons of the layer above, L = LANES.
"""

from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.backends.cpu import LANES, step
from hrmas_sparse.engine.backends.cpu.bundles import Bundles, gather
from hrmas_sparse.engine.backends.cpu.chunks import Spikes
from hrmas_sparse.engine.backends.cpu.compile import jit
from hrmas_sparse.engine.backends.cpu.lanes import load_first, store_at
from hrmas_sparse.engine.backends.cpu.lists import COLUMNS, Lists, Tiles, Work, by_sample, by_sender, copy, pick_links
from hrmas_sparse.engine.backends.cpu.synapses import (
    dense,
    dense_gradient,
    event_gradients,
    feedforward,
    reach,
    scatter,
)

SPAN = 16
BLOCK = COLUMNS
PANEL = 4 * LANES       # receivers whose weights lie in the core's cache, 4 bytes each, up to some 4,000 senders
MANY = 1024             # senders from which on those of BLOCK receivers do not
ZERO = np.int64(0)  # for a literal 0 Numba would compile what it is handed to once more


class Signals(NamedTuple):
    """What a layer receives and sends, as :class:`hrmas_sparse.engine.backends.base.Tape` keeps it."""

    received: Spikes
    spikes: Spikes
    v: np.ndarray         # (T, N, L)
    silent: np.ndarray    # (T, N)
    psc: np.ndarray       # (T, N, L), or (0, N, L)


class Scratch(NamedTuple):
    """What :func:`backward` needs beside its arguments.

    state : zeroed (3, N, L): delta0 of the step after, E of the step after the span, zeros for v before step 0
    received, sent : lists of a span; work : of a span, see :class:`lists.Work`; delta : (BLOCK, L)
    bundles, tiles, sums : of the links, sums zeroed (tiles, L); panel : (T, 4, L) for dense input
    """

    state: np.ndarray
    received: Lists
    sent: Lists
    work: Work
    delta: np.ndarray
    bundles: Bundles
    tiles: Tiles
    sums: np.ndarray
    panel: np.ndarray


def span_of(steps):
    """Steps of a span: enough that a sender's spikes make a list worth starting, few enough for the cache."""
    return min(steps, SPAN)


@jit
def _spikes(spikes, first, last):
    """Spikes of a span; what is empty stays empty."""
    return Spikes(spikes.mask[first:last], spikes.values[first:last])


@jit
def _part(tape, first, last):
    """The signals of a span."""
    return Signals(_spikes(tape.received, first, last), _spikes(tape.spikes, first, last), tape.v[first:last],
                   tape.silent[first:last], tape.psc[first:last])


@jit
def _row(array, t):
    """Where step t is in an array that is constant in time, (1, N, L), or not, (T, N, L)."""
    return min(t, array.shape[0] - 1)


@jit
def _within(place, neurons):
    return min(max(place, 0), neurons)


@jit
def _currents(synapses, received, lists, first, last, current, work):
    """Fill the current that neurons first to last receive from below, all steps of a span."""
    for column in range(first, last, COLUMNS):
        width = min(COLUMNS, last - column)
        if received.mask.size:
            feedforward(lists, synapses.w, column, column, width, current, work)
        else:
            dense(synapses.w.T[column:column + width], received.values, current[:, column:column + width])


@jit
def all_currents(synapses, received, lists, current, work):
    """Fill the current a layer receives from below, all steps as one span."""
    by_sample(received, lists)
    _currents(synapses, received, lists, 0, current.shape[1], current, work)


@jit
def panel_currents(synapses, received, lists, panel, current, work):
    """As :func:`all_currents`, where the weights of ``BLOCK`` receivers do not fit the cache of one core.

    panel : scratch (C, PANEL), for the weights of few receivers, close together
    """
    by_sample(received, lists)
    w, width = synapses.w, panel.shape[1]
    for first in range(0, w.shape[1], width):
        there = min(width, w.shape[1] - first)
        for c in range(w.shape[0]):
            for n in range(0, there, LANES):
                store_at(panel, c, n, load_first(w, c, first + n, min(LANES, there - n)))
        feedforward(lists, panel, 0, first, there, current, work)


@jit
def _prepare(synapses, signals, first, part, wanted, ready, far, lists, work, given):
    """Make the currents of a span ready up to ``wanted`` neurons: from below, and along links from the span before.

    Returns the number of neurons ready; what comes from below may be ``given``. A sender's turn comes when all its
    receivers have their input from below.
    """
    neurons = part.v.shape[1]
    if ready >= min(wanted, neurons):
        return ready
    last = _within(-(-wanted // COLUMNS) * COLUMNS, neurons)
    if not given:
        _currents(synapses, part.received, lists, ready, last, part.v, work)
    if first > 0:
        scatter(synapses.links, signals.spikes, first - 1, _within(ready - far, neurons) if ready else 0,
                _within(last - far, neurons) if last < neurons else neurons, part.v[0])
    return last


@jit
def forward(k, membrane, synapses, signals, state, lists, work, span, given):
    """Run a layer (mathematics 1); fills the signals.

    state zeroed (3, N, L), lists and work of a span for spikes received; given: v holds the current from below already.
    """
    steps, neurons, _ = signals.v.shape
    far = reach(synapses.links)
    for first in range(0, steps, span):
        part, ready = _part(signals, first, min(first + span, steps)), ZERO
        if not given:
            by_sample(part.received, lists)
        for start in range(0, neurons + far * (part.v.shape[0] - 1), BLOCK):
            ready = _prepare(synapses, signals, first, part, start + BLOCK + 2 * far, ready, far, lists, work,
                             given)
            for t in range(part.v.shape[0]):
                low, high = _within(start - far * t, neurons), _within(start + BLOCK - far * t, neurons)
                if low == high:
                    continue
                inv_tau, gain = membrane.inv_tau, membrane.gain
                step.forward(k, inv_tau[_row(inv_tau, first + t), low:high], gain[_row(gain, first + t), low:high],
                             part.v[t, low:high], part.spikes.mask[t, low:high], part.silent[t, low:high],
                             state[0, low:high], state[1, low:high], state[2, low:high])
                _send(synapses.links, part, t, low, high, state[2])


@jit
def _send(links, part, t, low, high, psc):
    """What follows a step of neurons low to high: their spikes travel to the next one, their psc is kept."""
    if t + 1 < part.v.shape[0]:
        scatter(links, part.spikes, t, low, high, part.v[t + 1])
    if part.psc.shape[0]:
        copy(psc, low, part.psc[t], low, high - low)


@jit
def forward_plastic(k, p, intrinsic, synapses, signals, trajectory, state, lists, work, span, given):
    """As :func:`forward` with SpiKL-IP (mathematics 8); intrinsic (2, N, L): each lane's R and tau, adapted in place.

    trajectory (2, T, N, L) to keep the R and tau of each step, or (2, 0, N, L); state zeroed (4, N, L).
    """
    steps, neurons, _ = signals.v.shape
    far = reach(synapses.links)
    for first in range(0, steps, span):
        part, ready = _part(signals, first, min(first + span, steps)), ZERO
        if not given:
            by_sample(part.received, lists)
        for start in range(0, neurons + far * (part.v.shape[0] - 1), BLOCK):
            ready = _prepare(synapses, signals, first, part, start + BLOCK + 2 * far, ready, far, lists, work,
                             given)
            for t in range(part.v.shape[0]):
                low, high = _within(start - far * t, neurons), _within(start + BLOCK - far * t, neurons)
                if low == high:
                    continue
                if trajectory.shape[1]:
                    for i in range(2):
                        copy(intrinsic[i], low, trajectory[i, first + t], low, high - low)
                step.forward_plastic(k, p, intrinsic[0, low:high], intrinsic[1, low:high], part.v[t, low:high],
                                     part.spikes.mask[t, low:high], part.silent[t, low:high], state[0, low:high],
                                     state[1, low:high], state[2, low:high], state[3, low:high])
                _send(synapses.links, part, t, low, high, state[2])


@jit
def backward(k, membrane, synapses, signals, above, gradients, errors, delta, scratch, span, through_time):
    """Run TSSL-BP back through a layer and add its weight gradients (mathematics 5, 6), or by surrogate gradient.

    above : w (N, P) and E (T, P, L) of the layer above; w empty: errors (T, N, L) hold A already
    gradients : dw (C, N) or empty, dlinks (nnz,), added to
    errors : becomes E; (T, N, L), or (span, N, L) where nobody below needs it and the input is sparse
    delta : (T, N, L) to keep the errors at v, or (0, N, L)
    scratch : see :class:`Scratch`
    """
    steps, neurons, _ = signals.v.shape
    far = reach(synapses.links)
    for first in range((steps - 1) // span * span, -1, -span):
        last = min(first + span, steps)
        error = errors[first:last] if errors.shape[0] == steps else errors[:last - first]
        if last < steps:  # the first step of the span after this one, before it is written over
            copy(errors[last] if errors.shape[0] == steps else errors[0], 0, scratch.state[1], 0, neurons)
        _list(signals.received, signals.spikes, first, last, gradients.dw, scratch)
        done = ZERO
        for start in range(0, neurons + far * (last - first - 1), BLOCK):
            if above.w.size and start < neurons:
                block = slice(start, min(start + BLOCK, neurons))
                dense(above.w[block], above.errors[first:last], error[:, block])
            for t in range(last - 1, first - 1, -1):
                shift = far * (last - 1 - t)
                low, high = _within(start - shift, neurons), _within(start + BLOCK - shift, neurons)
                if low < high:
                    _step_back(k, membrane, synapses.links, signals.v, signals.silent, t, low, high, far,
                               error[t - first:], delta, scratch, through_time)
            ready = _within(start + BLOCK - far * (last - first - 1), neurons)
            done = _by_events(signals.received, error, gradients.dw, done, ready, scratch)
    _finish(signals.received, synapses.links, errors, gradients, scratch)


@jit
def _step_back(k, membrane, links, v, silent, t, low, high, far, error, delta, scratch, through_time):
    """Step t of neurons low to high; error: the span's, from step t on."""
    state, delta_now = scratch.state, scratch.delta[:high - low]
    after = error[1] if error.shape[0] > 1 else state[1]
    if links.data.size:
        gather(scratch.bundles, low, high, after, error[0])
    v_before = v[t - 1] if t > 0 else state[2]
    inv_tau, gain = membrane.inv_tau, membrane.gain
    v_soon = v[max(t - 2, 0), max(low - far, 0):]  # only asked for, never read
    if through_time:
        step.backward_through_time(k, inv_tau[_row(inv_tau, t + 1), low:high], gain[_row(gain, t), low:high],
                                   v[t, low:high], error[0, low:high], delta_now, state[0, low:high],
                                   after[low:high])
    else:
        step.backward(k, inv_tau[_row(inv_tau, t + 1), low:high], gain[_row(gain, t), low:high], v_before[low:high],
                      v[t, low:high], v_soon, silent[t, low:high], error[0, low:high], delta_now, state[0, low:high],
                      after[low:high])
    if delta.shape[0]:
        copy(delta_now, 0, delta[t], low, high - low)


@jit
def weight_gradients(received, sent, links, errors, gradients, scratch):
    """Add the weight gradients of a layer whose errors are known, all steps as one span (mathematics 6)."""
    _list(received, sent, 0, errors.shape[0], gradients.dw, scratch)
    _by_events(received, errors, gradients.dw, 0, errors.shape[1], scratch)
    _finish(received, links, errors, gradients, scratch)


@jit
def _list(received, sent, first, last, dw, scratch):
    """List the spikes that meet the errors of a span: those received, and those sent the step before."""
    if dw.size:
        by_sender(_spikes(received, first, last), ZERO, scratch.received)
    if scratch.sums.size:
        start = max(first, 1)
        by_sender(_spikes(sent, start - 1, last - 1), start - first, scratch.sent)


@jit
def _by_events(received, errors, dw, first, ready, scratch):
    """What listed spikes add, of neurons from ``first`` to ``ready``, whole panels only; returns how far it came."""
    if not received.mask.size:
        dw = dw[:0]
    if not dw.size and not scratch.sums.size:
        return ready
    neurons = errors.shape[1]
    while first < ready and (first + COLUMNS <= ready or ready == neurons):
        width = min(COLUMNS, neurons - first)
        event_gradients(scratch.received, scratch.sent, first, width, errors, dw, scratch.tiles, scratch.sums,
                        scratch.work)
        first += width
    return first


@jit
def _finish(received, links, errors, gradients, scratch):
    """What is added once, when the errors of all steps are known."""
    if scratch.sums.size:
        pick_links(links, scratch.tiles, scratch.sums, gradients.dlinks)
    if gradients.dw.size and not received.mask.size:
        dense_gradient(received.values, errors, gradients.dw, scratch.panel)
