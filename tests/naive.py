"""The slow, dense, obvious reference: docs/mathematics.md, equation by equation, in float64.

It shares no line with the engine it tests: NumPy only, dense N x N matrices, one plain loop over time.

B samples, T steps, C inputs, N neurons, O outputs. X: (B, T, C). W_in: (N, C). W_rec: (N, N) with
[i, r] = from r to i, or None (feedforward). R, tau: (N,), (T, N) or (B, T, N). A network is a list of
dicts with W_in, W_rec, R, tau, v_th; the last one is the output layer. Where that gives a recursion,
the sum that defines it stands beside it (`*_double_sum`), and test_naive.py holds the two together.
"""
import itertools
import math

import numpy as np
from naive_optimiser import adam_step, clip_by_global_norm, global_norm  # noqa: F401  (naive.py is the one name)
from naive_topology import (  # noqa: F401  (naive.py is the one name the tests use)
    EXC, INH, NONE, W_INH, architecture_matrix, connections, discretize, effective_matrix, motif_pattern,
    relaxation_gradients, softmax, softmax_back, union_pattern)


# --- section 1: one layer forward ------------------------------------------------------------------

def logistic(x):
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    return np.exp(-np.logaddexp(0.0, -x))


def per_step(param, B, T, N):
    """R or tau of any allowed shape -> (B, T, N)."""
    return np.broadcast_to(np.asarray(param, float), (B, T, N))


def psc(s, tau_s):
    """a[t] = decay_s a[t-1] + s[t], (B, T, N) -> (B, T, N)."""
    a = np.zeros(s.shape)
    for t in range(s.shape[1]):
        a[:, t] = s[:, t] + ((1 - 1 / tau_s) * a[:, t - 1] if t > 0 else 0)
    return a


def psc_double_sum(s, tau_s):
    """a[t] = sum_{k <= t} decay_s^(t-k) s[k], which is what psc() computes."""
    a = np.zeros(s.shape)
    for t in range(s.shape[1]):
        for k in range(t + 1):
            a[:, t] += (1 - 1 / tau_s) ** (t - k) * s[:, k]
    return a


def forward_layer(s_in, W_in, W_rec, R, tau, tau_s, v_th, smooth=False, width=0.2, direct=False):
    """Section 1 -> dict of v, u, s, a, c, each (B, T, N).

    direct: c from the PSCs of the sending neurons, sum_j w_ij a_j[t] + sum_r W_ir a_r[t-1].
    smooth: section 12(a), s = logistic((v - v_th) / h) with h = width * v_th.
    """
    s_in = np.asarray(s_in, float)
    (B, T, _), N = s_in.shape, W_in.shape[0]
    R, tau, decay_s = per_step(R, B, T, N), per_step(tau, B, T, N), 1 - 1 / tau_s
    a_in = psc_double_sum(s_in, tau_s) if direct else None
    v, u, s, a, c = (np.zeros((B, T, N)) for _ in range(5))
    zero = np.zeros((B, N))
    for t in range(T):
        u_prev, s_prev, a_prev, c_prev = (x[:, t - 1] if t > 0 else zero for x in (u, s, a, c))
        if direct:
            c[:, t] = a_in[:, t] @ W_in.T
            c[:, t] += 0 if W_rec is None else a_prev @ W_rec.T
        else:
            c[:, t] = decay_s * c_prev + s_in[:, t] @ W_in.T
            c[:, t] += 0 if W_rec is None else s_prev @ W_rec.T
        v[:, t] = (1 - 1 / tau[:, t]) * u_prev + R[:, t] / tau[:, t] * c[:, t]
        s[:, t] = logistic((v[:, t] - v_th) / (width * v_th)) if smooth else v[:, t] > v_th
        u[:, t] = v[:, t] * (1 - s[:, t])
        a[:, t] = decay_s * a_prev + s[:, t]
    return dict(v=v, u=u, s=s, a=a, c=c)


# --- section 4: loss and decision; g = dL/da_o[t] of each sample's own loss, not divided by B ----------

def loss_psc(a_out, labels, tau_s, period=1):
    """a_out (B, T, O) -> batch mean of sum 1/2 (d - a)^2, and g (B, T, O).

    The desired train of the true class spikes at t = period-1, 2 period-1, ... (0-based).
    """
    desired = np.zeros(a_out.shape)
    for b, label in enumerate(labels):
        desired[b, period - 1::period, label] = 1
    d = psc(desired, tau_s)
    return 0.5 * np.sum((d - a_out) ** 2) / len(a_out), a_out - d


