"""Recurrent connections of a layer: which there are, and what their weights are made of.

Every kind of recurrence is a set of *links*, a sparse matrix whose rows are senders (source r), plus a
rule that makes the weights of the links from trained parameters and, going back, the gradients of
those parameters from those of the weights. The simulation only ever sees the links.

    Relaxed    the supernet: weights relaxed over motif sizes and types (mathematics 3, [11, 15])
    Discrete   a searched or random architecture: excitatory trained, inhibitory fixed
    Free       any pattern, every weight trained

Links are ordered by source, then target; ``data[k]`` is W_ir of link k: r -> i.
"""

import copy
from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.architecture import EXCITATORY, NONE, Architecture, table_rows
from hrmas_sparse.engine.relaxation import Relaxation, Selection, Tables, softmax
from hrmas_sparse.storage.errors import InputError


class Links(NamedTuple):
    """A layer's recurrent weights in CSR form, one row per sending neuron.

    indptr : (N + 1,) int64; indices : (nnz,) uint32, receiving neurons, rising inside a row;
    data : (nnz,) weights.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray


class Connections(NamedTuple):
    """Connections without weights, sorted by source, then target; all arrays (nnz,) int64."""

    source: np.ndarray
    target: np.ndarray
    row: np.ndarray  # which row of the motif's table of types the connection uses


def motif_connections(neurons, size, inter=True, tied=True):
    """All connections an SC-ML layer of one motif size may have [16, 17].

    Returns
    -------
    Connections
        ``row`` counts (target position, source position) pairs, then (target position, previous or
        next motif); untied it counts connections.
    """
    if size < 1 or neurons % size:
        raise InputError(f"motif size {size} does not divide {neurons} neurons")
    neuron, position = np.arange(neurons), np.arange(neurons) % size
    first = neuron - position
    target = np.repeat(neuron, size)
    offset = np.tile(np.arange(size), neurons)
    parts = [(np.repeat(first, size) + offset, target, position[target] * size + offset)]
    if inter:
        for side, step in enumerate((-size, size)):
            inside = (neuron + step >= 0) & (neuron + step < neurons)
            parts.append((neuron[inside] + step, neuron[inside], size * size + 2 * position[inside] + side))
    source, target, row = (np.concatenate(column) for column in zip(*parts))
    order = np.lexsort((target, source))
    row = row[order] if tied else np.arange(order.size)
    return Connections(source[order], target[order], row)


class _Recurrence:
    """What the kinds share: the pattern of links.

    ``weight_names`` and ``alpha_names`` say which parameters are weights and which architecture.
    """

    weight_names: tuple[str, ...] = ()
    alpha_names: tuple[str, ...] = ()

    def __init__(self, neurons, source, target):
        self.neurons = neurons
        self.source, self.target = source, target
        self.indptr = np.searchsorted(source, np.arange(neurons + 1)).astype(np.int64)
        self.indices = target.astype(np.uint32)

    def on(self, backend):
        """The same recurrence with the arrays that parameters meet where a backend computes."""
        settled = copy.copy(self)
        settled._settle(backend)
        return settled

    def _settle(self, backend):
        """Move index arrays; the pattern of links itself stays with NumPy."""

    def links(self, parameters):
        """Links with the weights that the parameters make."""
        return Links(self.indptr, self.indices, self.effective(parameters))

    def dense(self, data):
        """Weights of the links as a matrix (N, N), [target, source]; small layers only."""
        matrix = np.zeros((self.neurons, self.neurons), dtype=data.dtype)
        matrix[self.target, self.source] = data
        return matrix


class Free(_Recurrence):
    """Any pattern; every weight is trained (parameter ``w_rec``, (nnz,))."""

    weight_names = ("w_rec",)

    def shapes(self):
        """Shape of every parameter."""
        return {"w_rec": self.source.shape}

    def initial(self, dtype, rng):
        """Parameters at the start of training: He normal, each neuron's links its fan-in."""
        fan_in = np.bincount(self.target, minlength=self.neurons)[self.target]
        return {"w_rec": (rng.standard_normal(fan_in.size) * np.sqrt(2 / fan_in)).astype(dtype)}

    def effective(self, parameters):
        """Weights of the links, (nnz,)."""
        return parameters["w_rec"]

    def pullback(self, parameters, gradient):
        """Gradients of the parameters from those of the links' weights."""
        return {"w_rec": gradient}


