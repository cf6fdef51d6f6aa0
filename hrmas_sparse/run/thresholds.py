"""Thresholds for data nobody has tuned: ``network.v_th = "auto"``.

A hidden layer that never spikes learns nothing. So each layer's threshold is set once, before the first step, such that
the fresh network spikes at :data:`TARGET_RATE` on one training batch: layer by layer from the first, by bisection.
"""

import math

TARGET_RATE = 0.03           # spikes per neuron and step: what the tuned data sets start with
LOWEST, HIGHEST = 1e-3, 1e3  # thresholds tried, in tau_s
_HALVINGS = 12               # leaves a third of a percent


def choose(build, parameters, events, layers):
    """Return a threshold in tau_s for each hidden layer.

    Parameters
    ----------
    build : function (thresholds of the hidden layers) -> network
    parameters : :class:`hrmas_sparse.engine.parameters.Parameters` it starts with
    events : a training batch
    layers : number of hidden layers
    """
    chosen = [1.0] * layers
    for n in range(layers):
        low, high = math.log(LOWEST), math.log(HIGHEST)
        for _ in range(_HALVINGS):
            chosen[n] = math.exp((low + high) / 2)
            if build(tuple(chosen)).evaluate(parameters, events).rates[n] > TARGET_RATE:
                low = math.log(chosen[n])
            else:
                high = math.log(chosen[n])
        chosen[n] = float(f"{math.exp(high):.3g}")
    return tuple(chosen)