def loss_cross_entropy(a_out, labels, scale=0.02):
    """Section 13: batch mean of -ln softmax(scale sum_t a_o[t])[label], and g (B, T, O)."""
    B, T, O = a_out.shape
    total, g = 0.0, np.zeros((B, T, O))
    for b, label in enumerate(labels):
        p = softmax(scale * a_out[b].sum(axis=0))
        total -= math.log(p[label])
        g[b] = scale * (p - np.eye(O)[label])              # the same at every t
    return total / B, g


def windows_of(T, windows):
    """The steps of each window: step t belongs to window floor(t windows / T); none may be left over."""
    return [[t for t in range(T) if t * windows // T == k] for k in range(windows)]


def integrate(s_in, W, windows, tau_s):
    """Section 4, integrators: W (O, windows N) -> potential at the end (B, 1, O); the psc summed over windows."""
    a = psc_double_sum(s_in, tau_s)
    sums = np.stack([a[:, steps].sum(axis=1) for steps in windows_of(a.shape[1], windows)], axis=1)
    return (sums.reshape(len(a), -1) @ W.T)[:, None], sums


def integrate_back(g, W, windows, T):
    """g = dL/dv (B, 1, O) -> dL/da of the senders, (B, T, N)."""
    per_window = (g[:, 0] @ W).reshape(len(g), windows, -1)
    da = np.zeros((len(g), T, per_window.shape[2]))
    for k, steps in enumerate(windows_of(T, windows)):
        da[:, steps] = per_window[:, [k]]
    return da


def decide(a_out):
    """argmax_o sum_t a_o[t] -> (B,); of equals the first."""
    return np.argmax(a_out.sum(axis=1), axis=1)


# --- sections 5, 6 and 12(a): backward -------------------------------------------------------------------

def surrogate(v, v_th, width):
    """sigma'((v - v_th)/h) / h, the argument clipped to [-8, 8]."""
    h = width * v_th
    q = logistic(np.clip((v - v_th) / h, -8, 8))
    return q * (1 - q) / h


def slope_and_carry(tape, t, tau_next, v_th, slope_cap, width, smooth):
    """(p, f), each (B, N), of delta0[t] = p A[t] + f delta0[t+1]."""
    v, s = tape["v"][:, t], tape["s"][:, t]
    if smooth:
        ds = s * (1 - s) / (width * v_th)
        return ds, (1 - 1 / tau_next) * ((1 - s) - v * ds)
    dv = v - (tape["u"][:, t - 1] if t > 0 else 0)
    with np.errstate(divide="ignore"):                     # dv may be 0 only where s = 0, unused
        p = np.where(s == 1, np.minimum(1 / dv, slope_cap / v_th), 0.0)
    return p, np.where(s == 1, p * v / tau_next, 1 - 1 / tau_next)


def through_time(tape, g, W_rec, R, tau, tau_s, v_th, width=0.2):
    """Section 5, surrogate gradient -> dict of delta = dL/dv, E = dL/dc and e, each (B, T, N), for L = sum of g a.

    Forward: v[t] or c[t] of each neuron is moved a little, and what follows from it is followed to the end. A spike
    moves by the logistic's slope; the reset stays where it is.
    """
    B, T, N = tape["v"].shape
    R, tau = per_step(R, B, T, N), per_step(tau, B, T, N)
    W = np.zeros((N, N)) if W_rec is None else W_rec
    found = {name: np.zeros((B, T, N)) for name in ("delta", "E")}
    for b, start, name in itertools.product(range(B), range(T), found):
        du, ds, da, dc = (np.zeros((N, N)) for _ in range(4))         # of the neuron moved, of the neuron that follows
        for t in range(start, T):
            moved = np.eye(N) * (t == start)
            dc = (1 - 1 / tau_s) * dc + ds @ W.T + moved * (name == "E")
            dv = (1 - 1 / tau[b, t]) * du + R[b, t] / tau[b, t] * dc + moved * (name == "delta")
            ds = surrogate(tape["v"][b, t], v_th, width) * dv
            du = (1 - tape["s"][b, t]) * dv
            da = (1 - 1 / tau_s) * da + ds
            found[name][b, start] += da @ g[b, t]
    return dict(found, e=R / tau * found["delta"])


def backward_layer(tape, W_rec, R, tau, tau_s, v_th, A_above, slope_cap=8.0, width=0.2, smooth=False):
    """Sections 5 and 6 -> dict of delta, e, E, A, each (B, T, N).

    A_above (B, T, N): A[t] as far as it comes from above, filtered: sum_p w_pr E_p[t] of the next layer,
    or decay_s A[t+1] + g[t] in the output layer.
    """
    B, T, N = tape["v"].shape
    R, tau, decay_s = per_step(R, B, T, N), per_step(tau, B, T, N), 1 - 1 / tau_s
    A, delta0, delta, e, E = (np.zeros((B, T + 1, N)) for _ in range(5))       # index T holds the zeros
    for t in reversed(range(T)):
        A[:, t] = A_above[:, t] + (0 if W_rec is None else E[:, t + 1] @ W_rec)
        p, f = slope_and_carry(tape, t, tau[:, min(t + 1, T - 1)], v_th, slope_cap, width, smooth)
        delta0[:, t] = p * A[:, t] + f * delta0[:, t + 1]
        silent = (tape["a"][:, t] < 0.25) & (not smooth)
        delta[:, t] = np.where(silent, A[:, t] * surrogate(tape["v"][:, t], v_th, width), delta0[:, t])
        e[:, t] = R[:, t] / tau[:, t] * delta[:, t]
        E[:, t] = e[:, t] + decay_s * E[:, t + 1]
    return {name: x[:, :T] for name, x in dict(delta=delta, e=e, E=E, A=A).items()}


def backward_layer_double_sum(tape, W_rec, R, tau, tau_s, v_th, g_above, slope_cap=8.0, width=0.2, smooth=False):
    """The same delta and e from unfiltered g_above (B, T, N), by sums over all later steps.

    K[t, k] = da[k]/dv[t] through the neuron itself: decay_s^(k-t) of the spike at t, and whatever
    v[t+1] does to a[k].  delta0[t] = sum_{k >= t} g[k] K[t, k],  A[t] = sum_{k >= t} decay_s^(k-t) g[k].
    """
    B, T, N = tape["v"].shape
    R, tau, decay_s = per_step(R, B, T, N), per_step(tau, B, T, N), 1 - 1 / tau_s
    K = np.zeros((T + 1, T, B, N))
    g, delta, e = np.zeros((B, T, N)), np.zeros((B, T, N)), np.zeros((B, T + 1, N))
    for t in reversed(range(T)):
        g[:, t] = g_above[:, t] + (0 if W_rec is None else e[:, t + 1] @ W_rec)
        p, f = slope_and_carry(tape, t, tau[:, min(t + 1, T - 1)], v_th, slope_cap, width, smooth)
        A, delta0 = np.zeros((B, N)), np.zeros((B, N))
        for k in range(t, T):
            K[t, k] = p * decay_s ** (k - t) + f * K[t + 1, k]
            A += decay_s ** (k - t) * g[:, k]
            delta0 += g[:, k] * K[t, k]
        silent = (tape["a"][:, t] < 0.25) & (not smooth)
        delta[:, t] = np.where(silent, A * surrogate(tape["v"][:, t], v_th, width), delta0)
        e[:, t] = R[:, t] / tau[:, t] * delta[:, t]
    return dict(delta=delta, e=e[:, :T])


def filter_back(g, tau_s):
    """A[t] = g[t] + decay_s A[t+1], (B, T, N) -> (B, T, N): psc() run from the end."""
    return psc(g[:, ::-1], tau_s)[:, ::-1]


def network_forward(X, layers, tau_s, smooth=False, width=0.2):
    """-> one forward_layer dict per layer; feedforward synapses have no delay."""
    tapes, s = [], X
    for layer in layers:
        if layer.get("windows"):
            v, sums = integrate(s, layer["W_in"], layer["windows"], tau_s)
            tapes.append(dict(v=v, a=v, sums=sums))
            continue
        tapes.append(forward_layer(s, layer["W_in"], layer["W_rec"], layer["R"], layer["tau"], tau_s,
                                   layer["v_th"], smooth, width))
        s = tapes[-1]["s"]
    return tapes


def network_loss(a_out, Y, tau_s, loss="psc", period=1, scale=0.02):
    """-> (batch mean, g (B, T, O))."""
    return loss_psc(a_out, Y, tau_s, period) if loss == "psc" else loss_cross_entropy(a_out, Y, scale)


def network_gradients(X, Y, layers, tau_s, loss="psc", period=1, scale=0.02, slope_cap=8.0, width=0.2,
                      smooth=False, double_sum=False, rule="tssl-bp"):
    """Forward and backward of the whole stack; with rule "surrogate" by double sums.

    -> dict: loss; pred (B,); and a list with one entry per layer of tapes, spikes (B, T, N), delta (B, T, N)
    (of each sample's own loss), dW_in (N, C) and dW_rec (N, N) or None (of the batch mean).
    """
    X = np.asarray(X, float)
    B, T, _ = X.shape
    double_sum = double_sum or rule == "surrogate"
    tapes = network_forward(X, layers, tau_s, smooth, width)
    value, g = network_loss(tapes[-1]["a"], Y, tau_s, loss, period, scale)
    n = len(layers)
    delta, dW_in, dW_rec = [None] * n, [None] * n, [None] * n
    above = g if double_sum else filter_back(g, tau_s)
    for l in reversed(range(n)):
        layer, tape = layers[l], tapes[l]
        if layer.get("windows"):
            dW_in[l] = sum(g[b, 0][:, None] * tape["sums"][b].reshape(1, -1) for b in range(B)) / B
            da = integrate_back(g, layer["W_in"], layer["windows"], T)
            above = da if double_sum else filter_back(da, tau_s)
            continue
        backward = backward_layer_double_sum if double_sum else backward_layer
        neurons = layer["W_rec"], layer["R"], layer["tau"], tau_s, layer["v_th"]
        back = (through_time(tape, above, *neurons, width) if rule == "surrogate" else
                backward(tape, *neurons, above, slope_cap, width, smooth))
        delta[l] = back["delta"]
        s_in = tapes[l - 1]["s"] if l > 0 else X
        # Section 6: the sending spike times the filtered error; its definition: the error times the sending PSC.
        send, err = (psc_double_sum(s_in, tau_s), back["e"]) if double_sum else (s_in, back["E"])
        dW_in[l] = sum(err[b, t][:, None] * send[b, t][None, :] for b in range(B) for t in range(T)) / B
        if layer["W_rec"] is not None:
            send = tape["a"] if double_sum else tape["s"]
            dW_rec[l] = sum((err[b, t + 1][:, None] * send[b, t][None, :] for b in range(B) for t in range(T - 1)),
                            np.zeros(layer["W_rec"].shape)) / B
        above = err @ layer["W_in"]                        # sum_p w_pr E_p[t] (or e_p[t]) for the layer below
    return dict(loss=value, pred=decide(tapes[-1]["a"]), tapes=tapes, spikes=[x["s"] for x in tapes if "s" in x],
                delta=delta, dW_in=dW_in, dW_rec=dW_rec)


# --- section 7: the supernet and its second-order alpha gradient ----------------------------------------
# A supernet layer has, besides W_in, R, tau, v_th: sizes, alpha_size, alphas, w_exc and, where they are not
# the default, inter and tied. A layer without "sizes" is an ordinary one with its W_rec, a weight like W_in.

def relaxation_of(layer):
    return dict(N=len(layer["W_in"]), sizes=layer["sizes"], alpha_size=layer["alpha_size"], alphas=layer["alphas"],
                w_exc=layer["w_exc"], inter=layer.get("inter", True), tied=layer.get("tied", True))


def weight_names(layer):
    names = ["W_in", "w_exc" if "sizes" in layer else "W_rec"]
    return [name for name in names if layer[name] is not None]


def supernet_gradients(X, Y, layers, tau_s, **settings):
    """-> (loss, grads): per layer a dict of W_in, w_exc or W_rec, alpha_size, alphas, shaped as the layer's."""
    plain = [dict(x, W_rec=effective_matrix(**relaxation_of(x))) if "sizes" in x else x for x in layers]
    out = network_gradients(X, Y, plain, tau_s, **settings)
    grads = []
    for layer, dW_in, dW_rec in zip(layers, out["dW_in"], out["dW_rec"]):
        relaxed = relaxation_gradients(dW_rec, **relaxation_of(layer)) if "sizes" in layer else dict(W_rec=dW_rec)
        grads.append(dict(relaxed, W_in=dW_in))
    return out["loss"], grads


def moved(layers, step, grads):
    """w + step * grads for every weight; alpha stays, and the layers given are left as they are."""
    return [dict(x, **{name: x[name] + step * g[name] for name in weight_names(x)}) for x, g in zip(layers, grads)]


def weights_norm(layers, grads):
    return global_norm([g[name] for x, g in zip(layers, grads) for name in weight_names(x)])


def hyper_gradient(train, valid, layers, tau_s, eta, clip_norm=None, **settings):
    """[12-14]. train, valid: (X, Y). -> dict: loss (L_valid at w'), eps, grads (per supernet layer alpha_size, alphas).

    clip_norm: the global norm to which the gradient inside w' is clipped; None leaves it alone.
    """
    _, grad = supernet_gradients(*train, layers, tau_s, **settings)
    norm = weights_norm(layers, grad)
    factor = 1.0 if clip_norm is None or norm <= clip_norm else clip_norm / norm
    loss, D = supernet_gradients(*valid, moved(layers, -eta * factor, grad), tau_s, **settings)
    eps = 0.01 / weights_norm(layers, D)
    _, plus = supernet_gradients(*train, moved(layers, +eps, D), tau_s, **settings)
    _, minus = supernet_gradients(*train, moved(layers, -eps, D), tau_s, **settings)

    def combine(d, p, m):
        if isinstance(d, dict):
            return {key: combine(d[key], p[key], m[key]) for key in d}
        return d - eta / (2 * eps) * (p - m)

    alpha = ("alpha_size", "alphas")
    grads = [{key: combine(d[key], p[key], m[key]) for key in alpha} if "sizes" in layer else None
             for layer, d, p, m in zip(layers, D, plus, minus)]
    return dict(loss=loss, eps=eps, grads=grads)


# --- section 8: SpiKL-IP -------------------------------------------------------------------------------------

def kl_loss(R, tau, x, mu, v_th):
    """The loss whose descent SpiKL-IP is: one neuron, constant input x with R x > v_th."""
    Wc = R * x - v_th
    y = 1 / (tau * math.log(R * x / Wc))
    return -math.log(v_th * tau * y ** 2 / (x * Wc)) + y / mu


def spikl_ip_update(R, tau, y, v_th, tau_m, gamma, mu):
    """One neuron, one step -> new R, tau, both from the old ones, then clipped."""
    if y * tau <= 0.64:
        new_R, new_tau = R + 0.1 * gamma, tau - 0.1 * gamma
    else:
        Wc = v_th / (math.exp(1 / (tau * y)) - 1)
        new_R = R + gamma * (2 * y * tau * v_th - Wc - v_th - tau * v_th * y ** 2 / mu) / (R * Wc)
        new_tau = tau + gamma * (y / mu - 1) / tau
    return min(max(new_R, tau_m / 2), 8 * tau_m), min(max(new_tau, tau_m / 2), 8 * tau_m)


def spikl_ip_window(s_in, W_in, W_rec, R, tau, tau_s, v_th, tau_m, tau_cal, gamma, mu):
    """One layer with IP on; every sample adapts its own copy of R, tau (N,).

    -> dict: s, R, tau (B, T, N) (R, tau as step t used them), R_copies, tau_copies (B, N) (left by the last
    step), R_end, tau_end (N,) (their means).
    """
    s_in = np.asarray(s_in, float)
    (B, T, _), N, decay_s = s_in.shape, len(W_in), 1 - 1 / tau_s
    s, R_used, tau_used = (np.zeros((B, T, N)) for _ in range(3))
    R_copies, tau_copies = np.array([R] * B, float), np.array([tau] * B, float)
    for b in range(B):
        R_now, tau_now = R_copies[b], tau_copies[b]        # views: they are updated in place
        c, u, phi, s_prev = np.zeros(N), np.zeros(N), np.zeros(N), np.zeros(N)
        for t in range(T):
            R_used[b, t], tau_used[b, t] = R_now, tau_now
            c = decay_s * c + W_in @ s_in[b, t] + (0 if W_rec is None else W_rec @ s_prev)
            v = (1 - 1 / tau_now) * u + R_now / tau_now * c
            s_prev = s[b, t] = (v > v_th).astype(float)
            u = v * (1 - s_prev)
            phi = (1 - 1 / tau_cal) * phi + s_prev
            for i in range(N):
                R_now[i], tau_now[i] = spikl_ip_update(R_now[i], tau_now[i], phi[i] / tau_cal, v_th, tau_m, gamma, mu)
    return dict(s=s, R=R_used, tau=tau_used, R_copies=R_copies, tau_copies=tau_copies,
                R_end=sum(R_copies) / B, tau_end=sum(tau_copies) / B)


def spikl_ip_network(X, layers, tau_s, tau_m, tau_cal, gamma, mu):
    """IP in every recurrent layer of the stack at once -> per layer the window's dict; a feedforward one: its tape."""
    out, s = [], X
    for x in layers:
        if x["W_rec"] is None:
            out.append(forward_layer(s, x["W_in"], None, x["R"], x["tau"], tau_s, x["v_th"]))
        else:
            out.append(spikl_ip_window(s, x["W_in"], x["W_rec"], x["R"], x["tau"], tau_s, x["v_th"],
                                       tau_m, tau_cal, gamma, mu))
        s = out[-1]["s"]
    return out
