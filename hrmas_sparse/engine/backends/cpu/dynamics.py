"""Neurons of one chunk: forward, forward with intrinsic plasticity, backward, a step of some neurons at a time.

A step is one flat loop over neurons and lanes, which LLVM vectorises; all formulas are neuron.py's. Which
neurons run through which steps in what order is layer.py's business; the smooth variant, for checks only,
runs whole layers through all steps.

Shapes: T steps, N neurons, L = LANES samples. In the smooth variant ``inv_tau`` and ``gain`` (R/tau) are
(1, N, L) where they are constant in time, else (T, N, L).
"""

from numba import uint16

from hrmas_sparse.engine.backends.cpu.compile import (
    after_reset, calcium, expm1_small, filtered, fires, jit, logistic, logistic_slope, membrane,
    plastic_resistance, plastic_time_constant, smooth_error, surrogate_error, timing_error)
from hrmas_sparse.engine.backends.cpu.lanes import bits_above, bits_to_lanes, fetch, flat, load, store
from hrmas_sparse.engine.backends.cpu.lists import copy
from hrmas_sparse.engine.backends.cpu.synapses import gather, scatter


@jit
def _pack(k, v, psc, spikes, silent):
    """Store as bits, one word a neuron, which lanes spiked and which have been silent lately."""
    for n in range(v.shape[0]):
        spikes[n] = bits_above(load(v, n), k.v_th)
        silent[n] = uint16(~bits_above(load(psc, n), k.below_silent))


@jit
def forward(k, leak, drive, now, spikes, silent, c, u, a):
    """Run some neurons through one step (mathematics 1); N of them.

    leak, drive : (N, L), 1/tau and R/tau
    now : (N, L), holds the current received and becomes the membrane potential before reset
    spikes, silent : outputs, (N,) bit masks (silent: psc < 1/4, the gate of mathematics 5)
    c, u, a : state, (N, L): filtered current, membrane potential after reset, psc
    """
    _forward(k, flat(leak), flat(drive), flat(now), flat(c), flat(u), flat(a))
    _pack(k, now, a, spikes, silent)


@jit
def _forward(k, leak, drive, now, c, u, a):
    for j in range(now.size):
        c[j] = filtered(k, c[j], now[j])
        now[j] = membrane(k, leak[j], drive[j], u[j], c[j])
        spike = k.one if fires(k, now[j]) else k.zero
        u[j] = after_reset(k, now[j], spike)
        a[j] = filtered(k, a[j], spike)


@jit
def forward_plastic(k, p, R, tau, now, spikes, silent, c, u, a, phi):
    """As :func:`forward`, while SpiKL-IP adapts R and tau of every neuron and lane (mathematics 8).

    R, tau : (N, L), adapted in place, each lane its own copy
    phi : state, (N, L): calcium
    """
    _forward_plastic(k, p, flat(R), flat(tau), flat(now), flat(c), flat(u),
                     flat(a), flat(phi))
    _pack(k, now, a, spikes, silent)


@jit
def _forward_plastic(k, p, r, tau, now, c, u, a, phi):
    for j in range(now.size):
        r_old, tau_old = r[j], tau[j]
        inv_tau = k.one / tau_old
        c[j] = filtered(k, c[j], now[j])
        now[j] = membrane(k, inv_tau, r_old * inv_tau, u[j], c[j])
        spike = k.one if fires(k, now[j]) else k.zero
        u[j] = after_reset(k, now[j], spike)
        a[j] = filtered(k, a[j], spike)
        phi[j] = calcium(p, phi[j], spike)
        y = phi[j] * p.inv_tau_cal
        excess = p.v_th / expm1_small(p.one / max(tau_old * y, p.rate_floor))
        r[j] = plastic_resistance(p, r_old, tau_old, y, excess)
        tau[j] = plastic_time_constant(p, tau_old, y)


