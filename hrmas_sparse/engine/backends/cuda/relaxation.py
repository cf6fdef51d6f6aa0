"""The relaxation on the GPU, see :mod:`hrmas_sparse.engine.relaxation`: all motif sizes in one launch each way.

And the links of a discrete architecture, in one.

Shapes: nnz links of all V motif sizes, R rows of all tables of types one after another. A kernel is given the tables
alpha_<v> as a tuple, (rows of v, 3) each. Sums are taken in a fixed order.
"""

import math

import numpy as np
from numba import cuda, float64

from hrmas_sparse.engine.architecture import EXCITATORY, INHIBITORY
from hrmas_sparse.engine.backends.cuda import launch
from hrmas_sparse.engine.backends.cuda.arrays import to_device, xp
from hrmas_sparse.engine.backends.cuda.compile import device, jit

U = np.uint32   # of an index of 64 bits the compiler would divide


@device
def _share(alpha, chosen):
    """One number of the softmax of a row."""
    most, total = alpha[0], alpha.dtype.type(0)
    for n in range(alpha.size):
        if alpha[n] > most:
            most = alpha[n]
    for n in range(alpha.size):
        total += math.exp(alpha[n] - most)
    return math.exp(alpha[chosen] - most) / total


@jit
def relax(alpha_size, alphas, w_exc, row, w_inh, weights):
    """weights[k] = the sum over the motif sizes s that have link k, whose row of types is row[s, k]; else it is -1."""
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if k < weights.size:
        total = weights.dtype.type(0)
        for s in range(row.shape[0]):
            if row[s, k] >= 0:
                types, hat = alphas[s][row[s, k]], _share(alpha_size, s)
                total += hat * _share(types, EXCITATORY) * w_exc[k] + hat * _share(types, INHIBITORY) * w_inh
        weights[k] = total


@jit
def select(trained, place, fixed, weights):
    """weights[k] = the trained weight at place[k]; where that is -1, the fixed one."""
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if k < weights.size:
        weights[k] = trained[place[k]] if place[k] >= 0 else fixed


@jit
def pull_back(alpha_size, alphas, w_exc, row, w_inh, start, order, of_size, gradient, dalphas, dw_exc, dsize):
    """Gradients of w_exc, a thread for each link, and of the types, a thread for each row.

    start (R + 1,), order : the links of each row; of_size (R, 2) : its motif size and its place there; dsize (R,)
    float64 : what a row gives to the gradient of its size's share
    """
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if k < w_exc.size:
        total = w_exc.dtype.type(0)
        for s in range(row.shape[0]):
            if row[s, k] >= 0:
                total += gradient[k] * (_share(alpha_size, s) * _share(alphas[s][row[s, k]], EXCITATORY))
        dw_exc[k] = total
    if k < dsize.size:
        s, r = of_size[k, 0], of_size[k, 1]
        types, made, hat_size = alphas[s][r], dalphas[s], np.float64(_share(alpha_size, s))
        excitation, inhibition = 0.0, 0.0
        for n in range(start[k], start[k + 1]):
            link = order[n]
            excitation += gradient[link] * w_exc[link]
            inhibition += gradient[link]
        inhibition *= w_inh
        found = _share(types, EXCITATORY) * excitation + _share(types, INHIBITORY) * inhibition
        dsize[k] = found
        for kind in range(types.size):
            own = excitation if kind == EXCITATORY else inhibition if kind == INHIBITORY else 0.0
            made[r, kind] = _share(types, kind) * (hat_size * own - hat_size * found)


