"""How much of a data set do spike counts tell?  The baseline that a network's accuracy is read against."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

from hrmas_sparse.spikes import Events, SpikeCache, halve

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def count_baseline(cache: SpikeCache, bins: int = 1) -> float:
    """Test accuracy, 0..1, of logistic regression on spike counts per channel and time bin.

    Features are standardised, the ridge penalty is the best of `RIDGES` on one half of the training set after fitting
    the other; the test set is scored once.

    Parameters
    ----------
    cache : opened spike cache
    bins : equal parts of the steps; 1 counts over the whole sample and is blind to time
    """
    train, test = count_features(cache.train, bins), count_features(cache.test, bins)
    label = cache.train.label
    scale = 1 / np.maximum(_deviation(train), 1e-9)
    train, test = train.multiply(scale).tocsr(), test.multiply(scale).tocsr()
    fit, valid = halve(label, 0)
    models = [_fit(train[fit], label[fit], cache.meta.classes, ridge) for ridge in RIDGES]
    best = RIDGES[int(np.argmax([_accuracy(model, train[valid], label[valid]) for model in models]))]
    return _accuracy(_fit(train, label, cache.meta.classes, best), test, cache.test.label)


def count_features(events: Events, bins: int) -> csr_array:
    """Sum of values, (S, bins * channels) float64, per time bin and channel."""
    sample = np.repeat(np.arange(len(events)), np.diff(events.indptr))
    part = events.step.astype(np.int64) * bins // events.steps
    shape = (len(events), bins * events.channels)
    return csr_array((events.value.astype(np.float64), (sample, part * events.channels + events.channel)), shape)


def _deviation(x: csr_array) -> np.ndarray:
    mean = np.asarray(x.mean(axis=0)).ravel()
    return np.sqrt(np.maximum(np.asarray(x.multiply(x).mean(axis=0)).ravel() - mean**2, 0.0))


def _fit(x: csr_array, label: np.ndarray, classes: int, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (features, classes) and biases (classes,) of softmax regression, mean cross-entropy + ridge |w|^2 / 2."""
    samples, features = x.shape
    # Centring inside the loss leaves the matrix sparse; the free bias makes it the same model, only better conditioned.
    mean = np.asarray(x.mean(axis=0)).ravel()
    transposed = x.T.tocsr()

    def loss(flat):
        w, b = flat[:-classes].reshape(features, classes), flat[-classes:]
        z = x @ w + (b - mean @ w)
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        nll = np.mean(np.log(total[:, 0]) - z[np.arange(samples), label])
        p /= total
        p[np.arange(samples), label] -= 1
        p /= samples
        bias = p.sum(axis=0)
        weights = transposed @ p - np.outer(mean, bias) + ridge * w
        return nll + ridge / 2 * np.sum(w * w), np.concatenate([weights.ravel(), bias])

    flat = minimize(loss, np.zeros((features + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    w = flat[:-classes].reshape(features, classes)
    return w, flat[-classes:] - mean @ w


def _accuracy(model: tuple[np.ndarray, np.ndarray], x: csr_array, label: np.ndarray) -> float:
    w, b = model
    return float(np.mean((x @ w + b).argmax(axis=1) == label))
