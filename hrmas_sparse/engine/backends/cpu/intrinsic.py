"""Gradients of a layer's own R and tau on the CPU (mathematics 5), from what forward and backward have left.

Shapes: T steps, N neurons, L = LANES samples. Each neuron's sum is taken step by step, then over the lanes.
"""

from hrmas_sparse.engine.backends.cpu.compile import after_reset, by_resistance, by_time_constant, fires, jit
from hrmas_sparse.engine.backends.cpu.lanes import flat, load, sum_lanes


@jit
def gradients(k, inv_tau, v, sent, delta, state, result):
    """Fill result (2, N) with the gradients of ln R and of ln tau, summed over steps and lanes.

    inv_tau (1, N, L); v and delta (T, N, L); sent: spikes of the smooth variant likewise, else (0, 0, 0);
    state zeroed (3, N, L)
    """
    u = flat(state[2])
    for t in range(v.shape[0]):
        if t > 0 and sent.shape[0]:
            _smooth_reset(k, flat(v[t - 1]), flat(sent[t - 1]), u)
        elif t > 0:
            _reset(k, flat(v[t - 1]), u)
        _add(k, flat(inv_tau[0]), u, flat(v[t]), flat(delta[t]), flat(state[0]), flat(state[1]))
    for i in range(2):
        for n in range(v.shape[1]):
            result[i, n] = sum_lanes(load(state[i], n))


@jit
def _reset(k, v, u):
    for j in range(v.size):
        u[j] = k.zero if fires(k, v[j]) else v[j]


@jit
def _smooth_reset(k, v, sent, u):
    for j in range(v.size):
        u[j] = after_reset(k, v[j], sent[j])


@jit
def _add(k, inv_tau, u, v, delta, of_R, of_tau):
    for j in range(v.size):
        of_R[j] += by_resistance(k, inv_tau[j], u[j], v[j], delta[j])
        of_tau[j] += by_time_constant(u[j], v[j], delta[j])
