"""The same learning rule in PyTorch, as fast as we can write it: dense, and in blocks of one motif.

Forward and backward are written by hand, so autograd keeps nothing. The network runs in spans of SPAN steps:
the products with input and output weights and all weight gradients are one GEMM a span (with 1,000 rows and more,
so as good as one over all steps, and the operands are still in cache); inside a span the steps follow each other
on (B, N). A span is a plain function of tensors, which torch.compile unrolls and fuses; uncompiled, the same
operations run one by one. Errors never exist for more than a span; only v, the spikes and the gate are kept.

Dense recurrence is one GEMM a step with an (N, N) matrix that is zero outside the pattern. Blocks is one batched
GEMM with the (M, v, v) matrices of the motifs; it leaves out the links between motifs.

On a GPU the same source runs on other tensors; a step there never waits for the device, so that it can be captured
as a CUDA graph.
"""

from typing import NamedTuple

import numpy as np
import torch

from runs.bench import workloads as w
from runs.bench.peers.common import on

SPAN = 10           # steps; on a CPU what a span works on stays in the cache
COMPILED_SPAN = 20  # on a GPU launches count, and what is compiled is unrolled


def span_of(device, compiled, steps):
    """How many steps a span has: a GPU has no use for short ones, unless every step has to be compiled."""
    if device == "cpu":
        return SPAN
    return COMPILED_SPAN if compiled else steps


class Neuron(NamedTuple):
    """Constants of a layer."""

    decay_s: float
    decay_m: float
    v_th: float
    cap: float
    inv_width: float


def _neuron(v_th):
    return Neuron(1 - 1 / w.TAU_S, 1 - 1 / w.TAU_M, v_th, w.CAP / v_th, 1 / (w.WIDTH * v_th))


class Feedforward:
    """No recurrence."""

    @staticmethod
    def add(current, sent, weights):
        """Current of a step from the spikes of the step before."""
        return current

    @staticmethod
    def add_back(effect, error, weights):
        """Effect of a spike through the errors of the step after."""
        return effect

    @staticmethod
    def gradient(gradient, sent, errors):
        """Add what a span's spikes and the errors one step later contribute."""


class Dense(Feedforward):
    """Weights (N, N), row = sender."""

    @staticmethod
    def add(current, sent, weights):
        return torch.addmm(current, sent, weights)

    @staticmethod
    def add_back(effect, error, weights):
        return torch.addmm(effect, error, weights.t())

    @staticmethod
    def gradient(gradient, sent, errors):
        gradient.addmm_(sent.flatten(0, 1).t(), errors.flatten(0, 1))


class Blocks(Feedforward):
    """Weights (M, v, v), one matrix a motif, row = sender. bmm takes strided operands as they are."""

    @staticmethod
    def _product(rows, weights):
        blocks = rows.view(rows.shape[0], weights.shape[0], weights.shape[1]).transpose(0, 1)
        return torch.bmm(blocks, weights).transpose(0, 1).reshape(rows.shape)

    @staticmethod
    def add(current, sent, weights):
        return current + Blocks._product(sent, weights)

    @staticmethod
    def add_back(effect, error, weights):
        return effect + Blocks._product(error, weights.transpose(1, 2))

    @staticmethod
    def gradient(gradient, sent, errors):
        shape = (sent.shape[0] * sent.shape[1], gradient.shape[0], gradient.shape[1])
        gradient += torch.bmm(sent.view(shape).permute(1, 2, 0), errors.view(shape).transpose(0, 1))


def _forward(k, links, currents, weights, state):
    """A span forward: v, spikes and psc of every step, and the state after."""
    c, u, a, sent = state
    kept = []
    for current in currents.unbind(0):
        c = torch.add(links.add(current, sent, weights), c, alpha=k.decay_s)
        v = torch.add(c, u, alpha=k.decay_m)
        sent = (v > k.v_th).to(v.dtype)
        u = torch.addcmul(v, v, sent, value=-1)
        a = torch.add(sent, a, alpha=k.decay_s)
        kept.append((v, sent, a))
    v, spikes, psc = (torch.stack(each) for each in zip(*kept))
    return v, spikes, psc, (c, u, a, sent)


