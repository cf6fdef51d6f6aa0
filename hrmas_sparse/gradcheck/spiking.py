"""The spiking pass against what defines it: sums over all earlier and later steps, in plain loops.

The engine filters once a step, forward and back (mathematics 1, 5, 6). Here nothing is filtered: a psc is the sum
over all earlier spikes, an error the sum over all later effects (TSSL-BP, equations 20-22), and nothing is
shared with the engine. One sample at a time; T steps, N neurons, C senders.
"""

import numpy as np

from hrmas_sparse.engine.layers import Recurrent
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.engine.recurrence import Free, motif_connections
from hrmas_sparse.gradcheck.lines import Line, relative_error
from hrmas_sparse.gradcheck.problems import (
    CLASSES,
    FEW,
    MANY,
    TAU_M,
    TAU_S,
    V_TH,
    Problem,
    loss_named,
    network_of,
    random_events,
    random_intrinsic,
)

BOUND = 1e-9
BATCH, STEPS, INPUTS = 18, 14, 8
CAP, WIDTH = 2.0, 0.2  # slope cap and surrogate width, in units of 1/v_th and v_th
PERIOD = 2
DECAY_S = 1 - 1 / TAU_S


def psc_sum(spikes):
    """a[t] = sum over k <= t of decay_s^(t - k) s[k]; (T, N)."""
    return np.array([sum(DECAY_S ** (t - k) * spikes[k] for k in range(t + 1)) for t in range(len(spikes))])


def forward_sum(psc_in, w, W, R, tau, v_th):
    """A layer's v, spikes and psc, (T, N), from the psc it receives, (T, C); W is [target, source]."""
    steps, neurons = len(psc_in), w.shape[1]
    v, s, a = (np.zeros((steps, neurons)) for _ in range(3))
    for t in range(steps):
        for i in range(neurons):
            c = sum(w[:, i] * psc_in[t]) + (sum(W[i] * a[t - 1]) if t else 0)
            u = v[t - 1, i] * (1 - s[t - 1, i]) if t else 0
            v[t, i] = (1 - 1 / tau[t, i]) * u + R[t, i] / tau[t, i] * c
            s[t, i] = v[t, i] > v_th
            a[t, i] = sum(DECAY_S ** (t - k) * s[k, i] for k in range(t + 1))
    return v, s, a


def error_sum(t, v, s, a, tau, g, v_th):
    """delta[t] of one neuron from g = dL/da, all (T,): the sum over every later step (mathematics 5 unrolled).

    A change of v[t] moves the spikes at all m >= t that the neuron's own resets and leaks carry it to (the
    product of ``carry``), each by ``move[m]``, and a moved spike changes every later a[k].
    """
    steps = len(v)
    if a[t] < 0.25:
        z = np.clip((v[t] - v_th) / (WIDTH * v_th), -8, 8)
        slope = np.exp(-z) / (1 + np.exp(-z)) ** 2 / (WIDTH * v_th)
        return slope * sum(DECAY_S ** (k - t) * g[k] for k in range(t, steps))
    move, carry = np.zeros(steps), np.zeros(steps)
    for m in range(t, steps):
        u = v[m - 1] * (1 - s[m - 1]) if m else 0
        move[m] = min(1 / (v[m] - u), CAP / v_th) if s[m] else 0
        tau_next = tau[m + 1] if m + 1 < steps else np.inf
        carry[m] = move[m] * v[m] / tau_next if s[m] else 1 - 1 / tau_next
    return sum(g[k] * np.prod(carry[t:m]) * move[m] * DECAY_S ** (k - m)
               for k in range(t, steps) for m in range(t, k + 1))


def backward_sum(layer, tau, gain, W, v_th, effect):
    """delta and e = gain delta of a layer, (T, N), from dL/da through the layers above, (T, N)."""
    v, s, a = layer
    g, delta, e = effect.copy(), np.zeros(v.shape), np.zeros((len(v) + 1, v.shape[1]))
    for t in range(len(v) - 1, -1, -1):
        for i in range(v.shape[1]):
            g[t, i] += sum(W[:, i] * e[t + 1])
        for i in range(v.shape[1]):
            delta[t, i] = error_sum(t, v[:, i], s[:, i], a[:, i], tau[:, i], g[:, i], v_th)
        e[t] = gain[t] * delta[t]
    return delta, e[:-1]


