"""Scoring a network on samples: accuracy, loss, rates, who is taken for whom."""

from dataclasses import asdict, dataclass

import numpy as np

from hrmas_sparse.engine.backends.base import EVALUATION_BATCH
from hrmas_sparse.run.stop import Stopped, never
from hrmas_sparse.storage.errors import InputError


@dataclass(frozen=True)
class Score:
    """What a network makes of some samples.

    loss : mean; accuracy : 0..1; samples : int
    rates : mean spikes per neuron and step of each layer, output last
    confusion : (classes, classes) nested lists of counts, [true][decided]
    """

    loss: float
    accuracy: float
    samples: int
    rates: list
    confusion: list

    @property
    def recall(self):
        """Share of each class's samples that are recognised, (classes,); NaN for a class without samples."""
        counts = np.array(self.confusion)
        with np.errstate(invalid="ignore"):
            return counts.diagonal() / counts.sum(axis=1)

    def as_dict(self):
        """Plain numbers and lists."""
        return asdict(self)


def evaluate(network, parameters, events, stop=never, samples=None):
    """Score a network on a split, or on some samples of it.

    Parameters
    ----------
    network : :class:`hrmas_sparse.engine.network.Network`; parameters : its Parameters
    events : :class:`hrmas_sparse.data.events.Events`
    stop : function () -> bool, asked after every batch; :class:`Stopped` is raised
    samples : (S,) int, default all

    Returns
    -------
    :class:`Score`
    """
    classes, loss, rates = network.output.size, 0.0, np.zeros(len(network.layers))
    confusion = np.zeros((classes, classes), np.int64)
    samples = np.arange(len(events)) if samples is None else samples
    count = len(samples)
    if not count:
        raise InputError("no samples to score")
    for first in range(0, count, EVALUATION_BATCH):
        batch = events[samples[first:first + EVALUATION_BATCH]]
        outcome = network.evaluate(parameters, batch)
        if stop():
            raise Stopped
        loss += outcome.loss * len(batch)
        rates += np.array(outcome.rates) * len(batch)
        np.add.at(confusion, (batch.labels, outcome.predicted), 1)
    return Score(loss / count, float(confusion.trace() / count), count, (rates / count).tolist(), confusion.tolist())
