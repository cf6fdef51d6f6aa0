"""Optimisation: Adam, learning rate schedules. The arithmetic is that of engine/learning.py."""

import math

import numpy as np

from hrmas_sparse.engine import learning
from hrmas_sparse.engine.parameters import Parameters


def global_norm(gradients):
    """Euclidean norm over all arrays together, in float64 and in the order of ``items()``; arrays on the host."""
    return learning.norm_of(learning.squares(gradients))


def scheduled(rate, schedule, progress):
    """Learning rate at a progress of 0 to 1 through the phase; schedule "constant" or "cosine"."""
    return rate if schedule == "constant" else rate * 0.5 * (1 + math.cos(math.pi * progress))


class Adam:
    """Adam (Kingma and Ba, 2014) on :class:`hrmas_sparse.engine.parameters.Parameters`.

    Parameters
    ----------
    betas : decay of the first and second moment
    eps : added to the root of the second moment

    Attributes
    ----------
    m, v : moments, Parameters shaped as the gradients, without a layer before the first update
    step : number of updates made
    """

    def __init__(self, betas=(0.9, 0.999), eps=1e-8):
        self.betas, self.eps = betas, eps
        self.m, self.v, self.step = Parameters([]), Parameters([]), 0

    def to(self, move):
        """Return the same optimiser with every array moved by a backend's to_device or to_host."""
        other = Adam(self.betas, self.eps)
        other.m, other.v, other.step = self.m.map(move), self.v.map(move), self.step
        return other

    def update(self, parameters, gradients, rate, decay=0.0, limit=None, squares=None, on=learning):
        """Move the parameters that ``gradients`` has by one step, in place; w_exc stays at least 0.

        Parameters
        ----------
        parameters, gradients : Parameters
        rate : learning rate
        decay : shrinks the parameters by rate * decay, apart from the moments (Loshchilov and Hutter, 2019)
        limit : global norm that the gradients are clipped to, None for no limit
        squares : of the gradients, see learning.py, if they are known
        on : where the arrays lie: a backend's ``learning``
        """
        self.step += 1
        if self.step == 1:
            self.m, self.v = gradients.map(np.zeros_like), gradients.map(np.zeros_like)
        for dtype in {g.dtype for _, g in gradients.items()}:   # one, or none where nothing has a gradient
            k = learning.adam_constants(dtype, self.betas, self.eps, self.step, rate, decay)
            on.adam(k, parameters, gradients, (self.m, self.v), on.squares(gradients) if squares is None else squares,
                    math.inf if limit is None else limit)