@jit
def backward(k, leak_next, drive, last, now, next_v, silent, error, found, carried, beyond):
    """Run TSSL-BP one step back through some neurons (mathematics 5, 6).

    leak_next, drive : (N, L), 1/tau of the step after and R/tau of this one
    last, now : (N, L), v of the step before, zeros at the first, and of this one
    next_v : (N, L), what the next call will ask for as ``last``, on its way from memory meanwhile
    silent : (N,) as left by forward
    error : (N, L), holds the effect A of each spike, through the layers above and the links, and becomes E,
        the filtered error
    found : (N, L), becomes delta, the error at v
    carried, beyond : state, (N, L): delta0 and E of the step after
    """
    for n in range(silent.size):
        store(found, n, bits_to_lanes(silent[n], k.one))
        fetch(next_v, n)
    _backward(k, flat(leak_next), flat(drive), flat(last), flat(now), flat(error),
              flat(found), flat(carried), flat(beyond))


@jit
def _backward(k, leak_next, drive, last, now, error, gate, carried, beyond):
    for j in range(error.size):
        u_before = k.zero if fires(k, last[j]) else last[j]
        base = timing_error(k, now[j], u_before, leak_next[j], error[j], carried[j])
        slope = logistic_slope((now[j] - k.v_th) * k.inv_width)
        found = surrogate_error(k, error[j], slope) if gate[j] > k.zero else base
        carried[j] = base
        beyond[j] = filtered(k, beyond[j], drive[j] * found)
        error[j] = beyond[j]
        gate[j] = found


@jit
def filter_back(k, psc_gradient):
    """A[t] = g[t] + decay_s A[t+1], in place: from dL/da of the output layer to the effect of a spike."""
    for t in range(psc_gradient.shape[0] - 2, -1, -1):
        later, now = psc_gradient[t + 1].reshape(-1), psc_gradient[t].reshape(-1)
        for j in range(now.size):
            now[j] = filtered(k, later[j], now[j])


@jit
def forward_smooth(k, inv_tau, gain, links, v, spikes, psc, state):
    """Run a layer of the smooth variant through all steps (mathematics 12a); spikes.values (T, N, L) are its spikes.

    v (T, N, L) holds the feedforward current and becomes the membrane potential; psc (T, N, L), or (0, N, L)
    where nobody needs it; state zeroed (3, N, L).
    """
    c, u, a = state[0].reshape(-1), state[1].reshape(-1), state[2].reshape(-1)
    for t in range(v.shape[0]):
        if t > 0:
            scatter(links, spikes, t - 1, 0, v.shape[1], v[t])
        spikes.mask[t] = uint16(0xFFFF)
        now, sent = v[t].reshape(-1), spikes.values[t].reshape(-1)
        leak, drive = inv_tau[t % inv_tau.shape[0]].reshape(-1), gain[t % gain.shape[0]].reshape(-1)
        for j in range(now.size):
            c[j] = filtered(k, c[j], now[j])
            now[j] = membrane(k, leak[j], drive[j], u[j], c[j])
            sent[j] = logistic((now[j] - k.v_th) * k.inv_width)
            u[j] = after_reset(k, now[j], sent[j])
            a[j] = filtered(k, a[j], sent[j])
        if psc.shape[0]:
            copy(state[2], 0, psc[t], 0, v.shape[1])


@jit
def backward_smooth(k, inv_tau, gain, links, v, spikes, errors, state):
    """The exact derivative of the smooth variant; errors as in :func:`backward`, state zeroed (2, N, L)."""
    carried, beyond = state[0].reshape(-1), state[1].reshape(-1)
    steps = v.shape[0]
    for t in range(steps - 1, -1, -1):
        if t + 1 < steps:
            gather(links, 0, errors.shape[1], errors[t + 1], errors[t])
        error, now, sent = errors[t].reshape(-1), v[t].reshape(-1), spikes.values[t].reshape(-1)
        leak_next = inv_tau[min(t + 1, steps - 1) % inv_tau.shape[0]].reshape(-1)
        drive = gain[t % gain.shape[0]].reshape(-1)
        for j in range(error.size):
            carried[j] = smooth_error(k, now[j], sent[j], leak_next[j], error[j], carried[j])
            beyond[j] = filtered(k, beyond[j], drive[j] * carried[j])
            error[j] = beyond[j]
