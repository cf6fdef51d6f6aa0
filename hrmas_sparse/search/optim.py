"""Optimisation: Adam, clipping by global norm, learning rate schedules, the projection of w_exc."""

import math

import numpy as np

from hrmas_sparse.engine.parameters import Parameters


def global_norm(gradients):
    """Euclidean norm over all arrays together, in float64 and in the order of ``items()``; it lies where they do."""
    # Not a BLAS norm: its bits depend on the number of BLAS threads.
    return np.sqrt(sum(np.square(g, dtype=np.float64).sum() for _, g in gradients.items()))


def clipped(gradients, limit):
    """Gradients scaled down to a global norm of ``limit`` where they exceed it, and their norm before."""
    norm = global_norm(gradients)
    if limit is None:
        return gradients, norm
    # No question to the device, whose answer the host would wait for; a norm of 0 or NaN scales nothing.
    scale = np.where(norm > limit, limit / np.maximum(norm, limit), 1.0)
    return gradients.map(lambda g: g * scale.astype(g.dtype)), norm


def scheduled(rate, schedule, progress):
    """Learning rate at a progress of 0 to 1 through the phase; schedule "constant" or "cosine"."""
    return rate if schedule == "constant" else rate * 0.5 * (1 + math.cos(math.pi * progress))


def project(parameters):
    """Keep excitatory weights excitatory: w_exc >= 0, in place (paper 2.3.1)."""
    for layer in parameters.layers:
        if "w_exc" in layer:
            np.maximum(layer.w_exc, 0, out=layer.w_exc)


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

    def update(self, parameters, gradients, rate, decay=0.0):
        """Move the parameters that ``gradients`` has by one step, in place.

        ``decay`` shrinks them by rate * decay first, apart from the moments (Loshchilov and Hutter, 2019).
        """
        self.step += 1
        b1, b2 = self.betas
        unbias1, unbias2 = 1 - b1**self.step, math.sqrt(1 - b2**self.step)
        if self.step == 1:
            self.m, self.v = gradients.map(np.zeros_like), gradients.map(np.zeros_like)
        for (n, name), g in gradients.items():
            layer, m, v = parameters.layers[n], self.m.layers[n][name], self.v.layers[n][name]
            m *= b1
            m += (1 - b1) * g
            v *= b2
            v += (1 - b2) * np.square(g)
            scale = np.sqrt(v)
            scale /= unbias2
            scale += self.eps
            np.divide(m, scale, out=scale)
            scale *= rate / unbias1
            if decay:
                layer[name] *= 1 - rate * decay
            layer[name] -= scale
