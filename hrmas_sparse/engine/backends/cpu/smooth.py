"""The smooth variant of one layer of a chunk (mathematics 12a), for gradient checks: whole layers, all steps at once.

Shapes: T steps, N neurons, L = LANES samples. ``inv_tau`` and ``gain`` (R/tau) are (1, N, L) where they are constant
in time, else (T, N, L).
"""

from numba import uint16

from hrmas_sparse.engine.backends.cpu.bundles import gather
from hrmas_sparse.engine.backends.cpu.compile import after_reset, filtered, jit, logistic, membrane, smooth_error
from hrmas_sparse.engine.backends.cpu.lists import copy
from hrmas_sparse.engine.backends.cpu.synapses import scatter


@jit
def forward(k, inv_tau, gain, links, v, spikes, psc, state):
    """Run a layer through all steps; spikes.values (T, N, L) are its spikes.

    v (T, N, L) holds the feedforward current and becomes the membrane potential; psc (T, N, L), or (0, N, L)
    where nobody needs it; state zeroed (3, N, L).
    """
    c, u, a = state[0].reshape(-1), state[1].reshape(-1), state[2].reshape(-1)
    for t in range(v.shape[0]):
        if t > 0:
            scatter(links, spikes, t - 1, 0, v.shape[1], v[t])
        spikes.mask[t] = uint16(0xFFFF)
        potential, sent = v[t].reshape(-1), spikes.values[t].reshape(-1)
        inv_tau_now, gain_now = inv_tau[t % inv_tau.shape[0]].reshape(-1), gain[t % gain.shape[0]].reshape(-1)
        for j in range(potential.size):
            current = potential[j]
            c[j] = filtered(k, c[j], current)
            potential[j] = membrane(k, inv_tau_now[j], gain_now[j], u[j], c[j])
            sent[j] = logistic((potential[j] - k.v_th) * k.inv_width)
            u[j] = after_reset(k, potential[j], sent[j])
            a[j] = filtered(k, a[j], sent[j])
        if psc.shape[0]:
            copy(state[2], 0, psc[t], 0, v.shape[1])


@jit
def backward(k, inv_tau, gain, bundles, v, spikes, errors, kept, state):
    """The exact derivative of :func:`forward`; errors (T, N, L) hold A and become E, state zeroed (2, N, L).

    kept : (T, N, L) to keep delta, or (0, N, L)
    """
    delta, filtered_error = state[0].reshape(-1), state[1].reshape(-1)
    steps = v.shape[0]
    for t in range(steps - 1, -1, -1):
        if t + 1 < steps:
            gather(bundles, 0, errors.shape[1], errors[t + 1], errors[t])
        error, potential, sent = errors[t].reshape(-1), v[t].reshape(-1), spikes.values[t].reshape(-1)
        inv_tau_next = inv_tau[min(t + 1, steps - 1) % inv_tau.shape[0]].reshape(-1)
        gain_now = gain[t % gain.shape[0]].reshape(-1)
        for j in range(error.size):
            effect = error[j]
            delta[j] = smooth_error(k, potential[j], sent[j], inv_tau_next[j], effect, delta[j])
            filtered_error[j] = filtered(k, filtered_error[j], gain_now[j] * delta[j])
            error[j] = filtered_error[j]
        if kept.shape[0]:
            copy(state[0], 0, kept[t], 0, errors.shape[1])
