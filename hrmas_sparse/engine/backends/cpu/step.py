"""A step of some neurons of one chunk: forward, forward with intrinsic plasticity, back.

A step is one flat loop over neurons and lanes, which LLVM vectorises; all formulas are neuron.py's. Which neurons run
through which steps in what order is the business of blocks.py.

The two forward loops write the step out, and so does smooth.py. One shared function would read better, but how LLVM
contracts multiply-adds depends on the code around them: v would move by an ulp.

Shapes: N of a layer's neurons, L = LANES samples. ``inv_tau`` is 1/tau, ``gain`` R/tau.
"""

from numba import uint16

from hrmas_sparse.engine.backends.cpu.compile import (
    after_reset,
    calcium,
    expm1_small,
    filtered,
    fires,
    jit,
    logistic_slope,
    membrane,
    plastic_resistance,
    plastic_time_constant,
    surrogate_error,
    through_time_error,
    timing_error,
)
from hrmas_sparse.engine.backends.cpu.lanes import bits_above, bits_to_lanes, fetch, flat, load, store


@jit
def _pack(k, v, psc, spikes, silent):
    """Store as bits, one word a neuron, which lanes spiked and which have been silent lately."""
    for n in range(v.shape[0]):
        spikes[n] = bits_above(load(v, n), k.v_th)
        silent[n] = uint16(~bits_above(load(psc, n), k.below_silent))


@jit
def forward(k, inv_tau, gain, v, spikes, silent, c, u, a):
    """Run some neurons through one step (mathematics 1); N of them.

    inv_tau, gain : (N, L)
    v : (N, L), holds the current received and becomes the membrane potential before reset
    spikes, silent : outputs, (N,) bit masks (silent: psc < 1/4, the gate of mathematics 5)
    c, u, a : state, (N, L): filtered current, membrane potential after reset, psc
    """
    _forward(k, flat(inv_tau), flat(gain), flat(v), flat(c), flat(u), flat(a))
    _pack(k, v, a, spikes, silent)


@jit
def _forward(k, inv_tau, gain, v, c, u, a):
    for j in range(v.size):
        current = v[j]
        c[j] = filtered(k, c[j], current)
        v[j] = membrane(k, inv_tau[j], gain[j], u[j], c[j])
        spike = k.one if fires(k, v[j]) else k.zero
        u[j] = after_reset(k, v[j], spike)
        a[j] = filtered(k, a[j], spike)


@jit
def forward_plastic(k, p, R, tau, v, spikes, silent, c, u, a, phi):
    """As :func:`forward`, while SpiKL-IP adapts R and tau of every neuron and lane (mathematics 8).

    R, tau : (N, L), adapted in place, each lane its own copy
    phi : state, (N, L): calcium
    """
    _forward_plastic(k, p, flat(R), flat(tau), flat(v), flat(c), flat(u), flat(a), flat(phi))
    _pack(k, v, a, spikes, silent)


@jit
def _forward_plastic(k, p, r, tau, v, c, u, a, phi):
    for j in range(v.size):
        r_old, tau_old = r[j], tau[j]
        inv_tau = k.one / tau_old
        c[j] = filtered(k, c[j], v[j])  # the current; a name for it would move v by an ulp: LLVM contracts otherwise
        v[j] = membrane(k, inv_tau, r_old * inv_tau, u[j], c[j])
        spike = k.one if fires(k, v[j]) else k.zero
        u[j] = after_reset(k, v[j], spike)
        a[j] = filtered(k, a[j], spike)
        phi[j] = calcium(p, phi[j], spike)
        y = phi[j] * p.inv_tau_cal
        excess = p.v_th / expm1_small(p.one / max(tau_old * y, p.rate_floor))
        r[j] = plastic_resistance(p, r_old, tau_old, y, excess)
        tau[j] = plastic_time_constant(p, tau_old, y)


@jit
def backward(k, inv_tau_next, gain, v_before, v, v_soon, silent, error, delta, base_error, error_after):
    """Run TSSL-BP one step back through some neurons (mathematics 5, 6).

    inv_tau_next, gain : (N, L), 1/tau of the step after and R/tau of this one
    v_before, v : (N, L), v of the step before, zeros at the first, and of this one
    v_soon : (N, L), what the next call will want as ``v_before``, on its way from memory meanwhile
    silent : (N,) as left by forward
    error : (N, L), holds the effect A of each spike, through the layers above and the links, and becomes E, the
        filtered error
    delta : (N, L), becomes the error at v
    base_error : state, (N, L): delta0 of the step after
    error_after : (N, L), E of the step after
    """
    for n in range(silent.size):
        store(delta, n, bits_to_lanes(silent[n], k.one))
        fetch(v_soon, n)
    _backward(k, flat(inv_tau_next), flat(gain), flat(v_before), flat(v), flat(error), flat(delta), flat(base_error),
              flat(error_after))


@jit
def _backward(k, inv_tau_next, gain, v_before, v, error, gate, base_error, error_after):
    for j in range(error.size):
        effect = error[j]
        u_before = k.zero if fires(k, v_before[j]) else v_before[j]
        base = timing_error(k, v[j], u_before, inv_tau_next[j], effect, base_error[j])
        slope = logistic_slope((v[j] - k.v_th) * k.inv_width)
        delta = surrogate_error(k, effect, slope) if gate[j] > k.zero else base
        base_error[j] = base
        error[j] = filtered(k, error_after[j], gain[j] * delta)
        gate[j] = delta


@jit
def backward_through_time(k, inv_tau_next, gain, v, error, delta, error_next, error_after):
    """As :func:`backward`, by surrogate gradient through time.

    error_next : state, (N, L): delta of the step after
    """
    _through_time(k, flat(inv_tau_next), flat(gain), flat(v), flat(error), flat(delta), flat(error_next),
                  flat(error_after))


@jit
def _through_time(k, inv_tau_next, gain, v, error, delta, error_next, error_after):
    for j in range(error.size):
        slope = logistic_slope((v[j] - k.v_th) * k.inv_width)
        delta[j] = through_time_error(k, v[j], error[j], slope, inv_tau_next[j], error_next[j])
        error_next[j] = delta[j]
        error[j] = filtered(k, error_after[j], gain[j] * delta[j])


@jit
def effect_of_loss(k, psc_gradient, effect):
    """A[t] = g[t] + decay_s A[t+1]: from dL/da of the output layer, (b, T, N), to the effect of a spike, (T, N, L)."""
    samples, steps, neurons = psc_gradient.shape
    for t in range(steps - 1, -1, -1):
        for n in range(neurons):
            for b in range(effect.shape[2]):
                effect[t, n, b] = psc_gradient[b, t, n] if b < samples else k.zero
        if t + 1 < steps:
            _filter_back(k, flat(effect[t + 1]), flat(effect[t]))


@jit
def _filter_back(k, effect_next, effect):
    for j in range(effect.size):
        effect[j] = filtered(k, effect_next[j], effect[j])
