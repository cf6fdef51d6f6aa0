"""spyx: RCuBaLIF as the hidden layer, CuBaLIF as output, superspike, JAX's own gradients.

Products with input and output weights are taken over all steps at once. The samples are split over XLA devices as in
:mod:`runs.bench.peers.jax_rule`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import spyx.nn
from flax import nnx

from runs.bench import workloads as w
from runs.bench.peers.jax_rule import Compiled, devices_for, parameters_of


def _recurrent(problem, w_exc):
    """The motif's weights as a dense matrix, row = sender."""
    matrix = np.zeros((problem["meta"]["hidden"],) * 2, w_exc.dtype)
    links = np.full(len(problem["source"]), -2.0, w_exc.dtype)
    links[problem["excitatory"]] = w_exc
    matrix[problem["source"], problem["target"]] = links
    return matrix


def _target(problem):
    """One for the true class, (T, B, O)."""
    meta = problem["meta"]
    target = np.zeros((meta["steps"], meta["samples"], meta["outputs"]), np.float32)
    target[:, np.arange(meta["samples"]), problem["label"]] = 1
    return target


class Step(Compiled):
    """A network of a problem of kind "motif"; see :mod:`runs.bench.peers`."""

    def __init__(self, problem, threads, dtype="float32", compiled=False):
        meta, given = problem["meta"], parameters_of(problem, dtype)
        neurons, outputs = meta["hidden"], meta["outputs"]
        decays = {"alpha": 1 - 1 / w.TAU_S, "beta": 1 - 1 / w.TAU_M}
        hidden = spyx.nn.RCuBaLIF((neurons,), threshold=w.V_TH, **decays, rngs=nnx.Rngs(0))
        out = spyx.nn.CuBaLIF((outputs,), threshold=w.V_TH_OUT, **decays, rngs=nnx.Rngs(0))
        graph, state = nnx.split(hidden)
        leaves, shape = jax.tree_util.tree_flatten_with_path(state)

        def loss(parameters, x, target):
            steps, samples, _ = x.shape
            own = nnx.merge(graph, jax.tree_util.tree_unflatten(shape, [
                parameters["rec"] if "recurrent_w" in jax.tree_util.keystr(path) else leaf for path, leaf in leaves]))
            current = (x.reshape(steps * samples, -1) @ parameters["w1"]).reshape(steps, samples, neurons)
            spikes, _ = spyx.nn.run(own, current)
            current = (spikes.reshape(-1, neurons) @ parameters["w_out"]).reshape(steps, samples, outputs)
            found, _ = spyx.nn.run(out, current)
            return 0.5 * jnp.square(target - found).sum(), jnp.stack([spikes.mean(), found.mean()])

        def run(parameters, x, target):
            (value, rates), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, x, target)
            return value, gradients, rates / len(devices_for(meta["samples"]))

        parameters = {"w1": given["w1"], "w_out": given["w_out"], "rec": _recurrent(problem, given["rec1.w_exc"])}
        super().__init__(run, parameters, w.dense_input(problem, dtype), _target(problem), meta["samples"])
        self.rates = None

    def step(self):
        found = super().step()
        if self.rates is None:
            self.rates = [round(float(rate), 5) for rate in found[2]]
        return found


make = Step
