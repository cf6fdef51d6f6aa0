"""The same learning rule in JAX, its recurrence by brainevent: spikes times CSR forward, CSR times errors back.

The gradient of the links is that of :class:`runs.bench.peers.jax_links.Blocks`; brainevent would go link by link, which
is slower.
"""

import brainevent
import jax.numpy as jnp
import numpy as np

from runs.bench.peers.jax_links import Blocks
from runs.bench.peers.jax_rule import step


class Links(Blocks):
    """As blocks, with a CSR matrix for the products."""

    def __init__(self, problem, layout):
        super().__init__(problem, layout)
        self.neurons = problem["meta"]["hidden"]
        self.indices = problem["target"].astype(np.int32)
        self.indptr = np.searchsorted(problem["source"], np.arange(self.neurons + 1)).astype(np.int32)

    def weights(self, values):
        """The gradient has the shapes of blocks, so these arrays are made, too."""
        return super().weights(values) | {"csr": values}

    def _matrix(self, weights):
        return brainevent.CSR((weights["csr"], self.indices, self.indptr), shape=(self.neurons, self.neurons))

    def add(self, current, sent, weights):
        return current + brainevent.BinaryArray(sent) @ self._matrix(weights)

    def add_back(self, effect, error, weights):
        return effect + (self._matrix(weights) @ error.T).T

    def gradient(self, sent, error):
        return super().gradient(sent, error) | {"csr": jnp.zeros(len(self.indices), error.dtype)}


def make(problem, threads, dtype="float32", compiled=False, **given):
    """Problems of kind "motif"; see :mod:`runs.bench.peers`."""
    return step(problem, dtype, Links, "brainevent", {"layout": "rows"} | given)
