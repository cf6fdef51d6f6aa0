"""The part of naive.py that moves weights: norms, clipping and Adam, as obvious and as slow."""
import math

import numpy as np


def global_norm(arrays):
    return math.sqrt(sum(float(np.sum(np.asarray(x, float) ** 2)) for x in arrays))


def clip_by_global_norm(arrays, max_norm):
    """-> (arrays scaled together so that their joint norm is at most max_norm, the norm before)."""
    norm = global_norm(arrays)
    return [x * (max_norm / norm if norm > max_norm else 1.0) for x in arrays], norm


def adam_step(w, grad, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """step counts from 1 -> new (w, m, v)."""
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad ** 2
    return w - lr * (m / (1 - beta1 ** step)) / (np.sqrt(v / (1 - beta2 ** step)) + eps), m, v
