"""The workloads: sizes, input, weights. One problem is one .npz that every side reads.

A problem is a dict of arrays: events as in hrmas_sparse.data.cache (``indptr``, ``step``, ``channel``, ``label``),
parameters under ``p.<name>`` as hrmas_sparse.engine.network names them, the links of the recurrence (``source``,
``target``), what their weights are made of, and ``meta``, a dict of sizes and constants.

Kinds: ``motif`` an SC-ML layer of one motif size with random types, intra and inter; ``blocks`` the same without
links between motifs; ``supernet`` the relaxed union of all motif sizes; ``feedforward`` no recurrence.
"""

import json
from dataclasses import dataclass

import numpy as np

TAU_M, TAU_S, V_TH, V_TH_OUT, CAP, WIDTH = 16.0, 8.0, 80.0, 8.0, 1.0, 0.2
SAMPLES = 50
MOTIF = 16
RATES = (0.02, 0.05)  # the hidden rate every problem must have, spikes per neuron and step
KINDS = ("motif", "blocks", "supernet", "feedforward")


@dataclass(frozen=True)
class Workload:
    """Sizes of one workload. scale: input weights in units of He normal, chosen so that the rate is in RATES."""

    name: str
    inputs: int
    density: float
    hidden: int
    outputs: int
    steps: int
    sizes: tuple
    scale: dict


SIZES = (5, 10, 16, 25, 40)
WORKLOADS = {w.name: w for w in (
    Workload("W1", 78, 0.10, 800, 26, 100, SIZES, {"motif": 10.5, "blocks": 10.5, "supernet": 11, "feedforward": 8.5}),
    Workload("W2", 64, 0.05, 400, 11, 300, SIZES, {"motif": 18.5, "blocks": 18.5, "supernet": 20, "feedforward": 15}),
    Workload("W3", 2312, 0.017, 512, 10, 100, (2, 4, 8, 16, 32),
             {"motif": 43, "blocks": 43, "supernet": 43, "feedforward": 36}),
    Workload("W4", 78, 0.10, 3200, 26, 100, SIZES, {"motif": 10.5, "blocks": 10.5, "supernet": 12, "feedforward": 9}),
)}


def resized(workload, hidden):
    """The workload with another number of hidden neurons."""
    return Workload(f"N{hidden}", workload.inputs, workload.density, hidden, workload.outputs, workload.steps,
                    workload.sizes, workload.scale)


def _events(workload, samples, rng):
    """Random Bernoulli input, as events sorted by sample, step and channel."""
    spikes = rng.random((samples, workload.steps, workload.inputs), np.float32) < workload.density
    sample, step, channel = np.nonzero(spikes)
    return {"indptr": np.searchsorted(sample, np.arange(samples + 1)).astype(np.int64),
            "step": step.astype(np.uint16), "channel": channel.astype(np.uint16),
            "label": rng.integers(0, workload.outputs, samples)}


def problem(workload, kind, samples=SAMPLES, seed=0, scale=None):
    """Make a problem; needs hrmas_sparse, which says what the connections are."""
    rng = np.random.default_rng(seed)
    scale = workload.scale[kind] if scale is None else scale
    arrays = _events(workload, samples, rng)
    w1 = rng.standard_normal((workload.inputs, workload.hidden)) * np.sqrt(2 / workload.inputs) * scale
    w_out = rng.standard_normal((workload.hidden, workload.outputs)) * np.sqrt(2 / workload.hidden)
    arrays |= {"p.w1": w1.astype(np.float32), "p.w_out": w_out.astype(np.float32)}
    arrays["meta"] = {"name": workload.name, "kind": kind, "samples": samples, "steps": workload.steps,
                     "inputs": workload.inputs, "hidden": workload.hidden, "outputs": workload.outputs,
                     "density": workload.density, "scale": scale, "motif": MOTIF, "sizes": list(workload.sizes)}
    if kind != "feedforward":
        arrays |= _recurrence(workload, kind, rng)
    return arrays


def _recurrence(workload, kind, rng):
    from hrmas_sparse.search.baselines import random_architecture
    from hrmas_sparse.engine.recurrence import Discrete, Relaxed, motif_connections

    if kind == "supernet":
        layer = Relaxed(workload.hidden, workload.sizes)
        arrays, union = {}, layer.source * workload.hidden + layer.target
        for v in workload.sizes:
            motif = motif_connections(workload.hidden, v)
            places = np.searchsorted(union, motif.source * workload.hidden + motif.target)
            arrays |= {f"rows_{v}": motif.row, f"places_{v}": places}
    else:
        architecture = random_architecture(workload.hidden, [MOTIF], rng, inter=kind == "motif")
        layer = Discrete(architecture)
        arrays = {"types": architecture.types, "excitatory": layer.excitatory}
    arrays |= {f"p.rec1.{name}": value for name, value in layer.initial(np.float32, rng).items()}
    return arrays | {"source": layer.source, "target": layer.target}


def shortened(problem, steps):
    """The problem's first steps: small enough for warming up, every other size as it was."""
    kept = problem["step"] < steps
    counts = np.concatenate([[0], np.cumsum(kept)])
    return problem | {"indptr": counts[problem["indptr"]], "step": problem["step"][kept],
                      "channel": problem["channel"][kept], "meta": problem["meta"] | {"steps": steps}}


def dense_input(problem, dtype):
    """The events as an array (T, B, C)."""
    meta = problem["meta"]
    x = np.zeros((meta["steps"], meta["samples"], meta["inputs"]), dtype)
    sample = np.repeat(np.arange(meta["samples"]), np.diff(problem["indptr"]))
    x[problem["step"], sample, problem["channel"]] = 1
    return x


def desired_psc(problem, dtype):
    """The psc of the desired spike trains, (T, B, O): a spike every step for the true class."""
    meta = problem["meta"]
    trace = TAU_S * (1 - (1 - 1 / TAU_S) ** np.arange(1, meta["steps"] + 1))
    desired = np.zeros((meta["steps"], meta["samples"], meta["outputs"]), dtype)
    desired[:, np.arange(meta["samples"]), problem["label"]] = trace[:, None]
    return desired


def save(path, problem):
    """Write a problem."""
    np.savez(path, **{key: value for key, value in problem.items() if key != "meta"},
             meta=np.array(json.dumps(problem["meta"])))


def load(path):
    """Read what :func:`save` wrote."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays | {"meta": json.loads(str(arrays["meta"]))}
