"""Spikes as networks of other frameworks take them: counts in equal bins of time."""

import numpy as np


def binned(events, bins):
    """Sum of values in each time bin and channel.

    Parameters
    ----------
    events : :class:`hrmas_sparse.data.events.Events`, S samples
    bins : equal parts of the steps; as many as there are steps keeps every step

    Returns
    -------
    (S, bins, channels) float32
    """
    shape = len(events), bins, events.channels
    sample = np.repeat(np.arange(len(events)), np.diff(events.indptr))
    place = events.step.astype(np.int64) * bins // events.steps
    place = (sample * bins + place) * events.channels + events.channel
    return np.bincount(place, events.value, int(np.prod(shape))).astype(np.float32).reshape(shape)


def root_mean_square(events, bins):
    """Root of the mean squared count, over all samples, bins and channels; 1 where there are no events.

    Dividing by it brings every data set and bin width to the same scale.
    """
    squares = sum(float((binned(events[[n]], bins) ** 2).sum()) for n in range(len(events)))
    return (squares / (len(events) * bins * events.channels)) ** 0.5 or 1.0
