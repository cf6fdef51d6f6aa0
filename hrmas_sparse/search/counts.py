"""How much of a data set do spike counts tell? The baseline that a network's accuracy is read against."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from tqdm.auto import tqdm

from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.events import Events, halve

RIDGES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # strong to weak: each fit starts from the one before
_BLOCK = 250  # samples counted at a time

Model = tuple[np.ndarray, np.ndarray]  # weights (features, classes), biases (classes,); float64


def count_baseline(data: Dataset, bins: int = 1) -> float:
    """Test accuracy, 0..1, of logistic regression on spike counts per channel and time bin.

    Features are standardised, the ridge penalty is the best of `RIDGES` on one half of the training set after fitting
    the other; the test set is scored once.

    Parameters
    ----------
    data : Dataset
        Both parts have samples.
    bins : equal parts of the steps; 1 counts over the whole sample and is blind to time
    """
    train, test = count_features(data.train, bins), count_features(data.test, bins)
    label, classes = data.train.labels, data.meta.classes
    scale = scaling(train)
    model, score = (np.zeros((train.shape[1], classes)), np.zeros(classes)), {}
    half, valid = halve(label, 0)
    x, y = train[half], label[half]
    for ridge in tqdm(RIDGES, "count baseline", unit="fit", disable=None, delay=2, leave=False):
        model = fit(x, scale, y, ridge, model)
        score[ridge] = float(np.mean(predict(model, train, scale)[valid] == label[valid]))
    del x
    model = fit(train, scale, label, max(score, key=score.__getitem__), model)
    return float(np.mean(predict(model, test, scale) == data.test.labels))


def count_features(events: Events, bins: int) -> csr_array:
    """Sum of values, (S, bins * channels) float64, per time bin and channel."""
    blocks = []
    for begin in range(0, len(events), _BLOCK):
        block = events[np.arange(begin, min(begin + _BLOCK, len(events)))]
        sample = np.repeat(np.arange(len(block)), np.diff(block.indptr))
        feature = block.step.astype(np.int64) * bins // block.steps * block.channels + block.channel
        shape = (len(block), bins * block.channels)
        blocks.append(csr_array((block.value.astype(np.float64), (sample, feature)), shape))
        blocks[-1].indices = blocks[-1].indices.astype(np.int32)  # half the memory
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(block.indptr) for block in blocks]))])
    data, indices = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("data", "indices"))
    small = np.int32 if len(data) < 2**31 else np.int64
    return csr_array((data, indices, indptr.astype(small)), (len(events), bins * events.channels))


def scaling(x: csr_array) -> np.ndarray:
    """(features,) float64: what brings every feature to deviation 1; 0 where it never varies and says nothing."""
    mean = np.asarray(x.mean(axis=0)).ravel()
    square = np.bincount(x.indices, x.data**2, minlength=x.shape[1]) / x.shape[0]
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    return np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)


def fit(x: csr_array, scale: np.ndarray, label: np.ndarray, ridge: float, start: Model) -> Model:
    """Softmax regression on x * scale, mean cross-entropy + ridge |w|^2 / 2, from `start`."""
    (samples, features), classes = x.shape, len(start[1])
    # Scaling and centring inside the loss leave the matrix sparse and alone in memory; the free bias makes centring
    # the same model, only better conditioned.
    mean, scale = np.asarray(x.mean(axis=0)).ravel() * scale, scale[:, None]

    def loss(flat):
        w, b = flat[:-classes].reshape(features, classes), flat[-classes:]
        z = x @ (scale * w) + (b - mean @ w)
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        nll = np.mean(np.log(total[:, 0]) - z[np.arange(samples), label])
        p /= total
        p[np.arange(samples), label] -= 1
        p /= samples
        bias = p.sum(axis=0)
        weights = scale * (x.T @ p) - np.outer(mean, bias) + ridge * w
        return nll + ridge / 2 * np.sum(w * w), np.concatenate([weights.ravel(), bias])

    w, b = start
    flat = np.concatenate([w.ravel(), b + mean @ w])
    flat = minimize(loss, flat, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    w = flat[:-classes].reshape(features, classes)
    return w, flat[-classes:] - mean @ w


def predict(model: Model, x: csr_array, scale: np.ndarray) -> np.ndarray:
    """Classes, (samples,) int64."""
    w, b = model
    return (x @ (scale[:, None] * w) + b).argmax(axis=1)
