"""The arithmetic of learning on the GPU, see :mod:`hrmas_sparse.engine.learning`: a launch for all arrays at once.

A kernel is given tuples of arrays, each laid flat, and works on array y in the blocks (., y). Norms are added up by
each thread for itself, from the ``PARTS`` sums that a block each has left: in the same order, so all find the same.
"""

import math

import numpy as np
from numba import cuda, float64

from hrmas_sparse.engine import learning
from hrmas_sparse.engine.backends.cuda import launch
from hrmas_sparse.engine.backends.cuda.arrays import xp
from hrmas_sparse.engine.backends.cuda.compile import device, jit

MOST = 16    # arrays of a launch: four tuples of them fit into a kernel's 4 kB of arguments
PARTS = 16   # blocks that sum the squares of an array
U = np.uint32   # of an index of 64 bits the compiler would divide, to write out a loop

first_moment, second_moment, moved = map(device, (learning.first_moment, learning.second_moment, learning.moved))
shrinkage, usable, distance = map(device, (learning.shrinkage, learning.usable, learning.distance))


@device
def _norm(sums):
    total = 0.0
    for n in range(sums.shape[0]):
        for part in range(sums.shape[1]):
            total += sums[n, part]
    return math.sqrt(total)


@jit
def sum_squares(arrays, sums):
    """sums[y, x] = sum of the squares of every number i of array y with i // width % PARTS = x."""
    x, y, width, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.blockDim.x, cuda.threadIdx.x
    array, shared = arrays[y], cuda.shared.array(0, float64)
    total, i, size = 0.0, U(x * width + thread), U(array.size)
    while i < size:      # range would divide
        g = np.float64(array[i])
        total += g * g
        i = U(i + U(cuda.gridDim.x * width))
    shared[thread] = total
    cuda.syncthreads()
    half = width
    while half > 1:
        whole, half = half, (half + 1) >> 1
        if thread + half < whole:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
    if thread == 0:
        sums[y, x] = shared[0]


@jit
def multiply(arrays, factor):
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    array = arrays[y]
    if i < array.size:
        array[i] *= factor


@jit
def update(k, weights, gradients, m, v, sums, limit, positive):
    """One update of Adam; bit y of ``positive`` says that array y is kept at least 0."""
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    w = weights[y]
    if i < w.size:
        g = gradients[y][i] * w.dtype.type(shrinkage(_norm(sums), limit))
        means, second = m[y], v[y]
        mean, square = first_moment(k, means[i], g), second_moment(k, second[i], g)
        means[i], second[i] = mean, square
        new = moved(k, w[i], mean, math.sqrt(square))
        w[i] = w.dtype.type(0) if positive >> y & 1 and new < w.dtype.type(0) else new


@jit
def stretch(arrays, moves, low, high, made):
    """made = arrays * exp(moves) within bounds; these are comparisons, for on a GPU min and max would hide a NaN."""
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    array = arrays[y]
    if i < array.size:
        new = array[i] * math.exp(moves[y][i])
        made[y][i] = low if new < low else high if new > high else new


@jit
def descend(weights, gradients, sums, limit, eta, below):
    """below = weights - eta * gradients, clipped."""
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    w = weights[y]
    if i < w.size:
        g = gradients[y][i] * w.dtype.type(shrinkage(_norm(sums), limit))
        below[y][i] = w[i] - w.dtype.type(eta) * g


@jit
def part(weights, direction, sums, plus, minus):
    """plus, minus = weights at w+ and w-."""
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    w = weights[y]
    if i < w.size:
        step = w.dtype.type(distance(_norm(sums))) * direction[y][i]
        plus[y][i], minus[y][i] = w[i] + step, w[i] - step


@jit
def mix(first, plus, minus, sums, eta, mixed):
    """mixed = the gradient of second order where it is usable, else that of first order."""
    i, y = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    g = first[y]
    if i < g.size:
        norm = _norm(sums)
        factor = g.dtype.type(eta / (2.0 * distance(norm)))
        mixed[y][i] = g[i] - factor * (plus[y][i] - minus[y][i]) if usable(norm) else g[i]


# ---- whole networks, as learning.py has them ---------------------------------------------------------

norm_of = learning.norm_of


def squares(gradients):
    """See :func:`learning.squares`."""
    arrays = [g.reshape(-1) for _, g in gradients.items()]
    sums = xp.empty((len(arrays), PARTS), np.float64)
    for first in range(0, len(arrays), MOST):
        few = tuple(arrays[first:first + MOST])
        sum_squares[(PARTS, len(few)), launch.TILE, 0, 8 * launch.TILE](few, sums[first:first + MOST])
    return sums


def _over(arrays):
    """Grid and block of a launch over a tuple of arrays."""
    blocks, width = launch.flat(max(1, *(array.size for array in arrays)))
    return (blocks, len(arrays)), width


def scale(arrays, factor):
    """See :func:`learning.scale`."""
    for first in range(0, len(arrays), MOST):
        few = tuple(array.reshape(-1) for array in arrays[first:first + MOST])
        multiply[_over(few)](few, factor)


def _few(part, *tables):
    """For each launch over the entries of ``part``: its geometry, its entries, and of each of the tables, which are
    Parameters too, a tuple of their arrays."""
    entries = [entry for entry, _ in part.items()]
    for first in range(0, len(entries), MOST):
        few = entries[first:first + MOST]
        arrays = [tuple(table.layers[n][name].reshape(-1) for n, name in few) for table in tables]
        yield _over(arrays[0]), few, arrays


def adam(k, parameters, gradients, moments, squares, limit):
    """See :func:`learning.adam`."""
    for over, entries, arrays in _few(gradients, parameters, gradients, *moments):
        positive = sum((name == learning.POSITIVE) << y for y, (_, name) in enumerate(entries))
        update[over](k, *arrays, squares, np.float64(limit), np.int32(positive))


def stretched(parameters, moves, low, high):
    """See :func:`learning.stretched`."""
    made = moves.map(xp.empty_like)
    for over, _, (arrays, few, results) in _few(moves, parameters, moves, made):
        real = arrays[0].dtype.type
        stretch[over](arrays, few, real(low), real(high), results)
    return parameters.replaced(made)


def descended(parameters, gradients, squares, limit, eta):
    """See :func:`learning.descended`."""
    below = gradients.map(xp.empty_like)
    for over, _, (weights, few, made) in _few(gradients, parameters, gradients, below):
        descend[over](weights, few, squares, np.float64(limit), np.float64(eta), made)
    return parameters.replaced(below)


def sides(parameters, direction, squares):
    """See :func:`learning.sides`."""
    plus, minus = (direction.map(xp.empty_like) for _ in range(2))
    for over, _, (weights, few, *made) in _few(direction, parameters, direction, plus, minus):
        part[over](weights, few, squares, *made)
    return [parameters.replaced(side) for side in (plus, minus)]


def second_order(first, plus, minus, squares, eta):
    """See :func:`learning.second_order`."""
    mixed = first.map(xp.empty_like)
    for over, _, (*few, made) in _few(first, first, plus, minus, mixed):
        mix[over](*few, squares, np.float64(eta), made)
    return mixed