def _backward(k, links, v, spikes, silent, before, effects, weights, state):
    """A span backward: filtered errors of every step, and the state before it.

    Products with 0 and 1 and lerp choose between cases: masked_fill and where are several times slower.
    """
    carried, error = state
    errors = []
    for t in range(len(v) - 1, -1, -1):
        effect = links.add_back(effects[t], error, weights)
        last, sent_last = (v[t - 1], spikes[t - 1]) if t else before
        rate = (v[t] - torch.addcmul(last, last, sent_last, value=-1)).reciprocal().clamp(0, k.cap)
        moved = rate * torch.addcmul(effect, v[t], carried, value=1 - k.decay_m)
        carried = torch.lerp(carried * k.decay_m, moved, spikes[t])
        e = torch.sigmoid(((v[t] - k.v_th) * k.inv_width).clamp(-8, 8))
        found = torch.lerp(carried, effect * torch.addcmul(e, e, e, value=-1) * k.inv_width, silent[t].to(v.dtype))
        error = torch.add(found, error, alpha=k.decay_s)
        errors.append(error)
    return torch.stack(errors[::-1]), (carried, error)


def _compiled(function):
    """Compile a span. Left to itself, the compiler computes a step's state again in every step that follows."""
    return torch.compile(function, fullgraph=True, dynamic=False,
                         options={"realize_reads_threshold": 1, "realize_opcount_threshold": 4})


