"""Logistic regression on spike counts per channel and time bin."""

import numpy as np

from hrmas_sparse.search.counts import count_features, fit, predict, scaling


def logistic(cache, settings, seed, progress):
    """Fit on the training part, score both parts; the same whatever the seed. See :mod:`runs.comparison.worker`."""
    train, test = (count_features(events, settings["bins"]) for events in (cache.train, cache.test))
    scale, classes = scaling(train), cache.meta.classes
    start = np.zeros((train.shape[1], classes)), np.zeros(classes)
    model = fit(train, scale, cache.train.labels, settings["ridge"], start)
    right = {"train": predict(model, train, scale) == cache.train.labels,
             "test": predict(model, test, scale) == cache.test.labels}
    return right, start[0].size + classes
