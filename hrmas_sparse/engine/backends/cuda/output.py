"""The output layer on the GPU in one launch: forward through all steps, the loss, and back; a block a sample.

The formulas are those of step.py and losses.py, for neurons that hear nothing of each other: each belongs to a thread.

Shapes: S samples, T steps, O output neurons.
"""

import functools

from numba import cuda

from hrmas_sparse.engine.backends.cuda.compile import (
    after_reset,
    device,
    filtered,
    fires,
    jit,
    membrane,
    slope_at,
    surrogate_error,
    through_time_error,
    timing_error,
)

MOST = 1024   # neurons of such a layer: of more, tiles of them in several launches are taken to be faster


@device
def _ahead(k, b, i, leak, drive, v, psc):
    """Take neuron i of sample b through all steps: leaves v and psc; returns how often it spiked."""
    steps, c, u, a, count = v.shape[1], k.zero, k.zero, k.zero, 0
    arriving = v[b, 0, i]
    for t in range(steps):
        c = filtered(k, c, arriving)
        arriving = v[b, min(t + 1, steps - 1), i]    # asked for a step before it is used
        potential = membrane(k, leak, drive, u, c)
        spike = k.one if fires(k, potential) else k.zero
        u, a = after_reset(k, potential, spike), filtered(k, a, spike)
        v[b, t, i], psc[b, t, i] = potential, a
        count += 1 if fires(k, potential) else 0
    return count


@device
def _back(k, through_time, b, i, leak, drive, v, psc, errors):
    """Take it back (mathematics 5, 6), or its gradient: dL/da becomes E, the filtered error, in place."""
    effect, error, filtered_error, last = k.zero, k.zero, k.zero, v.shape[1] - 1
    potential, v_before = v[b, last, i], v[b, max(last - 1, 0), i]
    arriving, trace = errors[b, last, i], psc[b, last, i]
    for t in range(last, -1, -1):
        gradient, a = arriving, trace
        earlier = v[b, max(t - 2, 0), i]    # as the others, asked for a step before it is used
        arriving, trace = errors[b, max(t - 1, 0), i], psc[b, max(t - 1, 0), i]
        u_before = k.zero if t == 0 or fires(k, v_before) else v_before    # before the first step, as after a spike
        effect = filtered(k, effect, gradient)
        if through_time:
            error = through_time_error(k, potential, effect, slope_at(k, potential), leak, error)
        else:
            error = timing_error(k, potential, u_before, leak, effect, error)
        delta = error
        if not through_time and not a > k.below_silent:
            delta = surrogate_error(k, effect, slope_at(k, potential))
        filtered_error = filtered(k, filtered_error, drive * delta)
        errors[b, t, i] = filtered_error
        potential, v_before = v_before, earlier


@functools.cache
def output(of_loss, back, through_time=False):
    """The kernel of an output layer and a loss, see losses.py; ``back`` says whether errors are wanted.

    By TSSL-BP or, ``through_time``, by surrogate gradient through time.

    leaks, drives : 1/tau and R/tau, (O,)
    v : (S, T, O), holds the current and becomes the membrane potential before reset
    psc : output, (S, T, O)
    sent : spikes of each layer, (S, neurons) int32; the last, the output's, is an output
    numbers : output, see Backend.judge
    errors : output, (S, T, O), E; without ``back`` the gradient of the loss by psc
    shared memory : a float64 for each thread
    """
    @functools.partial(jit, registers=80)     # enough for blocks of launch.TILE threads
    def kernel(k, leaks, drives, labels, first, second, sent, v, psc, numbers, errors):
        b, i, outputs, own = cuda.blockIdx.x, cuda.threadIdx.x, v.shape[2], sent[-1]
        while i < outputs:      # range would divide
            own[b, i] = _ahead(k, b, i, leaks[i], drives[i], v, psc)
            i += cuda.blockDim.x
        of_loss(psc, labels, first, second, sent, numbers, errors)   # its threads have the same neurons
        i = cuda.threadIdx.x
        while back and i < outputs:
            _back(k, through_time, b, i, leaks[i], drives[i], v, psc, errors)
            i += cuda.blockDim.x
    return kernel
