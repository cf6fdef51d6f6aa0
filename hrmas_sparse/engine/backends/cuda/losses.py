"""The losses on the GPU, see :mod:`hrmas_sparse.engine.losses`: numbers and gradient in one launch, a block a sample.

Shapes: S samples, T steps, O classes, N neurons of a layer. Numbers are (S, 1 + O + layers), see Backend.judge.
"""

import functools
import math

import numpy as np
from numba import cuda, float64

from hrmas_sparse.engine.backends.cuda import launch
from hrmas_sparse.engine.backends.cuda.arrays import xp
from hrmas_sparse.engine.backends.cuda.compile import device, jit
from hrmas_sparse.engine.losses import CrossEntropyLoss, PscLoss


@device
def _sum(own, shared):
    """The sum over the block's threads of what each has, in their order; the first thread's alone."""
    thread = cuda.threadIdx.x
    cuda.syncthreads()   # what was summed before has been read
    shared[thread] = own
    cuda.syncthreads()
    total = 0.0
    if thread == 0:
        for n in range(cuda.blockDim.x):
            total += shared[n]
    return total


@device
def _count(sent, first, numbers, shared):
    """numbers[b, first + n] = spikes of layer n; sent : (S, N) of each layer, by every neuron."""
    b, thread = cuda.blockIdx.x, cuda.threadIdx.x
    for n in range(len(sent)):
        own, count, i = sent[n], 0, thread
        while i < own.shape[1]:     # range would divide
            count += own[b, i]
            i += cuda.blockDim.x
        total = _sum(float64(count), shared)
        if thread == 0:
            numbers[b, first + n] = total


@device
def of_psc(psc, labels, decay, period, sent, numbers, gradient):
    """The distance to the psc of the desired spikes (mathematics 4); ``decay`` is 1 - 1/tau_s."""
    b, thread, half = cuda.blockIdx.x, cuda.threadIdx.x, 0.0
    classes, shared, o = psc.shape[2], cuda.shared.array(0, float64), thread
    while o < classes:
        trace, score, due, steps = 0.0, 0.0, 0, psc.shape[1]
        arriving = psc[b, 0, o]
        for t in range(steps):
            due, trace = due + 1, decay * trace
            if due == period:
                due, trace = 0, trace + 1.0
            a = float64(arriving)
            arriving = psc[b, min(t + 1, steps - 1), o]    # asked for a step before it is used
            error = a - trace if labels[b] == o else a
            half += 0.5 * error * error
            score += a
            gradient[b, t, o] = error
        numbers[b, 1 + o] = score
        o += cuda.blockDim.x
    half = _sum(half, shared)
    if thread == 0:
        numbers[b, 0] = half
    _count(sent, 1 + classes, numbers, shared)


@device
def of_cross_entropy(psc, labels, scale, smoothing, sent, numbers, gradient):
    """The cross entropy on softmax(scale * sum_t psc)."""
    b, thread, own = cuda.blockIdx.x, cuda.threadIdx.x, 0.0
    classes, shared, o = psc.shape[2], cuda.shared.array(0, float64), thread
    while o < classes:
        score = 0.0
        for t in range(psc.shape[1]):
            score += float64(psc[b, t, o])
        numbers[b, 1 + o] = score
        o += cuda.blockDim.x
    cuda.syncthreads()
    most, total = scale * numbers[b, 1], 0.0
    for n in range(classes):
        if scale * numbers[b, 1 + n] > most:
            most = scale * numbers[b, 1 + n]
    for n in range(classes):
        total += math.exp(scale * numbers[b, 1 + n] - most)
    o = thread
    while o < classes:
        log_probability = scale * numbers[b, 1 + o] - most - math.log(total)
        target = smoothing / classes + (1.0 - smoothing if labels[b] == o else 0.0)
        own -= target * log_probability
        error = scale * (math.exp(log_probability) - target)
        for t in range(psc.shape[1]):
            gradient[b, t, o] = error
        o += cuda.blockDim.x
    loss = _sum(own, shared)
    if thread == 0:
        numbers[b, 0] = loss
    _count(sent, 1 + classes, numbers, shared)


@functools.cache
def judging(of):
    """The kernel of a loss alone; ``of`` is its function of the device."""
    @jit
    def kernel(psc, labels, first, second, sent, numbers, gradient):
        of(psc, labels, first, second, sent, numbers, gradient)
    return kernel


def known(loss):
    """The function of the device that a loss has here, and its two settings; None where it is not one of ours."""
    of = loss.func
    if type(of) is PscLoss:
        return of_psc, np.float64(1 - 1 / loss.keywords["tau_s"]), np.int64(of.period)
    if type(of) is CrossEntropyLoss:
        return of_cross_entropy, np.float64(of.scale), np.float64(of.smoothing)
    return None


def judge(loss, psc, labels, sent):
    """Numbers and gradient, see Backend.judge; None where the loss is not one of ours, or spikes are no counts."""
    of = known(loss)
    if of is None or any(count.dtype != np.int32 for count in sent):
        return None
    numbers, gradient = xp.empty((len(psc), 1 + psc.shape[2] + len(sent)), np.float64), xp.empty_like(psc)
    block = launch.TILE
    judging(of[0])[len(psc), block, 0, 8 * block](psc, labels, *of[1:], tuple(sent), numbers, gradient)
    return numbers, gradient
