"""Recurrences for :mod:`runs.bench.peers.jax_rule`: dense, blocks of one motif, a band; and layouts of a step.

Shapes: T steps, B samples, N neurons, M motifs of v neurons, nnz links.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax


# ---- layouts: what is (B, N) for a GEMM may be (M, B, v) for the recurrence ------------------------------------------


class Rows:
    """(B, N)."""

    def __init__(self, neurons, size):
        self.motifs, self.size = neurons // size, size

    def shape(self, samples):
        """Of a state."""
        return samples, self.motifs * self.size

    def inside(self, x):
        """From (B, N)."""
        return x

    def outside(self, x):
        """To (B, N)."""
        return x

    def split(self, x):
        """As (M, B, v)."""
        return x.reshape(-1, self.motifs, self.size).transpose(1, 0, 2)

    def joined(self, x):
        """Back from (M, B, v)."""
        return x.transpose(1, 0, 2).reshape(-1, self.motifs * self.size)


class Motifs(Rows):
    """(M, B, v)."""

    def shape(self, samples):
        return self.motifs, samples, self.size

    inside, outside = Rows.split, Rows.joined

    def split(self, x):
        return x

    joined = split


LAYOUTS = {"rows": Rows, "motifs": Motifs}


def _moved(x, by):
    """x[m - by] at m, zeros beyond the ends; (M, ...)."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(by, -by, 0), *[(0, 0, 0)] * (x.ndim - 1)])


# ---- recurrences: weights from the links' values, current, effect, gradient ------------------------------------------


class Dense:
    """Weights (N, N), row = sender."""

    def __init__(self, problem, layout):
        neurons = problem["meta"]["hidden"]
        self.shapes = {"all": (neurons, neurons)}
        self.places = {"all": (problem["source"], problem["target"])}
        self.links = {"all": np.arange(len(problem["source"]))}

    def weights(self, values):
        """Arrays that hold the links' values (nnz,)."""
        return {name: jnp.zeros(shape, values.dtype).at[self.places[name]].set(
            values[self.links[name]], unique_indices=True) for name, shape in self.shapes.items()}

    def values(self, gradient):
        """The links' (nnz,) of what is shaped as the weights."""
        found = jnp.zeros(sum(map(len, self.links.values())), next(iter(gradient.values())).dtype)
        for name, links in self.links.items():
            found = found.at[links].set(gradient[name][self.places[name]], unique_indices=True)
        return found

    def add(self, current, sent, weights):
        """Current of a step from the spikes of the step before."""
        return current + sent @ weights["all"]

    def add_back(self, effect, error, weights):
        """Effect of a spike through the errors of the step after."""
        return effect + error @ weights["all"].T

    def gradient(self, sent, error):
        """What a step's spikes and the errors one step later contribute."""
        return {"all": sent.T @ error}


class Blocks(Dense):
    """Weights (M, v, v) of the links inside motifs; links between motifs, one to each neighbour, (M, v)."""

    def __init__(self, problem, layout):
        size, source, target = layout.size, problem["source"], problem["target"]
        self.layout = layout
        step = target // size - source // size
        chosen = {"own": step == 0, "next": step == 1, "last": step == -1}
        self.links = {name: np.flatnonzero(mask) for name, mask in chosen.items() if mask.any()}
        self.places = {name: ((source[k] // size, source[k] % size, target[k] % size) if name == "own" else
                              (target[k] // size, target[k] % size)) for name, k in self.links.items()}
        self.shapes = {name: (layout.motifs, size, size) if name == "own" else (layout.motifs, size)
                       for name in self.links}

    def add(self, current, sent, weights):
        x = self.layout.split(sent)
        y = jnp.einsum("mbj,mji->mbi", x, weights["own"])
        for name, by in (("next", 1), ("last", -1)):
            if name in weights:
                y = y + _moved(x, by) * weights[name][:, None]
        return current + self.layout.joined(y)

    def add_back(self, effect, error, weights):
        x = self.layout.split(error)
        y = jnp.einsum("mbi,mji->mbj", x, weights["own"])
        for name, by in (("next", 1), ("last", -1)):
            if name in weights:
                y = y + _moved(x * weights[name][:, None], -by)
        return effect + self.layout.joined(y)

    def gradient(self, sent, error):
        x, y = self.layout.split(sent), self.layout.split(error)
        found = {"own": jnp.einsum("mbj,mbi->mji", x, y)}
        return found | {name: (_moved(x, by) * y).sum(1) for name, by in (("next", 1), ("last", -1))
                        if name in self.links}


class Band(Dense):
    """Weights (M, 3 v, v): what a motif hears of itself and both neighbours; the widest motif of a supernet is v."""

    def __init__(self, problem, layout):
        size, source, target = layout.size, problem["source"], problem["target"]
        self.layout, motif = layout, target // size
        self.places = {"all": (motif, source - (motif - 1) * size, target % size)}
        self.shapes = {"all": (layout.motifs, 3 * size, size)}
        self.links = {"all": np.arange(len(source))}

    def _near(self, x):
        return jnp.concatenate([_moved(x, 1), x, _moved(x, -1)], axis=2)

    def add(self, current, sent, weights):
        near = self._near(self.layout.split(sent))
        return current + self.layout.joined(jnp.einsum("mbk,mki->mbi", near, weights["all"]))

    def add_back(self, effect, error, weights):
        y = jnp.einsum("mbi,mki->mbk", self.layout.split(error), weights["all"])
        before, own, after = jnp.split(y, 3, axis=2)
        return effect + self.layout.joined(_moved(before, -1) + own + _moved(after, 1))

    def gradient(self, sent, error):
        return {"all": jnp.einsum("mbk,mbi->mki", self._near(self.layout.split(sent)), self.layout.split(error))}