def sample_sums(dense, label, stack):
    """Loss, gradients by w and W, and v, spikes, delta of each layer, for one sample.

    stack : list of (w, W, R, tau, v_th), R and tau (T, N)
    """
    received, layers = [psc_sum(dense)], []
    for w, W, R, tau, v_th in stack:
        layers.append(forward_sum(received[-1], w, W, R, tau, v_th))
        received.append(layers[-1][2])
    wanted = np.zeros((STEPS, CLASSES))
    wanted[PERIOD - 1::PERIOD, label] = 1
    effect = received[-1] - psc_sum(wanted)
    sums = {"loss": 0.5 * (effect**2).sum()}
    for n in range(len(stack), 0, -1):
        w, W, R, tau, v_th = stack[n - 1]
        delta, e = backward_sum(layers[n - 1], tau, R / tau, W, v_th, effect)
        sums[f"w, layer {n}"] = sum(np.outer(received[n - 1][t], e[t]) for t in range(STEPS))
        sums[f"W, layer {n}"] = sum(np.outer(e[t + 1], layers[n - 1][2][t]) for t in range(STEPS - 1))
        v, s, _ = layers[n - 1]
        sums |= {f"v, layer {n}": v, f"spikes, layer {n}": s, f"delta, layer {n}": delta}
        u = np.concatenate([np.zeros_like(v[:1]), (v * (1 - s))[:-1]])
        sums |= {f"ln R, layer {n}": (delta * (v - (1 - 1 / tau) * u)).sum(axis=0),
                 f"ln tau, layer {n}": (delta * (u - v)).sum(axis=0)}
        effect = e @ w.T
    return sums


def problem(backend, trajectory, seed=5):
    """Two recurrent layers and an output layer; R and tau constant, or along trajectories."""
    rng = np.random.default_rng(seed)
    layers = []
    for size, motif, v_th in ((8, 4, V_TH), (6, 3, 1.5 * V_TH)):
        pattern = motif_connections(size, motif)
        layers.append(Recurrent(Free(size, pattern.source, pattern.target), v_th / TAU_S))
    net = network_of(INPUTS, layers, backend, loss_named("psc", PERIOD), slope_cap=CAP)
    sizes = [INPUTS, *(layer.size for layer in net.layers)]
    mean = 0.4 if trajectory else 1.5  # so that about half of the neurons are silent at a time
    parameters = Parameters({"w": rng.standard_normal(pair) + mean} for pair in zip(sizes, sizes[1:]))
    for layer, arrays in zip(net.hidden, parameters.layers):
        arrays.w_rec = rng.uniform(-0.6, 0.4, layer.recurrence.source.size)
    leading = [(BATCH, STEPS), (STEPS,)] if trajectory else [(), ()]
    events = random_events(rng, BATCH, STEPS, INPUTS, trajectory, MANY if trajectory else FEW)
    return Problem(net, parameters.replaced(random_intrinsic(rng, net.hidden, leading)), events)


def _stack(net, parameters, sample):
    """The layers as :func:`sample_sums` takes them."""
    stack = []
    for layer, arrays in zip(net.layers, parameters.layers):
        R, tau = (arrays.get(name, np.array(TAU_M)) for name in INTRINSIC)
        R, tau = (np.broadcast_to(x[sample] if x.ndim == 3 else x, (STEPS, layer.size)) for x in (R, tau))
        W = np.zeros((layer.size, layer.size))
        if layer.recurrence is not None:
            W[layer.recurrence.target, layer.recurrence.source] = arrays.w_rec
        stack.append((arrays.w, W, R, tau, layer.v_th))
    return stack


def expected(net, parameters, events):
    """What every sample's sums say, as a list of dicts."""
    samples = []
    for b in range(len(events)):
        where = slice(events.indptr[b], events.indptr[b + 1])
        dense = np.zeros((STEPS, INPUTS))
        dense[events.step[where], events.channel[where]] = events.value[where]
        samples.append(sample_sums(dense, events.labels[b], _stack(net, parameters, b)))
    return samples


def lines(backend):
    """Forward and backward, with constant and with moving R and tau."""
    rows = []
    for trajectory, title in ((False, "R, tau constant"), (True, "R, tau moving")):
        net, parameters, events = problem(backend, trajectory)
        outcome = net.gradients(parameters, events, record=True, intrinsic=not trajectory)
        sums = expected(net, parameters, events)
        mean = {key: sum(s[key] for s in sums) / BATCH for key in sums[0]}
        pairs = [("loss", outcome.loss, mean["loss"])]
        for n, (layer, gradients) in enumerate(zip(net.layers, outcome.gradients.layers), start=1):
            for key in ("v", "spikes", "delta"):
                title_n = f"{key}, layer {n}"
                pairs.append((title_n, outcome.records[n - 1][key], np.array([s[title_n] for s in sums])))
            pairs.append((f"gradient of w, layer {n}", gradients.w, mean[f"w, layer {n}"]))
            if layer.recurrence is not None:
                links = mean[f"W, layer {n}"][layer.recurrence.target, layer.recurrence.source]
                pairs.append((f"gradient of W, layer {n}", gradients.w_rec, links))
            pairs += [(f"gradient of ln {name}, layer {n}", gradients[name], mean[f"ln {name}, layer {n}"])
                      for name in INTRINSIC if name in gradients]
        rows += [Line(f"spiking, {title}: {what}", "double sums over all steps", relative_error(a, b), BOUND)
                  for what, a, b in pairs]
    return rows
