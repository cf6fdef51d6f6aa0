"""The same learning rule in JAX, as fast as we can write it: dense, in blocks of one motif, in a band, as events.

Forward and backward are scans over steps, written by hand, so JAX keeps nothing. Scans are cut into spans of steps:
the products with input and output weights are one GEMM a span, whose operands are still in the cache. The samples are
split over as many XLA devices as there are threads, one thread each; XLA's own threads would be idle half of the time.
Nothing is unrolled: XLA would compute a step's state again in all steps that follow.

How a problem is laid out, and the steps of a span, are a *variant*; ``python -m runs.bench.tune`` times them and
keeps the best in variants.json.
"""

import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from runs.bench import workloads as w
from runs.bench.peers.jax_links import LAYOUTS, Band, Blocks, Dense

PADDED = 32  # XLA's GEMM is a third faster with 32 columns than with 26
VARIANTS = Path(__file__).with_name("variants.json")
DEFAULT = {"layout": "rows", "span": 10, "input": "sparse"}


class Neuron(NamedTuple):
    """Constants of a layer."""

    v_th: float
    decay_s: float = 1 - 1 / w.TAU_S
    decay_m: float = 1 - 1 / w.TAU_M

    def forward(self, state, current):
        """State is c, v, a; spikes and v after reset follow from v, and are cheaper made twice than kept."""
        c, v, a = state
        c = current + self.decay_s * c
        v = c + self.decay_m * jnp.where(v > self.v_th, 0, v)
        return c, v, (v > self.v_th).astype(v.dtype) + self.decay_s * a

    def backward(self, state, v, last, silent, effect):
        """State is delta0 and E of the step after; ``last`` is v of the step before."""
        carried, error = state
        rate = jnp.clip(1 / (v - jnp.where(last > self.v_th, 0, last)), 0, w.CAP / self.v_th)
        moved = rate * (effect + (1 - self.decay_m) * v * carried)
        carried = jnp.where(v > self.v_th, moved, self.decay_m * carried)
        width = w.WIDTH * self.v_th
        q = jax.nn.sigmoid(jnp.clip((v - self.v_th) / width, -8, 8))
        found = jnp.where(silent, effect * (q - q * q) / width, carried)
        return carried, found + self.decay_s * error


HIDDEN, OUTPUT = Neuron(w.V_TH), Neuron(w.V_TH_OUT)


# ---- parameters to the links' values ---------------------------------------------------------------------------------


def relaxation(problem):
    """A function of the parameters that gives the links' values; JAX differentiates it."""
    if "excitatory" in problem:
        trained, links = np.flatnonzero(problem["excitatory"]), len(problem["source"])
        return lambda own: jnp.full(links, -2.0, own["rec1.w_exc"].dtype).at[trained].set(
            own["rec1.w_exc"], unique_indices=True)
    sizes = problem["meta"]["sizes"]

    def values(own):
        w_exc = own["rec1.w_exc"]
        size, total = jax.nn.softmax(own["rec1.alpha_size"]), jnp.zeros_like(w_exc)
        for s, v in enumerate(sizes):
            types = size[s] * jax.nn.softmax(own[f"rec1.alpha_{v}"], axis=1)
            rows, places = problem[f"rows_{v}"], problem[f"places_{v}"]
            total = total.at[places].add(types[rows, 0] * w_exc[places] - 2.0 * types[rows, 1], unique_indices=True)
        return total

    return values


# ---- input -----------------------------------------------------------------------------------------------------------


class DenseInput:
    """x (T, B, C), one GEMM a span."""

    @staticmethod
    def arrays(problem, dtype):
        return w.dense_input(problem, dtype)

    @staticmethod
    def current(x, weights):
        """(s, B, C) -> (s B, N)."""
        return x.reshape(-1, x.shape[2]) @ weights

    @staticmethod
    def gradient(x, errors):
        """(s, B, C), (s B, N) -> (C, N)."""
        return x.reshape(-1, x.shape[2]).T @ errors


class SparseInput:
    """Channels of the events of each step and sample, (T, B, K), filled up with C, which has no row of weights."""

    @staticmethod
    def arrays(problem, dtype):
        x = w.dense_input(problem, "float32")
        steps, samples, channels = x.shape
        found = np.full((steps, samples, int(x.sum(axis=2).max())), channels, np.int32)
        for t, b in np.ndindex(steps, samples):
            active = np.flatnonzero(x[t, b])
            found[t, b, :len(active)] = active
        return found

    @staticmethod
    def current(x, weights):
        rows = x.reshape(-1, x.shape[2])
        padded = jnp.concatenate([weights, jnp.zeros_like(weights[:1])])

        def add(k, total):
            return total + padded[rows[:, k]]
        return lax.fori_loop(0, rows.shape[1], add, jnp.zeros((rows.shape[0], weights.shape[1]), weights.dtype))

    @staticmethod
    def gradient(x, errors, channels):
        rows = x.reshape(-1, x.shape[2])

        def add(k, total):
            return total.at[rows[:, k]].add(errors, mode="drop")
        return lax.fori_loop(0, rows.shape[1], add, jnp.zeros((channels, errors.shape[1]), errors.dtype))


