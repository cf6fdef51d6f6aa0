"""The paper's loss of a chunk in one kernel, see :mod:`hrmas_sparse.engine.losses`; the bits are those of NumPy there.

Numba's kernels do not hold the interpreter's lock, which NumPy does for arrays as small as a chunk's: on two threads
one chunk would wait for the other.

Shapes: b samples, T steps, O classes.
"""

import numpy as np
from numba import float64

from hrmas_sparse.engine.backends.cpu import LANES
from hrmas_sparse.engine.backends.cpu.compile import jit
from hrmas_sparse.engine.losses import desired_psc


@jit
def psc_loss(psc, labels, desired, scores, gradient, squares):
    """Fill the scores (b, O), the gradient (b, T, O) and its squares from psc (b, T, O) and the desired psc (T,).

    scores : zeroed; the squares are summed by the caller, in NumPy's order
    """
    for t in range(psc.shape[1]):
        for b in range(psc.shape[0]):
            for o in range(psc.shape[2]):
                a = float64(psc[b, t, o])
                scores[b, o] += a
                error = a - desired[t] if o == labels[b] else a
                gradient[b, t, o] = error
                squares[b, t, o] = error * error


def judge(loss, psc, labels, buffers):
    """Return the loss of each sample, the scores, and the gradient, see Backend.judge; ``loss`` is a PscLoss, bound."""
    samples, steps, classes = psc.shape
    scores = np.zeros((samples, classes))
    gradient, squares = buffers.get("loss", (2, LANES, steps, classes), np.float64)[:, :samples]
    psc_loss(psc, labels, desired_psc(steps, loss.func.period, loss.keywords["tau_s"]), scores, gradient, squares)
    return 0.5 * squares.sum(axis=(1, 2)), scores, gradient