class Discrete(_Recurrence):
    """A discrete architecture: ``w_exc`` (one per excitatory link) trained, inhibitory weight fixed."""

    weight_names = ("w_exc",)

    def __init__(self, architecture, w_exc=0.2, w_inh=-2.0):
        self.architecture, self.w_start, self.w_inh = architecture, w_exc, w_inh
        a = architecture
        all_links = motif_connections(a.neurons, a.motif_size, a.linked, a.tied)
        types = a.types[all_links.row]
        kept = types != NONE
        super().__init__(a.neurons, all_links.source[kept], all_links.target[kept])
        self.excitatory = types[kept] == EXCITATORY
        self._selection = Selection(self.excitatory, w_inh)
        self.possible = kept.size

    def shapes(self):
        """Shape of every parameter."""
        return {"w_exc": (int(self.excitatory.sum()),)}

    def initial(self, dtype, rng=None):
        """Parameters at the start of training."""
        return {"w_exc": np.full(self.shapes()["w_exc"], self.w_start, dtype)}

    def effective(self, parameters):
        """Weights of the links, (nnz,)."""
        return self._selection.weights(parameters["w_exc"])

    def pullback(self, parameters, gradient):
        """Gradients of the parameters from those of the links' weights."""
        return {"w_exc": self._selection.pullback(gradient)}

    def carried(self, searched):
        """Parameters that keep what the supernet of this motif size alone has learnt: w_exc of the excitatory links."""
        a = self.architecture
        types = a.types[motif_connections(a.neurons, a.motif_size, a.linked, a.tied).row]
        return {"w_exc": searched["w_exc"][types == EXCITATORY]}

    def _settle(self, backend):
        self._selection = backend.selection(self.excitatory, self.w_inh)


class Relaxed(_Recurrence):
    """The relaxed layer: one effective matrix over all motif sizes and types (mathematics 3).

    Parameters: ``w_exc`` (nnz,), shared by the motif sizes; ``alpha_size`` (sizes,);
    ``alpha_<v>`` (rows, 3) for each motif size v, rows as in :func:`motif_connections`.
    """

    weight_names = ("w_exc",)

    def __init__(self, neurons, sizes, inter=True, tied=True, w_exc=0.2, w_inh=-2.0, alpha_scale=1e-3):
        self.sizes, self.inter, self.tied = tuple(sizes), inter, tied
        self.w_start, self.w_inh, self.alpha_scale = w_exc, w_inh, alpha_scale
        self.alpha_names = ("alpha_size", *(f"alpha_{v}" for v in self.sizes))
        each = [motif_connections(neurons, v, inter, tied) for v in self.sizes]
        keys = [c.source * neurons + c.target for c in each]
        union = np.unique(np.concatenate(keys))
        super().__init__(neurons, union // neurons, union % neurons)
        self._places = [np.searchsorted(union, key) for key in keys]
        self._tables = Tables(self.sizes, union.size, [c.row for c in each], self._places,
                              [table_rows(neurons, v, inter, tied) for v in self.sizes], w_inh)
        self._relaxation = Relaxation(self._tables)

    def shapes(self):
        """Shape of every parameter."""
        tables = {f"alpha_{v}": (table_rows(self.neurons, v, self.inter, self.tied), 3) for v in self.sizes}
        return {"w_exc": self.source.shape, "alpha_size": (len(self.sizes),), **tables}

    def initial(self, dtype, rng):
        """Parameters at the start of the search: w_exc constant, alpha nearly uniform."""
        return {name: np.full(shape, self.w_start, dtype) if name == "w_exc"
                else (self.alpha_scale * rng.standard_normal(shape)).astype(dtype)
                for name, shape in self.shapes().items()}

    def effective(self, parameters):
        """Weights of the links, (nnz,): the line of mathematics 3."""
        return self._relaxation.weights(parameters)

    def pullback(self, parameters, gradient):
        """Gradients of w_exc and every alpha from those of the links' weights: the chain rule of mathematics 3."""
        return self._relaxation.pullback(parameters, gradient)

    def _settle(self, backend):
        self._relaxation = backend.relaxation(self._tables)

    def best_size(self, parameters):
        """The most probable motif size; the smaller one of a tie."""
        alpha = parameters["alpha_size"]
        return min(v for v, a in zip(self.sizes, alpha) if a == alpha.max())

    def narrowed(self, size):
        """The supernet of one motif size alone, for stage 2."""
        return Relaxed(self.neurons, (size,), self.inter, self.tied, self.w_start, self.w_inh, self.alpha_scale)

    def narrow(self, values, size):
        """Parameters on the host, or any of their moments, carried over to ``narrowed(size)``."""
        s = self.sizes.index(size)
        kept = {"w_exc": self._places[s], "alpha_size": slice(s, s + 1), f"alpha_{size}": slice(None)}
        return {name: values[name][chosen].copy() for name, chosen in kept.items() if name in values}

    def discretize(self, parameters):
        """The most probable motif size with the most probable type of each connection.

        Ties go to the smaller size and to excitatory, inhibitory, none in that order (mathematics 14).
        """
        size = self.best_size(parameters)
        types = parameters[f"alpha_{size}"].argmax(axis=-1).astype(np.int8)
        return Architecture(self.neurons, size, self.inter, types, self.tied)

    def drawn(self, parameters, rng):
        """An architecture of the most probable motif size, each connection's type drawn as alpha says."""
        size = self.best_size(parameters)
        upto = softmax(parameters[f"alpha_{size}"].astype(np.float64)).cumsum(axis=-1)
        types = (rng.random((len(upto), 1)) > upto[:, :-1]).sum(axis=-1).astype(np.int8)
        return Architecture(self.neurons, size, self.inter, types, self.tied)
