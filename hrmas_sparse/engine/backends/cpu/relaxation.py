"""The relaxation on the CPU: one loop over a size's links each way, with NumPy's bits.

Shapes: n links of a motif size, R rows of its table of types, nnz links of all sizes together.
"""

import numpy as np
from numba import float64

from hrmas_sparse.engine import relaxation
from hrmas_sparse.engine.backends.cpu.compile import exact


@exact
def add_weights(rows, places, excitation, inhibition, w_exc, weights):
    """weights[p] += excitation[r] w_exc[p] + inhibition[r] for each link, of row r and at place p."""
    for i in range(rows.size):
        r, p = rows[i], places[i]
        weights[p] += excitation[r] * w_exc[p] + inhibition[r]


@exact
def pull(rows, places, gradient, w_exc, share, excitation, inhibition, dw_exc):
    """Add to each row's sums, (R,) float64, and to dw_exc (nnz,) what comes from the gradient of its links (nnz,)."""
    for i in range(rows.size):
        r, p = rows[i], places[i]
        g = gradient[p]
        excitation[r] += float64(g * w_exc[p])
        inhibition[r] += float64(g)
        dw_exc[p] += g * share[r]


class Relaxation(relaxation.Relaxation):
    """See :class:`hrmas_sparse.engine.relaxation.Relaxation`."""

    def __init__(self, tables):
        unsigned = ([array.astype(np.uint32) for array in arrays] for arrays in (tables.rows, tables.places))
        rows, places = unsigned  # signed ones are checked for being negative, one by one
        super().__init__(tables._replace(rows=rows, places=places))

    def _add_weights(self, rows, places, excitation, inhibition, w_exc, weights):
        add_weights(rows, places, np.ascontiguousarray(excitation), inhibition, w_exc, weights)

    def _pull(self, rows, places, count, gradient, w_exc, excitation, dw_exc):
        sums = np.zeros(count), np.zeros(count)
        pull(rows, places, gradient, w_exc, excitation, *sums, dw_exc)
        return sums
