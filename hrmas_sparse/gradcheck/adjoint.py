"""The linear pieces against their transposes: <y, A x> = <A^T y, x> to rounding.

Every piece is reached through the backend's interface. With tau_s = 1 the synaptic filter passes everything
on unchanged, with tau = 1 the membrane forgets at once, with gain 1 its potential is its current: what is
left is v[t] = sum_c w s_in[t] + sum_r W s[t-1].

Shapes: b samples, T steps, C senders, N neurons.
"""

import numpy as np

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.backends.base import Gradients, Intrinsic, Neurons, Synapses
from hrmas_sparse.engine.recurrence import Discrete, Links, Relaxed, motif_connections
from hrmas_sparse.gradcheck.lines import Line
from hrmas_sparse.gradcheck.problems import FEW, MANY, TAU_S, random_events

BOUND = 1e-12
BATCH, STEPS, INPUTS, NEURONS = 19, 12, 7, 12
FAR = 1e6  # a threshold nobody reaches


def disagreement(left, right):
    """How far two inner products, given as pairs of arrays, are apart, in units of the arrays' lengths."""
    products = [sum((a * b).sum() for a, b in pairs) for pairs in (left, right)]
    length = max(sum(np.linalg.norm(a) * np.linalg.norm(b) for a, b in pairs) for pairs in (left, right))
    return float(abs(products[0] - products[1]) / length) if length else np.inf


class Pieces:
    """One layer's linear pieces on random numbers, one instance per chunk."""

    def __init__(self, backend, chunk, w, links, seed):
        self.backend, self.chunk, self.size = backend, chunk, len(chunk.labels)
        self.w, self.links = w, links
        self.rng = np.random.default_rng((seed, chunk.first))

    def layer(self, w, links, tau_s=1.0, v_th=FAR):
        """A layer of neurons that do nothing but filter and fire."""
        k = neuron.constants("float64", tau_s, v_th, 1.0, 1.0)
        return self.backend.layer(1, Neurons(k), Synapses(w, links), Intrinsic(np.ones(NEURONS), np.ones(NEURONS)))

    def forward(self, layer):
        """Run a layer: tape, v (b, T, N), spikes (b, T, N)."""
        tape = layer.forward(self.chunk, self.chunk.spikes)
        return tape, self.backend.unpack(tape.v, self.size), self.backend.unpack(tape.spikes, self.size)

    def random(self):
        """Errors at random, (b, T, N)."""
        return self.rng.standard_normal((self.size, STEPS, NEURONS))

    def received(self):
        """What the layer receives, (b, T, C)."""
        return self.backend.unpack(self.chunk.spikes, self.size)


def _no_links():
    return Links(np.zeros(NEURONS + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0))


def feedforward(p, tau_s):
    """w, and the synaptic filter after it: forward against effect_below after the filter run backwards."""
    layer, y = p.layer(p.w, _no_links(), tau_s), p.random()
    tape, v, _ = p.forward(layer)
    below = layer.effect_below(layer.effect_of_loss(tape, y).errors)
    return (y, v), (p.backend.unpack(below, p.size), p.received())


def weight_gradients(p):
    """(w, W) -> v of given spikes, against the gradients of w and of the links' weights."""
    layer = p.layer(p.w, p.links, v_th=1.0)
    tape, v, _ = p.forward(layer)
    y, dw, dlinks = p.random(), np.zeros_like(p.w), np.zeros_like(p.links.data)
    layer.weight_gradients(tape, layer.effect_of_loss(tape, y).errors, Gradients(dw, dlinks))
    return (y, v), (dw, p.w), (dlinks, p.links.data)


def recurrence(p):
    """W s[t-1] against what backward adds to the effect of a spike at t-1.

    Without input nobody spikes, v is 0 and every error at v is the same multiple of the effect: errors show
    the effects.
    """
    _, without, _ = p.forward(p.layer(p.w, _no_links(), v_th=1.0))
    _, v, spikes = p.forward(p.layer(p.w, p.links, v_th=1.0))
    silent, y = p.layer(np.zeros_like(p.w), p.links, v_th=1.0), p.random()
    tape, _, _ = p.forward(silent)
    nothing = Gradients(p.w[:0], p.links.data[:0])
    _, delta = silent.backward(tape, silent.effect_of_loss(tape, y), nothing, keep_delta=True)
    errors = p.backend.unpack(delta, p.size)
    slope = np.exp(-1) / (1 + np.exp(-1)) ** 2
    return (errors, v - without), (errors / slope - y, spikes)


def simulated(backend, real, share):
    """Lines of the pieces that run on the backend, for one kind of input."""
    rng = np.random.default_rng(7)
    events = random_events(rng, BATCH, STEPS, INPUTS, real, share)
    pattern = motif_connections(NEURONS, 4)
    indptr = np.searchsorted(pattern.source, np.arange(NEURONS + 1)).astype(np.int64)
    links = Links(indptr, pattern.target.astype(np.uint32), rng.uniform(-1, 1, pattern.source.size))
    w = rng.standard_normal((INPUTS, NEURONS)) + 0.3
    kind = f"{'few' if share == FEW else 'many'} {'real' if real else 'binary'} events"
    checks = (
        (f"feedforward, {kind}", "its transpose", lambda p: feedforward(p, 1.0)),
        (f"feedforward and filter, {kind}", "its transpose, filter reversed", lambda p: feedforward(p, TAU_S)),
        (f"weights to current, {kind}", "weight gradients", weight_gradients),
        (f"recurrence, {kind}", "recurrent part of backward", recurrence),
    )
    rows = []
    for what, against, check in checks:
        left, right = [], []
        for chunk in backend.pack(events, np.dtype("float64")):
            first, *others = check(Pieces(backend, chunk, w, links, 8))
            left.append(first)
            right += others
        rows.append(Line(f"adjoint: {what}", against, disagreement(left, right), BOUND))
    return rows


def relaxed():
    """Lines of the relaxation: weights of the links as a function of w_exc, against the pullback."""
    rng = np.random.default_rng(9)
    kinds = {"tied": Relaxed(24, (2, 3, 4, 6), alpha_scale=1.0),
             "untied": Relaxed(24, (2, 3, 4, 6), tied=False, alpha_scale=1.0),
             "no inter-motif links": Relaxed(24, (2, 3, 4, 6), inter=False, alpha_scale=1.0),
             "one architecture": Discrete(Architecture(24, 4, True, rng.integers(3, size=24).astype(np.int8)))}
    rows = []
    for name, kind in kinds.items():
        arrays = kind.initial(np.float64, rng)
        arrays["w_exc"] = rng.standard_normal(arrays["w_exc"].shape)
        g = rng.standard_normal(kind.source.size)
        shifted = kind.effective(arrays) - kind.effective(arrays | {"w_exc": np.zeros_like(arrays["w_exc"])})
        pair = g, shifted
        rows.append(Line(f"adjoint: w_exc to links, {name}", "its pullback",
                          disagreement([pair], [(kind.pullback(arrays, g)["w_exc"], arrays["w_exc"])]), BOUND))
    return rows


def lines(backend):
    """All adjoint tests."""
    kinds = [(real, share) for real in (False, True) for share in (FEW, MANY)]
    return [line for kind in kinds for line in simulated(backend, *kind)] + relaxed()
