"""Small seeded problems to check the engine on."""

from typing import NamedTuple

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine import losses
from hrmas_sparse.engine.layers import LIF
from hrmas_sparse.engine.network import Network
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters

TAU_M, TAU_S, V_TH = 16.0, 8.0, 8.0
CLASSES = 3


class Problem(NamedTuple):
    """A network with everything a pass needs."""

    network: Network
    parameters: Parameters
    events: Events


def events_of(dense, labels):
    """A dense batch (B, T, C) with its labels (B,) as events."""
    sample, step, channel = np.nonzero(dense)
    indptr = np.searchsorted(sample, np.arange(len(dense) + 1)).astype(np.int64)
    return Events(indptr, step.astype(np.uint16), channel.astype(np.uint16), dense[sample, step, channel],
                  np.asarray(labels, np.int64), dense.shape[1], dense.shape[2])


FEW, MANY = 0.06, 0.8  # shares of the input that are not 0: backends may treat dense input in another way


def random_events(rng, batch, steps, channels, real=False, share=MANY):
    """Events at random, 0 or 1 or, if real, of any size."""
    shape = batch, steps, channels
    dense = (rng.random(shape) < share) * (rng.uniform(0.2, 2, shape) if real else np.ones(shape))
    return events_of(dense, rng.integers(CLASSES, size=batch))


def loss_named(name, period=1):
    """A loss as a network takes it, looked up now."""
    made = {"psc": lambda: losses.PscLoss(period), "cross_entropy": lambda: losses.CrossEntropyLoss(scale=0.3)}
    return made[name]()


def network_of(channels, hidden, backend, loss="psc", smooth=False, slope_cap=1.0, readout=None):
    """A float64 network of these layers, its thresholds ``V_TH`` unless a layer has its own."""
    neuron = LIF(TAU_M, TAU_S, V_TH / TAU_S, V_TH / TAU_S, slope_cap, 0.2)
    return Network(channels, CLASSES, hidden, neuron, loss, backend, "float64", smooth, readout)


def random_intrinsic(rng, layers, leading):
    """R and tau of every hidden layer, as Parameters; leading holds each layer's axes before N: (), (T,) or (B, T)."""
    return Parameters([*({name: TAU_M * rng.uniform(0.6, 1.5, (*axes, layer.size)) for name in INTRINSIC}
                         for layer, axes in zip(layers, leading)), {}])


def central_differences(function, x, step):
    """Derivative of function(), a number that depends on the array x, by every entry of x.

    Fourth order: the error falls with step**4. x is changed in place and put back.
    """
    slope = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        start = x[i]
        for moves, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            x[i] = start + moves * step
            slope[i] += weight * function() / (12 * step)
        x[i] = start
    return slope
