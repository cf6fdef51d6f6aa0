"""Gradients of a layer's own R and tau on the CPU (mathematics 5), from what forward and backward have left.

Shapes: T steps, N neurons, L = LANES samples. Each neuron's sum is taken step by step, then over the lanes; blocks of
neurons go through all steps, so that their sums stay in the core's cache.
"""

from hrmas_sparse.engine.backends.cpu.blocks import BLOCK
from hrmas_sparse.engine.backends.cpu.compile import after_reset, by_resistance, by_time_constant, fires, jit
from hrmas_sparse.engine.backends.cpu.lanes import flat, load, sum_lanes


@jit
def gradients(k, inv_tau, v, sent, delta, state, result):
    """Fill result (2, N) with the gradients of ln R and of ln tau, summed over steps and lanes.

    inv_tau (1, N, L); v and delta (T, N, L); sent: spikes of the smooth variant likewise, else (0, 0, 0);
    state zeroed (3, N, L)
    """
    steps, neurons, _ = v.shape
    for low in range(0, neurons, BLOCK):
        high = min(low + BLOCK, neurons)
        of_R, of_tau, zeros = flat(state[0, low:high]), flat(state[1, low:high]), state[2, low:high]
        for t in range(steps):
            before = v[t - 1, low:high] if t > 0 else zeros
            inv, now, error = flat(inv_tau[0, low:high]), flat(v[t, low:high]), flat(delta[t, low:high])
            if sent.shape[0]:
                spikes = sent[t - 1, low:high] if t > 0 else zeros
                _add_smooth(k, inv, flat(before), flat(spikes), now, error, of_R, of_tau)
            else:
                _add(k, inv, flat(before), now, error, of_R, of_tau)
    for i in range(2):
        for n in range(neurons):
            result[i, n] = sum_lanes(load(state[i], n))


@jit
def _add(k, inv_tau, v_before, v, delta, of_R, of_tau):
    for j in range(v.size):
        u = k.zero if fires(k, v_before[j]) else v_before[j]
        of_R[j] += by_resistance(k, inv_tau[j], u, v[j], delta[j])
        of_tau[j] += by_time_constant(u, v[j], delta[j])


@jit
def _add_smooth(k, inv_tau, v_before, spikes, v, delta, of_R, of_tau):
    for j in range(v.size):
        u = after_reset(k, v_before[j], spikes[j])
        of_R[j] += by_resistance(k, inv_tau[j], u, v[j], delta[j])
        of_tau[j] += by_time_constant(u, v[j], delta[j])
