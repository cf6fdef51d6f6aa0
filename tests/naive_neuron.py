"""Gradients of each neuron's time constant and threshold (mathematics 5, the end), in float64, twice.

:func:`gradients` are the sums of the section, of the errors that naive.py finds backward. :func:`followed` moves one
neuron's tau or threshold a little and follows what comes of it through the layer, forward in time.
Arguments are those of naive.py: a tape of forward_layer, (B, T, N).
"""

import numpy as np
from naive import per_step, surrogate

LOG_TAU, V_TH = "log tau", "v_th"


def before(x):
    """x[t-1], 0 before the first step."""
    return np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def after(x):
    """x[t+1], 0 after the last step."""
    return np.concatenate([x[:, 1:], np.zeros_like(x[:, :1])], axis=1)


def gradients(tape, delta, tau, rule):
    """-> {LOG_TAU, V_TH: (N,)}, summed over samples and steps; rule "tssl-bp", "surrogate" or "smooth"."""
    v, s = tape["v"], tape["s"]
    if rule == "tssl-bp":
        crossing = np.where((s == 1) | (tape["a"] < 0.25), delta, 0)
    else:
        crossing = delta - (1 - s) * (1 - 1 / per_step(tau, *v.shape)) * after(delta)
    return {LOG_TAU: (delta * (before(tape["u"]) - v)).sum(axis=(0, 1)), V_TH: -crossing.sum(axis=(0, 1))}


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
                v, s, a = (tape[key][b, t] for key in ("v", "s", "a"))
                u_before = tape["u"][b, t - 1] if t else np.zeros(N)
                dc = (1 - 1 / tau_s) * dc + W @ ds
                new = R / tau * dc
                if which == LOG_TAU:
                    new = new - own * (v - u_before)           # d/d(ln tau) of u - u / tau + R c / tau
                lowered = -own * (which == V_TH)               # v - v_th, where v itself stays
                if rule == "tssl-bp":
                    with np.errstate(divide="ignore"):
                        p = np.where(s == 1, np.minimum(1 / (v - u_before), slope_cap / v_th), 0.0)
                    silent = a < 0.25
                    through = carried + np.where(silent, 0, new)
                    ds = p * (through + lowered) + np.where(silent, surrogate(v, v_th, width) * (new + lowered), 0)
                    carried = np.where(s == 1, p * v / tau * (through + lowered), (1 - 1 / tau) * through)
                else:
                    slope = s * (1 - s) / (width * v_th) if rule == "smooth" else surrogate(v, v_th, width)
                    dv = carried + new
                    ds = slope * (dv + lowered)
                    carried = (1 - 1 / tau) * ((1 - s) * dv - (v * ds if rule == "smooth" else 0))
                da = (1 - 1 / tau_s) * da + ds
                result[i] += g[b, t] @ da
    return result
