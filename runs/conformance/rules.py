"""Where other programs step a CubaLIF neuron in another way: their rules, as few lines of NumPy.

`spikes(net, x, rule)` runs an exported .npz under a rule. If it gives the spikes of the program, then the rule is
all that differs.
"""

import numpy as np


def ours(v_th, decay, leak, gain, c, u, s, received, _):
    """Reset to 0 at once."""
    c = decay * c + received(s)
    v = leak * u + gain * c
    s = v > v_th
    return c, np.where(s, 0, v).astype(v.dtype), s


def reset_a_step_late(v_th, decay, leak, gain, c, u, s, received, recurrent):
    """snnTorch's RSynaptic: the potential of the step after a spike is set to 0, with all that arrived in that step."""
    if not recurrent:
        return ours(v_th, decay, leak, gain, c, u, s, received, recurrent)
    c = decay * c + received(s)
    v = np.where(s, 0, leak * u + gain * c).astype(c.dtype)
    return c, v, v > v_th


def spike_a_step_late(v_th, decay, leak, gain, c, u, s, received, _):
    """spyx: a spike is sent, and v_th subtracted, in the step after the crossing; R is ignored."""
    s = u > v_th
    u = u - s * v_th
    c = decay * c + received(s)
    return c, (leak * u + c).astype(c.dtype), s


def exponential(v_th, decay, leak, gain, c, u, s, received, _):
    """rockpool: exponential decay over a step it derives from tau_mem and r, R and w_in ignored, v_th subtracted,
    several spikes in a step."""
    tau, tau_s = 1 / (1 - leak), 1 / (1 - decay)
    step = (tau / (1 + gain * tau)).min()
    c = ((c + received(s)) * np.exp(-step / tau_s)).astype(u.dtype)
    v = (u * np.exp(-step / tau) + c).astype(u.dtype)
    s = np.where(v > v_th, np.floor(v / v_th), 0)
    return c, (v - s * v_th).astype(u.dtype), s


RULES = {"norse": ours, "snntorch_nodes": reset_a_step_late, "spyx": spike_a_step_late,
         "rockpool": exponential}


def spikes(net, x, rule):
    """Return the spikes of every layer, (B, T, N) bool; x (B, T, C)."""
    below, layers = x, []
    for key in net["layers"]:
        w, tau, first = net[f"w{key}"], net[f"tau{key}"], net[f"rec{key}_indptr"]
        W = np.zeros((tau.size, tau.size), w.dtype)
        W[np.repeat(np.arange(tau.size), np.diff(first)), net[f"rec{key}_indices"]] = net[f"rec{key}_data"]
        leak, gain, decay = 1 - 1 / tau, net[f"R{key}"] / tau, w.dtype.type(1 - 1 / net["tau_s"])
        c = u = np.zeros((len(x), tau.size), w.dtype)
        s, sent = c > 0, []
        for t in range(x.shape[1]):
            received = lambda s, t=t: below[:, t].astype(w.dtype) @ w + s.astype(w.dtype) @ W  # noqa: B023, E731
            c, u, s = rule(w.dtype.type(net[f"v_th{key}"]), decay, leak, gain, c, u, s, received, bool(W.any()))
            sent.append(s)
        below = np.stack(sent, 1)
        layers.append(below > 0)
    return layers