class Mixed(SparseInput):
    """Sparse forward; the gradient a GEMM with the events set in a dense array of the span."""

    @staticmethod
    def gradient(x, errors, channels):
        rows = x.reshape(-1, x.shape[2])
        dense = jnp.zeros((rows.shape[0], channels), errors.dtype).at[jnp.arange(rows.shape[0])[:, None], rows].set(
            1, mode="drop")
        return dense.T @ errors


INPUTS = {"dense": DenseInput, "sparse": SparseInput, "mixed": Mixed}


# ---- the step --------------------------------------------------------------------------------------------------------


def gradient_function(problem, links, layout, span, inputs):
    """(parameters, x (T, B, ...), desired (T, B, O)) -> (loss, gradients), both summed over samples."""
    meta, relaxed = problem["meta"], relaxation(problem)
    neurons, outputs, channels = meta["hidden"], meta["outputs"], meta["inputs"]
    dense = inputs is DenseInput

    def spans(x):
        return x.reshape(-1, span, *x.shape[1:])

    def forward(parameters, weights, x):
        wide = jnp.pad(parameters["w_out"], ((0, 0), (0, -outputs % PADDED)))
        samples, dtype = x.shape[1], wide.dtype

        def hidden_step(state, current):
            sent = (state[1] > HIDDEN.v_th).astype(dtype)
            now = layout.inside(current)
            state = HIDDEN.forward(state, links.add(now, sent, weights) if links else now)
            return state, (state[1], state[2] < 0.25, layout.outside((state[1] > HIDDEN.v_th).astype(dtype)))

        def output_step(state, current):
            state = OUTPUT.forward(state, current)
            return state, state[1:]

        def one(states, x):
            hidden, out = states
            currents = inputs.current(x, parameters["w1"]).reshape(span, samples, neurons)
            hidden, (v, silent, spikes) = lax.scan(hidden_step, hidden, currents)
            currents = (spikes.reshape(-1, neurons) @ wide)[:, :outputs].reshape(span, samples, outputs)
            out, kept = lax.scan(output_step, out, currents)
            return (hidden, out), (v, silent, spikes, *kept)

        start = (jnp.zeros(layout.shape(samples), dtype),) * 3, (jnp.zeros((samples, outputs), dtype),) * 3
        return lax.scan(one, start, spans(x))[1]

    def backward(parameters, weights, x, tape, error):
        v, silent, spikes, v_out, psc = tape
        samples, dtype = x.shape[1], v.dtype
        whole, v_out = (y.reshape(-1, *y.shape[2:]) for y in (v, v_out))
        nothing, none_out = jnp.zeros(layout.shape(samples), dtype), jnp.zeros((samples, outputs), dtype)
        last_out = jnp.concatenate([none_out[None], v_out[:-1]])

        def output_step(state, now):
            error, v, last, silent = now
            *state, effect = state
            effect = error + OUTPUT.decay_s * effect
            state = OUTPUT.backward(state, v, last, silent, effect)
            return (*state, effect), state[1]

        def hidden_step(state, now):
            carried, error, gradient = state
            effect, silent, t = now
            v = lax.dynamic_index_in_dim(whole, t, keepdims=False)
            last = jnp.where(t == 0, 0, lax.dynamic_index_in_dim(whole, jnp.maximum(t - 1, 0), keepdims=False))
            effect = layout.inside(effect)
            if links:  # the errors of the step after meet the spikes of this one
                found = links.gradient((v > HIDDEN.v_th).astype(dtype), error)
                gradient = {name: gradient[name] + found[name] for name in found}
                effect = links.add_back(effect, error, weights)
            carried, error = HIDDEN.backward((carried, error), v, last, silent, effect)
            return (carried, error, gradient), layout.outside(error)

        def one(states, now):
            hidden, out, w1, w_out = states
            x, spikes, silent, times, *at_output = now
            out, errors = lax.scan(output_step, out, tuple(at_output), reverse=True)
            errors = errors.reshape(-1, outputs)
            w_out = w_out + errors.T @ spikes.reshape(-1, neurons)
            effects = (errors @ parameters["w_out"].T).reshape(span, samples, neurons)
            hidden, errors = lax.scan(hidden_step, hidden, (effects, silent, times), reverse=True)
            errors = errors.reshape(-1, neurons)
            w1 = w1 + (inputs.gradient(x, errors) if dense else inputs.gradient(x, errors, channels))
            return (hidden, out, w1, w_out), None

        start = ((nothing, nothing, {name: jnp.zeros_like(array) for name, array in weights.items()}),
                 (none_out,) * 3, jnp.zeros((channels, neurons), dtype), jnp.zeros((outputs, neurons), dtype))
        times = jnp.arange(meta["steps"])
        (hidden, _, w1, w_out), _ = lax.scan(
            one, start, (spans(x), spikes, silent, *map(spans, (times, error, v_out, last_out)), psc < 0.25),
            reverse=True)
        return {"w1": w1, "w_out": w_out.T}, hidden[2]

    def run(parameters, x, desired):
        own = {name: value for name, value in parameters.items() if name.startswith("rec1.")}
        values, pull = jax.vjp(relaxed, own) if links else (None, None)
        weights = links.weights(values) if links else {}
        tape = forward(parameters, weights, x)
        error = tape[-1].reshape(desired.shape) - desired
        found, gradient = backward(parameters, weights, x, tape, error)
        if links:
            found |= pull(links.values(gradient))[0]
        return 0.5 * jnp.vdot(error, error), found

    return run