class Step:
    """One training step of a network of one hidden layer; see :func:`make`."""

    def __init__(self, problem, threads, dtype, compiled, links, device):
        torch.set_num_threads(threads)
        self.meta, self.links = problem["meta"], links
        self.kind = {"dtype": getattr(torch, dtype), "device": device}
        self.x = on(device, w.dense_input(problem, dtype))
        self.desired = on(device, w.desired_psc(problem, dtype))
        self.parameters = {key[2:]: on(device, value.astype(dtype)) for key, value in problem.items()
                           if key.startswith("p.")}
        self.relaxation = Relaxation(problem, self.parameters, device) if links is not Feedforward else None
        self.matrix = self._matrix(problem)
        self.forward, self.backward = (_compiled(f) if compiled else f for f in (_forward, _backward))
        self.span = span_of(device, compiled, self.meta["steps"])

    def _matrix(self, problem):
        """The recurrence's weights, zero, and where in them the links are."""
        if self.links is Feedforward:
            return None
        n, size = self.meta["hidden"], self.meta["motif"]
        source, target = (on(self.kind["device"], problem[key]) for key in ("source", "target"))
        if self.links is Dense:
            self.places = source, target
            return torch.zeros(n, n, **self.kind)
        self.places = source // size, source % size, target % size
        return torch.zeros(n // size, size, size, **self.kind)

    def _zeros(self, neurons, count):
        return tuple(torch.zeros(self.meta["samples"], neurons, **self.kind) for _ in range(count))

    @torch.no_grad()
    def step(self):
        """Forward, loss, all gradients."""
        if self.relaxation:
            self.matrix[self.places] = self.relaxation.weights()
        tapes, self.loss = self._run()
        found = {name: torch.zeros_like(self.parameters[name]) for name in ("w1", "w_out")}
        rec = torch.zeros_like(self.matrix) if self.relaxation else None
        self._back(tapes, found, rec)
        for name in found:
            found[name] /= self.meta["samples"]
        if self.relaxation:
            found |= self.relaxation.pullback(rec[self.places] / self.meta["samples"])
        return found

    def gradients(self):
        """Gradients as arrays, named as the problem's parameters are."""
        found = self.step()
        return {name: value.cpu().numpy() for name, value in found.items()}

    def _run(self):
        """All spans forward; returns their tapes and the loss."""
        n, o, samples, steps = (self.meta[key] for key in ("hidden", "outputs", "samples", "steps"))
        hidden, out, tapes, loss = self._zeros(n, 4), self._zeros(o, 4), [], 0.0
        for t in range(0, steps, self.span):
            currents = (self.x[t:t + self.span].flatten(0, 1) @ self.parameters["w1"]).unflatten(0, (-1, samples))
            v, s, psc, hidden = self.forward(HIDDEN, self.links, currents, self.matrix, hidden)
            tape = v, s, psc < 0.25
            currents = (s.flatten(0, 1) @ self.parameters["w_out"]).unflatten(0, (-1, samples))
            v, s, psc, out = self.forward(OUTPUT, Feedforward, currents, None, out)
            error = psc - self.desired[t:t + self.span]
            loss = loss + 0.5 * torch.vdot(error.flatten(), error.flatten())
            tapes.append((*tape, v, s, psc < 0.25, error))
        return tapes, loss / self.meta["samples"]

    def _back(self, tapes, found, rec):
        """All spans backward, adding to the gradients."""
        n, o = self.meta["hidden"], self.meta["outputs"]
        hidden, out, effect = self._zeros(n, 2), self._zeros(o, 2), self._zeros(o, 1)[0]
        start, start_out = self._zeros(n, 2), self._zeros(o, 2)
        while tapes:
            v, s, silent, v_out, s_out, silent_out, psc_error = tapes.pop()
            t = len(tapes) * self.span
            for i in range(len(psc_error) - 1, -1, -1):  # A[t] = g[t] + decay A[t+1]
                effect = psc_error[i].add_(effect, alpha=OUTPUT.decay_s)
            before, before_out = start, start_out
            if tapes:
                before, before_out = ((tapes[-1][i][-1], tapes[-1][i + 1][-1]) for i in (0, 3))
            errors, out = self.backward(OUTPUT, Feedforward, v_out, s_out, silent_out, before_out, psc_error, None, out)
            flat = errors.flatten(0, 1)
            found["w_out"].addmm_(s.flatten(0, 1).t(), flat)
            effects = (flat @ self.parameters["w_out"].t()).unflatten(0, s.shape[:2])
            later = hidden[1]
            errors, hidden = self.backward(HIDDEN, self.links, v, s, silent, before, effects, self.matrix, hidden)
            found["w1"].addmm_(self.x[t:t + self.span].flatten(0, 1).t(), errors.flatten(0, 1))
            if rec is not None:  # a spike meets the error of the step after
                self.links.gradient(rec, s[:-1], errors[1:])
                self.links.gradient(rec, s[-1:], later[None])


HIDDEN, OUTPUT = _neuron(w.V_TH), _neuron(w.V_TH_OUT)


class Relaxation:
    """Weights of the links from the parameters, and back. Autograd does the chain rule of the supernet."""

    def __init__(self, problem, parameters, device):
        self.inhibitory, self.excitatory = -2.0, None
        if "excitatory" in problem:  # indices: a GPU would have to be asked how many places a mask has
            self.excitatory = on(device, np.flatnonzero(problem["excitatory"]))
        self.own = {name: value.requires_grad_(self.excitatory is None) for name, value in parameters.items()
                    if name.startswith("rec1.")}
        self.sizes = problem["meta"]["sizes"]
        if self.excitatory is None:
            self.rows = {v: on(device, problem[f"rows_{v}"]) for v in self.sizes}
            self.slots = {v: on(device, problem[f"places_{v}"]) for v in self.sizes}
        self.links = len(problem["source"])

    def weights(self):
        """Effective weights of the links, (nnz,)."""
        w_exc = self.own["rec1.w_exc"]
        if self.excitatory is not None:
            self.found = torch.full((self.links,), self.inhibitory, dtype=w_exc.dtype, device=w_exc.device)
            self.found[self.excitatory] = w_exc
            return self.found
        with torch.enable_grad():
            size = torch.softmax(self.own["rec1.alpha_size"], 0)
            total = torch.zeros_like(w_exc)
            for s, v in enumerate(self.sizes):
                types = size[s] * torch.softmax(self.own[f"rec1.alpha_{v}"], 1)
                part = types[self.rows[v], 0] * w_exc[self.slots[v]] + self.inhibitory * types[self.rows[v], 1]
                total = total.index_add(0, self.slots[v], part)
            self.found = total
        return total.detach()

    def pullback(self, gradient):
        """Gradients of the parameters from those of the links' weights."""
        if self.excitatory is not None:
            return {"rec1.w_exc": gradient[self.excitatory]}
        names = list(self.own)
        return dict(zip(names, torch.autograd.grad(self.found, [self.own[n] for n in names], gradient)))


def dense(problem, threads, dtype="float32", compiled=False, device="cpu"):
    """Dense recurrence, any kind; see :mod:`runs.bench.peers`."""
    links = Feedforward if problem["meta"]["kind"] == "feedforward" else Dense
    return Step(problem, threads, dtype, compiled, links, device)


def blocks(problem, threads, dtype="float32", compiled=False, device="cpu"):
    """Block-diagonal recurrence, problems of kind "blocks"."""
    return Step(problem, threads, dtype, compiled, Blocks, device)