@jit
def pull_back_sizes(alpha_size, first, dsize, lanes, dalpha_size):
    """Gradient of alpha_size from what the rows give; first (V + 1,) : where the rows of a size begin.

    shared memory : V lanes float64, sums of every lanes-th row of a size, which are then summed in their order
    """
    lanes, sizes = U(lanes), alpha_size.size
    sums = cuda.shared.array(0, float64)
    part = U(cuda.threadIdx.x)
    while part < U(sizes * lanes):
        s = U(part // lanes)
        total, n = 0.0, U(U(first[s]) + U(part % lanes))
        while n < U(first[s + 1]):
            total += dsize[n]
            n = U(n + lanes)
        sums[part] = total
        part = U(part + U(cuda.blockDim.x))
    cuda.syncthreads()
    chosen = cuda.threadIdx.x
    while chosen < sizes:
        mean, own = 0.0, 0.0
        for s in range(sizes):
            total = 0.0
            for lane in range(np.int32(lanes)):
                total += sums[U(U(s) * lanes + U(lane))]
            mean += _share(alpha_size, s) * total
            if s == chosen:
                own = total
        dalpha_size[chosen] = _share(alpha_size, chosen) * (own - mean)
        chosen += cuda.blockDim.x


@jit
def choose(gradient, chosen, made):
    """made[k] = gradient[chosen[k]]"""
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if k < made.size:
        made[k] = gradient[chosen[k]]


class Relaxation:
    """See :class:`hrmas_sparse.engine.relaxation.Relaxation`."""

    def __init__(self, tables):
        self._names = [f"alpha_{v}" for v in tables.sizes]
        self._w_inh = tables.w_inh
        row = np.full((len(tables.sizes), tables.links), -1, np.int32)
        for own, rows, places in zip(row, tables.rows, tables.places):
            own[places] = rows
        first = np.cumsum([0, *tables.counts])
        every = np.concatenate([start + rows for start, rows in zip(first, tables.rows)])
        order = np.argsort(every, kind="stable")
        start = np.searchsorted(every[order], np.arange(first[-1] + 1))
        of_size = [(s, r) for s, count in enumerate(tables.counts) for r in range(count)]
        self._row, self._first, self._start, self._order, self._of_size = (
            to_device(np.asarray(array, np.int32))
            for array in (row, first, start, np.concatenate(tables.places)[order], of_size))

    def _given(self, parameters):
        """The parameters, and what belongs to them, as the kernels take them."""
        w_exc, alphas = parameters["w_exc"], tuple(parameters[name] for name in self._names)
        return parameters["alpha_size"], alphas, w_exc, self._row, w_exc.dtype.type(self._w_inh)

    def weights(self, parameters):
        """See :meth:`hrmas_sparse.engine.relaxation.Relaxation.weights`."""
        weights = xp.empty_like(parameters["w_exc"])
        relax[launch.flat(weights.size)](*self._given(parameters), weights)
        return weights

    def pullback(self, parameters, gradient):
        """See :meth:`hrmas_sparse.engine.relaxation.Relaxation.pullback`."""
        made = {name: xp.empty_like(parameters[name]) for name in ("w_exc", *self._names, "alpha_size")}
        dsize = xp.empty(len(self._of_size), np.float64)
        pull_back[launch.flat(max(gradient.size, dsize.size))](
            *self._given(parameters), self._start, self._order, self._of_size, gradient,
            tuple(made[name] for name in self._names), made["w_exc"], dsize)
        sizes = parameters["alpha_size"]
        pull_back_sizes[1, launch.TILE, 0, 8 * sizes.size * launch.WARP](sizes, self._first, dsize,
                                                                        np.int32(launch.WARP), made["alpha_size"])
        return made


class Selection:
    """See :class:`hrmas_sparse.engine.relaxation.Selection`."""

    def __init__(self, trained, fixed):
        self._place = to_device(np.where(trained, np.cumsum(trained) - 1, -1).astype(np.int32))
        self._trained, self._fixed = to_device(np.flatnonzero(trained).astype(np.int32)), fixed

    def weights(self, trained):
        """See :meth:`hrmas_sparse.engine.relaxation.Selection.weights`."""
        weights = xp.empty(self._place.shape, trained.dtype)
        if weights.size:
            select[launch.flat(weights.size)](trained, self._place, trained.dtype.type(self._fixed), weights)
        return weights

    def pullback(self, gradient):
        """See :meth:`hrmas_sparse.engine.relaxation.Selection.pullback`."""
        made = xp.empty(self._trained.shape, gradient.dtype)
        if made.size:
            choose[launch.flat(made.size)](gradient, self._trained, made)
        return made