# ---- an entrant ------------------------------------------------------------------------------------------------------


def devices_for(samples):
    """As many devices as there are, if the samples come out even on them; else fewer."""
    return jax.devices()[:max(n for n in range(1, len(jax.devices()) + 1) if samples % n == 0)]


def over_devices(run, samples):
    """``run`` with its samples split over devices, and how to place an array; sums are taken of all that it returns."""
    mesh, cut = Mesh(np.array(devices_for(samples)), ("samples",)), PartitionSpec(None, "samples")
    whole = jax.shard_map(lambda *given: lax.psum(run(*given), "samples"), mesh=mesh,
                          in_specs=(PartitionSpec(), cut, cut), out_specs=PartitionSpec(), check_vma=False)
    return jax.jit(whole), lambda array, split: jax.device_put(
        array, NamedSharding(mesh, cut if split else PartitionSpec()))


class Compiled:
    """A function of (parameters, x, target), compiled for its arguments; step() waits for what it gives."""

    def __init__(self, run, parameters, x, target, samples):
        run, put = over_devices(run, samples)
        self.given = jax.tree.map(lambda array: put(array, False), parameters), put(x, True), put(target, True)
        self.run, self.samples = run.lower(*self.given).compile(), samples

    def step(self):
        """Forward, loss, all gradients."""
        return jax.block_until_ready(self.run(*self.given))

    def gradients(self):
        """Of the batch mean, as arrays named as the problem's parameters are."""
        return {name: np.asarray(value) / self.samples for name, value in self.step()[1].items()}


def parameters_of(problem, dtype):
    """The problem's parameters; float64 must be asked of JAX before it makes an array."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    return {key[2:]: value.astype(dtype) for key, value in problem.items() if key.startswith("p.")}


def variant(problem, name, given):
    """How to lay a problem out: what is given, what is being tuned, what tuning kept, or the default."""
    kept = json.loads(VARIANTS.read_text(encoding="utf-8")) if VARIANTS.exists() else {}
    meta, tried = problem["meta"], json.loads(os.environ.get("BENCH_VARIANT", "{}"))
    return DEFAULT | kept.get(f"{meta['name']} {name} {meta['kind']}", {}) | tried | given


def step(problem, dtype, links, name, given):
    """The entrant of a problem with a recurrence of class ``links``; ``name`` is that of its tuned variant."""
    parameters, chosen = parameters_of(problem, dtype), variant(problem, name, given)
    meta, inputs = problem["meta"], INPUTS[chosen["input"]]
    layout = LAYOUTS[chosen["layout"]](meta["hidden"], max(meta["sizes"]) if meta["kind"] == "supernet" else
                                       meta["motif"])
    links = links(problem, layout) if meta["kind"] != "feedforward" else None
    run = gradient_function(problem, links, layout, math.gcd(chosen["span"], meta["steps"]), inputs)
    return Compiled(run, parameters, inputs.arrays(problem, dtype), w.desired_psc(problem, dtype), meta["samples"])


def dense(problem, threads, dtype="float32", compiled=False, **given):
    """Dense recurrence, any kind; see :mod:`runs.bench.peers`."""
    return step(problem, dtype, Dense, "dense", {"layout": "rows"} | given)


def blocks(problem, threads, dtype="float32", compiled=False, **given):
    """Blocks of one motif: of kind "blocks", or with all links of kind "motif"."""
    return step(problem, dtype, Blocks, "blocks", given)


def band(problem, threads, dtype="float32", compiled=False, **given):
    """A motif and its neighbours as one matrix; also of kind "supernet"."""
    return step(problem, dtype, Band, "band", given)
