"""Neurons of one chunk through time: forward, forward with intrinsic plasticity, backward.

A step is one flat loop over neurons and lanes, which LLVM vectorises; all formulas are neuron.py's.

Shapes: T steps, N neurons, L = LANES samples. ``inv_tau`` and ``gain`` (R/tau) are (1, N, L) where they
are constant in time, else (T, N, L).
"""

from numba import uint16

from hrmas_sparse.backends.cpu.compile import (
    after_reset, calcium, expm1_small, filtered, fires, jit, logistic, logistic_slope, membrane,
    plastic_resistance, plastic_time_constant, smooth_error, surrogate_error, timing_error)
from hrmas_sparse.backends.cpu.lanes import bits_above, bits_to_lanes, load, store
from hrmas_sparse.backends.cpu.synapses import gather, scatter


@jit
def _pack(k, v, psc, spikes, silent):
    """Store as bits, one word a neuron, which lanes spiked and which have been silent lately."""
    for n in range(v.shape[0]):
        spikes[n] = bits_above(load(v, n), k.v_th)
        silent[n] = uint16(~bits_above(load(psc, n), k.below_silent))


@jit
def forward(k, inv_tau, gain, links, v, spikes, silent, psc, state):
    """Run a layer's neurons through all steps (SPEC 1).

    v : (T, N, L), holds the feedforward current and becomes the membrane potential before reset
    spikes.mask, silent : outputs, (T, N) bit masks (silent: psc < 1/4, the gate of SPEC 5)
    psc : (T, N, L) to keep the filtered spikes, or (0, N, L) where nobody needs them
    state : zeroed (3, N, L): filtered current, membrane potential after reset, psc
    """
    c, u, a = state[0].reshape(-1), state[1].reshape(-1), state[2].reshape(-1)
    for t in range(v.shape[0]):
        if t > 0:
            scatter(links, spikes, t - 1, v[t])
        now = v[t].reshape(-1)
        leak, drive = inv_tau[t % inv_tau.shape[0]].reshape(-1), gain[t % gain.shape[0]].reshape(-1)
        for j in range(now.size):
            c[j] = filtered(k, c[j], now[j])
            now[j] = membrane(k, leak[j], drive[j], u[j], c[j])
            spike = k.one if fires(k, now[j]) else k.zero
            u[j] = after_reset(k, now[j], spike)
            a[j] = filtered(k, a[j], spike)
        _pack(k, v[t], state[2], spikes.mask[t], silent[t])
        if psc.shape[0]:
            psc[t] = state[2]


@jit
def forward_plastic(k, p, R, tau, links, v, spikes, silent, psc, state, trajectory):
    """As :func:`forward`, while SpiKL-IP adapts R and tau of every neuron and lane (SPEC 8).

    R, tau : (N, L), adapted in place, each lane its own copy
    state : zeroed (4, N, L): filtered current, membrane potential after reset, psc, calcium
    trajectory : (2, T, N, L) to keep the R and tau each step used, or (2, 0, N, L)
    """
    c, u, a, phi = state[0].reshape(-1), state[1].reshape(-1), state[2].reshape(-1), state[3].reshape(-1)
    r, time_constant = R.reshape(-1), tau.reshape(-1)
    for t in range(v.shape[0]):
        if t > 0:
            scatter(links, spikes, t - 1, v[t])
        if trajectory.shape[1]:
            trajectory[0, t] = R
            trajectory[1, t] = tau
        now = v[t].reshape(-1)
        for j in range(now.size):
            r_old, tau_old = r[j], time_constant[j]
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
            time_constant[j] = plastic_time_constant(p, tau_old, y)
        _pack(k, v[t], state[2], spikes.mask[t], silent[t])
        if psc.shape[0]:
            psc[t] = state[2]


@jit
def backward(k, inv_tau, gain, links, v, silent, errors, delta, state):
    """Run TSSL-BP back through a span of steps (SPEC 5, 6).

    v, silent : as left by forward
    inv_tau : one row more than the span where it varies and the span is not the last
    errors : (T, N, L), holds the effect A of each spike through the layers above and becomes E,
        the filtered error
    delta : (T, N, L) to keep the errors at v, or (0, N, L)
    state : (4, N, L): delta0 and E of the step after (zero at the end), gate, v of the step before the span
    """
    carried, beyond, gate = state[0].reshape(-1), state[1].reshape(-1), state[2].reshape(-1)
    for t in range(v.shape[0] - 1, -1, -1):
        if links.data.size:
            gather(links, state[1], errors[t])
        for n in range(v.shape[1]):
            store(state[2], n, bits_to_lanes(silent[t, n], k.one))
        error, now = errors[t].reshape(-1), v[t].reshape(-1)
        last = v[t - 1].reshape(-1) if t > 0 else state[3].reshape(-1)
        leak_next = inv_tau[min(t + 1, inv_tau.shape[0] - 1)].reshape(-1)
        drive = gain[t % gain.shape[0]].reshape(-1)
        for j in range(error.size):
            u_before = k.zero if fires(k, last[j]) else last[j]
            base = timing_error(k, now[j], u_before, leak_next[j], error[j], carried[j])
            slope = logistic_slope((now[j] - k.v_th) * k.inv_width)
            found = surrogate_error(k, error[j], slope) if gate[j] > k.zero else base
            carried[j] = base
            beyond[j] = filtered(k, beyond[j], drive[j] * found)
            error[j] = beyond[j]
            gate[j] = found
        if delta.shape[0]:
            delta[t] = state[2]


@jit
def filter_back(k, psc_gradient):
    """A[t] = g[t] + decay_s A[t+1], in place: from dL/da of the output layer to the effect of a spike."""
    for t in range(psc_gradient.shape[0] - 2, -1, -1):
        later, now = psc_gradient[t + 1].reshape(-1), psc_gradient[t].reshape(-1)
        for j in range(now.size):
            now[j] = filtered(k, later[j], now[j])


@jit
def forward_smooth(k, inv_tau, gain, links, v, spikes, psc, state):
    """As :func:`forward` for the smooth variant (SPEC 12a); spikes.values (T, N, L) are its spikes."""
    c, u, a = state[0].reshape(-1), state[1].reshape(-1), state[2].reshape(-1)
    for t in range(v.shape[0]):
        if t > 0:
            scatter(links, spikes, t - 1, v[t])
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
            psc[t] = state[2]


@jit
def backward_smooth(k, inv_tau, gain, links, v, spikes, errors, state):
    """As :func:`backward` for the smooth variant: the exact derivative; state zeroed (2, N, L)."""
    carried, beyond = state[0].reshape(-1), state[1].reshape(-1)
    steps = v.shape[0]
    for t in range(steps - 1, -1, -1):
        if t + 1 < steps:
            gather(links, errors[t + 1], errors[t])
        error, now, sent = errors[t].reshape(-1), v[t].reshape(-1), spikes.values[t].reshape(-1)
        leak_next = inv_tau[min(t + 1, steps - 1) % inv_tau.shape[0]].reshape(-1)
        drive = gain[t % gain.shape[0]].reshape(-1)
        for j in range(error.size):
            carried[j] = smooth_error(k, now[j], sent[j], leak_next[j], error[j], carried[j])
            beyond[j] = filtered(k, beyond[j], drive[j] * carried[j])
            error[j] = beyond[j]
