"""Gradients of each neuron's time constant and resistance (mathematics 5, the end), in float64, twice.

:func:`gradients` are the sums of the section, of the errors that naive.py finds backward. :func:`followed` moves one
neuron's tau or R a little and follows what comes of it through the layer, forward in time.
Arguments are those of naive.py: a tape of forward_layer, (B, T, N).
"""

import numpy as np
from naive import per_step, surrogate

LOG_R, LOG_TAU = "log R", "log tau"


def before(x):
    """x[t-1], 0 before the first step."""
    return np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def change(tape, tau):
    """-> {LOG_R, LOG_TAU: (B, T, N)}, what v gains from one unit of either where u and c are held."""
    v, u = tape["v"], before(tape["u"])
    return {LOG_R: v - (1 - 1 / per_step(tau, *v.shape)) * u, LOG_TAU: u - v}


def gradients(tape, delta, tau):
    """-> {LOG_R, LOG_TAU: (N,)}, summed over samples and steps."""
    return {which: (delta * x).sum(axis=(0, 1)) for which, x in change(tape, tau).items()}


def followed(tape, g, W_rec, R, tau, tau_s, v_th, which, rule, slope_cap=8.0, width=0.2):
    """-> (N,), the derivative of L = sum of g a by each neuron's ``which``; R and tau (N,).

    dc, dv, ds and da are the changes of c, v, of the spikes and of the PSCs of all neurons. Under TSSL-BP a change of v
    that is carried on is apart from one that is new: a neuron that was silent lately lets a new one pass by its
    surrogate alone, and a carried one as if it were not silent (delta0 of the section).
    """
    B, T, N = tape["v"].shape
    W, result = np.zeros((N, N)) if W_rec is None else W_rec, np.zeros(N)
    for b in range(B):
        for i in range(N):
            dc, ds, da, carried = (np.zeros(N) for _ in range(4))
            own = np.eye(N)[i]
            for t in range(T):
                v, s, a, c = (tape[key][b, t] for key in ("v", "s", "a", "c"))
                u_before = tape["u"][b, t - 1] if t else np.zeros(N)
                dc = (1 - 1 / tau_s) * dc + W @ ds
                # v = u - u / tau + R c / tau, and its derivative by ln R or by ln tau
                new = R / tau * dc + own * (R * c / tau if which == LOG_R else (u_before - R * c) / tau)
                if rule == "tssl-bp":
                    with np.errstate(divide="ignore"):
                        p = np.where(s == 1, np.minimum(1 / (v - u_before), slope_cap / v_th), 0.0)
                    silent = a < 0.25
                    through = carried + np.where(silent, 0, new)
                    ds = p * through + np.where(silent, surrogate(v, v_th, width) * new, 0)
                    carried = np.where(s == 1, p * v / tau * through, (1 - 1 / tau) * through)
                else:
                    slope = s * (1 - s) / (width * v_th) if rule == "smooth" else surrogate(v, v_th, width)
                    dv = carried + new
                    ds = slope * dv
                    carried = (1 - 1 / tau) * ((1 - s) * dv - (v * ds if rule == "smooth" else 0))
                da = (1 - 1 / tau_s) * da + ds
                result[i] += g[b, t] @ da
    return result
