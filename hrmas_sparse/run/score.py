"""Scoring a network on samples: accuracy, loss, rates, who is taken for whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hrmas_sparse.engine.backends.base import EVALUATION_BATCH
from hrmas_sparse.run.stop import Stopped, never
from hrmas_sparse.storage.errors import InputError


@dataclass(frozen=True)
class Score:
    """What a network makes of some samples.

    loss : mean; accuracy : 0..1; samples : int
    rates : mean spikes per neuron and step of each layer, output last
    output_rates : spikes per step of each output neuron, read off its summed psc: spikes near a sample's end count
        less; empty where these do not spike
    confusion : (classes, classes) nested lists of counts, [true][decided]
    predicted : (samples,) int64, the decided class of each sample
    """

    loss: float
    accuracy: float
    samples: int
    rates: list[float]
    output_rates: list[float]
    confusion: list[list[int]]
    predicted: np.ndarray = field(repr=False)

    @property
    def recall(self) -> np.ndarray:
        """Share of each class's samples that are recognised, (classes,); NaN for a class without samples."""
        return recall(self.confusion)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, without the single samples."""
        return {name: value for name, value in vars(self).items() if name != "predicted"}


def recall(confusion: list[list[int]]) -> np.ndarray:
    """Share of each class's samples that are recognised, (classes,); NaN for a class without samples."""
    counts = np.array(confusion)
    with np.errstate(invalid="ignore"):
        return counts.diagonal() / counts.sum(axis=1)


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
    confusion, scores, decided = np.zeros((classes, classes), np.int64), np.zeros(classes), []
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
        scores += outcome.scores.sum(axis=0)
        decided.append(outcome.predicted)
    spikes = scores / (count * events.steps * network.neuron.tau_s)  # a spike adds tau_s to the summed psc
    return Score(loss / count, float(confusion.trace() / count), count, (rates / count).tolist(),
                 spikes.tolist() if network.spiking_output else [], confusion.tolist(), np.concatenate(decided))
