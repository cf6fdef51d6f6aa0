"""The relaxation of the supernet: weights of links from w_exc and the alphas, and back (mathematics 3, [11, 15]).

And what a discrete architecture has in its place. A GPU does each in a launch, for all motif sizes at once:
backends/cuda/relaxation.py has the same classes, and a backend's ``relaxation`` and ``selection`` are of one of them.
"""

import functools
from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.architecture import EXCITATORY, INHIBITORY


class Tables(NamedTuple):
    """Which links of a layer each motif size has; a list has an entry for each size, its arrays one for each link."""

    sizes: tuple     # motif sizes
    links: int       # of all sizes together, nnz
    rows: list       # int64, which row of the size's table of types the link uses
    places: list     # int64, which of all links it is
    counts: list     # rows of the table
    w_inh: float     # the inhibitory weight


def softmax(x):
    """Softmax over the last axis."""
    e = np.exp(x - _along(np.maximum, x))
    return e / _along(np.add, e)


def _along(function, x):
    """Reduce over the last axis: columns of tables, for NumPy is slow in rows of three; the bits are the same."""
    if x.ndim == 1:
        return function.reduce(x, keepdims=True)
    return functools.reduce(function, x.T)[:, None]


def softmax_pullback(hat, dhat):
    """Gradient through a softmax over the last axis."""
    return hat * (dhat - _along(np.add, hat * dhat))


class Selection:
    """Links of which some are trained, (nnz,) bool, and the others have a fixed weight; for NumPy's arrays."""

    def __init__(self, trained, fixed):
        self._links, self._trained, self._fixed = trained.size, np.flatnonzero(trained), fixed

    def weights(self, trained):
        """Return the weights of the links, (nnz,), from those of the trained ones."""
        weights = np.full_like(trained, self._fixed, shape=self._links)
        weights[self._trained] = trained
        return weights

    def pullback(self, gradient):
        """Return the gradients of the trained ones' weights."""
        return gradient[self._trained]


class Relaxation:
    """The relaxation for NumPy's arrays; parameters are ``w_exc`` (nnz,), ``alpha_size``, ``alpha_<v>`` (rows, 3)."""

    def __init__(self, tables):
        self._tables = tables

    def weights(self, parameters):
        """Return the weights of the links, (nnz,)."""
        w_exc, tables = parameters["w_exc"], self._tables
        weights = np.zeros_like(w_exc)
        hat_size = softmax(parameters["alpha_size"])
        for v, hat, rows, places in zip(tables.sizes, hat_size, tables.rows, tables.places):
            types = hat * softmax(parameters[f"alpha_{v}"])
            inhibition = types[:, INHIBITORY] * w_exc.dtype.type(tables.w_inh)
            self._add_weights(rows, places, types[:, EXCITATORY], inhibition, w_exc, weights)
        return weights

    def _add_weights(self, rows, places, excitation, inhibition, w_exc, weights):
        """Add the weights of one size's links; excitation and inhibition of each row of its table."""
        weights[places] += excitation[rows] * w_exc[places] + inhibition[rows]

    def pullback(self, parameters, gradient):
        """Return the gradients of the parameters from those of the links' weights."""
        w_exc, tables = parameters["w_exc"], self._tables
        real = w_exc.dtype
        hat_size = softmax(parameters["alpha_size"])
        dhat_size = np.zeros_like(hat_size)
        gradients = {"w_exc": np.zeros_like(w_exc)}
        for s, (v, rows, places, count) in enumerate(zip(tables.sizes, tables.rows, tables.places, tables.counts)):
            hat = softmax(parameters[f"alpha_{v}"])
            excitation, inhibition = self._pull(rows, places, count, gradient, w_exc, hat_size[s] * hat[:, EXCITATORY],
                                                gradients["w_exc"])
            inhibition *= tables.w_inh
            # not a BLAS dot product: its bits depend on the number of BLAS threads
            dhat_size[s] = (hat[:, EXCITATORY] * excitation + hat[:, INHIBITORY] * inhibition).sum()
            dhat = np.zeros_like(hat, dtype=np.float64)
            dhat[:, EXCITATORY], dhat[:, INHIBITORY] = hat_size[s] * excitation, hat_size[s] * inhibition
            gradients[f"alpha_{v}"] = softmax_pullback(hat, dhat).astype(real)
        gradients["alpha_size"] = softmax_pullback(hat_size, dhat_size)
        return gradients

    def _pull(self, rows, places, count, gradient, w_exc, excitation, dw_exc):
        """Return what each row of one size's table gets, without softmax, (count,) float64 twice; add to dw_exc."""
        g = gradient[places]
        dw_exc[places] += g * excitation[rows]
        return np.bincount(rows, g * w_exc[places], count), np.bincount(rows, g, count)
