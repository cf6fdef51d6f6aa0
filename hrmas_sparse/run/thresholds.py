"""Thresholds for data nobody has tuned: ``network.v_th = "auto"``.

A hidden layer that never spikes learns nothing. So each layer's threshold is set once, before the first step, such that
the fresh network spikes at :data:`TARGET_RATE` on one training batch: layer by layer from the first, by bisection.
Inhibition inside a layer may keep it from ever reaching that rate. Then half of what it reaches is the target: the
lowest thresholds are no way out, for errors explode through the inhibitory loop.
"""

import math

from hrmas_sparse.storage.errors import InputError

TARGET_RATE = 0.01           # spikes per neuron and step
LOWEST, HIGHEST = 0.05, 1e4  # thresholds tried, in tau_s
_HALVINGS = 13               # leaves a sixth of a percent


def choose(build, parameters, events, layers):
    """Return a threshold in tau_s for each hidden layer.

    Parameters
    ----------
    build : function (thresholds of the hidden layers) -> network
    parameters : :class:`hrmas_sparse.engine.parameters.Parameters` it starts with
    events : a training batch
    layers : number of hidden layers

    Raises
    ------
    InputError
        A layer is silent at the lowest threshold: the samples have no events, or hardly any strength.
    """
    chosen = [1.0] * layers
    for n in range(layers):
        def rate(log_v_th):
            chosen[n] = math.exp(log_v_th)  # noqa: B023
            return build(tuple(chosen)).evaluate(parameters, events).rates[n]  # noqa: B023

        low, high = math.log(LOWEST), math.log(HIGHEST)
        target = min(TARGET_RATE, rate(low) / 2)
        if target == 0:
            raise InputError(f"network.v_th: hidden layer {n + 1} is silent even at {LOWEST}, on a batch of "
                             f"{len(events)} samples with {len(events.step):,} events; expected training samples with "
                             "events, intensities of about 1; scale them, or give a number in place of auto")
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if rate(middle) > target else (low, middle)
        chosen[n] = float(f"{math.exp(low):.3g}")
    return tuple(chosen)
