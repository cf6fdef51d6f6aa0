"""The arithmetic of learning: norms, clipping, Adam, and the points of the bi-level gradient (mathematics 7).

Every function takes all arrays of a network at once, for on a GPU it is one launch: :mod:`.backends.cuda.learning`
has the same functions, and a backend's ``learning`` is one of the two modules. What becomes of a number is said once,
by the formulas; they take numbers and arrays alike.

``squares`` are what :func:`squares` gives: they say how large gradients are, without a copy to the host.
"""

import math
from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.parameters import Parameters

PIECE = 1 << 15   # numbers that are worked on at a time, so that they stay in the processor's cache
POSITIVE = "w_exc"   # excitatory weights stay excitatory, at least 0 (paper 2.3.1)
NEAR = 0.01          # how far w+ and w- lie from w, as a norm


class AdamConstants(NamedTuple):
    """What the formulas of Adam need, all of the run's dtype."""

    b1: float        # decay of the first moment
    rest1: float     # 1 - b1
    b2: float        # of the second
    rest2: float
    unbias2: float   # what the root of the second moment is divided by, early in training
    eps: float
    rate: float      # learning rate, unbiased as the first moment wants it
    kept: float      # what decay leaves of a weight


def adam_constants(dtype, betas, eps, step, rate, decay):
    """Return the :class:`AdamConstants` of update number ``step``, counted from 1."""
    real, (b1, b2) = np.dtype(dtype).type, betas
    return AdamConstants(*map(real, (b1, 1 - b1, b2, 1 - b2, math.sqrt(1 - b2**step), eps, rate / (1 - b1**step),
                                     1 - rate * decay)))


# ---- formulas ----------------------------------------------------------------------------------------


def first_moment(k, m, g):
    """The mean of the gradient."""
    return k.b1 * m + k.rest1 * g


def second_moment(k, v, g):
    """The mean of its square."""
    return k.b2 * v + k.rest2 * (g * g)


def moved(k, w, m, root):
    """A weight after the update; ``root`` is that of the second moment."""
    return w * k.kept - m / (root / k.unbias2 + k.eps) * k.rate


def shrinkage(norm, limit):
    """Factor that scales a gradient of this norm down to ``limit``; a norm of 0 or NaN scales nothing."""
    return limit / norm if norm > limit else 1.0


def usable(norm):
    """Whether a direction of this norm is one; else the first order must do."""
    return norm > 0.0 and norm < math.inf


def distance(norm):
    """eps of mathematics 7: how often a direction of this norm is added for w+."""
    return NEAR / norm if norm > 0.0 and norm < math.inf else NEAR


# ---- whole networks ----------------------------------------------------------------------------------


def squares(gradients):
    """Return the sum of squares of each array, in the order of ``items()``, float64: (arrays, parts of the sum)."""
    return np.array([[np.square(g, dtype=np.float64).sum()] for _, g in gradients.items()]).reshape(-1, 1)


def scale(arrays, factor):
    """Multiply arrays, a list of one type, by a number of that type, in place."""
    for array in arrays:
        array *= factor


def norm_of(squares):
    """Return the Euclidean norm over all arrays together; ``squares`` on the host."""
    # Not a BLAS norm: its bits depend on the number of BLAS threads.
    return np.sqrt(sum(squares.sum(axis=1), np.float64(0)))


def adam(k, parameters, gradients, moments, squares, limit):
    """Clip the gradients to a global norm of ``limit`` and move what they are of by one update of Adam, in place.

    Parameters
    ----------
    k : AdamConstants
    parameters : Parameters
    gradients : Parameters, all of these or some; they are left as they are
    moments : (m, v), Parameters as the gradients
    squares : of the gradients
    limit : float, ``math.inf`` for none
    """
    shrink = shrinkage(norm_of(squares), limit)
    for (n, name), g in gradients.items():
        arrays = parameters.layers[n][name], g, *(each.layers[n][name] for each in moments)
        rows = max(1, PIECE // max(1, math.prod(g.shape[1:])))
        for first in range(0, len(g), rows):
            w, part, m, v = (array[first:first + rows] for array in arrays)
            part = part * part.dtype.type(shrink)
            m[...], v[...] = first_moment(k, m, part), second_moment(k, v, part)
            w[...] = moved(k, w, m, np.sqrt(v))
            if name == POSITIVE:
                np.maximum(w, 0, out=w)


def stretched(parameters, moves, low, high):
    """Return the parameters with every array that ``moves`` has exp(move) times as large, kept within bounds."""
    return parameters.replaced(Parameters({name: np.clip(arrays[name] * np.exp(move), low, high)
                                           for name, move in layer.items()}
                                          for arrays, layer in zip(parameters.layers, moves.layers)))


def descended(parameters, gradients, squares, limit, eta):
    """Return the parameters after a step of ``eta`` down their gradients, clipped to a norm of ``limit``."""
    shrink = shrinkage(norm_of(squares), limit)
    return _shifted(parameters, gradients.map(lambda g: g * g.dtype.type(shrink)), -eta)


def sides(parameters, direction, squares):
    """Return the parameters at w+ and at w-, :func:`distance` along a direction and against it."""
    eps = distance(norm_of(squares))
    return [_shifted(parameters, direction, side * eps) for side in (1, -1)]


def _shifted(parameters, direction, step):
    """The parameters with step (float64) * direction added where direction has an entry."""
    return parameters.replaced(Parameters({name: arrays[name] + d.dtype.type(step) * d for name, d in layer.items()}
                                          for arrays, layer in zip(parameters.layers, direction.layers)))


def second_order(first, plus, minus, squares, eta):
    """Return the bi-level gradient from that of first order and those at w+ and w-; ``squares`` of the direction."""
    norm = norm_of(squares)
    if not usable(norm):
        return first
    factor = eta / (2 * distance(norm))
    return Parameters({name: g - g.dtype.type(factor) * (above[name] - below[name]) for name, g in layer.items()}
                      for layer, above, below in zip(first.layers, plus.layers, minus.layers))
