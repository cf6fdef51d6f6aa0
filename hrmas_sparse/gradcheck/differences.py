"""The smooth variant, every parameter group, against central differences of its loss (mathematics 12a).

Filters, delays, sparse links, relaxation, softmax, tying and losses are those of the spiking network; only
the spike is a logistic function of the membrane potential, so that the loss has a derivative.
"""

import numpy as np

from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.layers import Feedforward, Integrator, Motifs, Supernet
from hrmas_sparse.engine.parameters import INTRINSIC
from hrmas_sparse.gradcheck.lines import Line, relative_error
from hrmas_sparse.gradcheck.problems import (
    FEW,
    MANY,
    TAU_S,
    V_TH,
    Problem,
    central_differences,
    loss_named,
    network_of,
    random_events,
    random_intrinsic,
)

BOUND = 1e-6
STEP = 1e-3
STEPS, INPUTS = 10, 8


def _tied():
    return [Supernet(12, (2, 3, 4), alpha_init=1.0)]


def _untied():
    return [Supernet(8, (2, 4), tied=False, alpha_init=1.0)]


def _stacked():
    return [Supernet(6, (2, 3), alpha_init=1.0),
            Supernet(8, (2, 4), inter=False, alpha_init=1.0, v_th=1.5 * V_TH / TAU_S)]


def _fixed():
    types = np.arange(4 * 4 + 2 * 4, dtype=np.int8) % 3
    return [Motifs(8, architecture=Architecture(8, 4, True, types)), Feedforward(5)]


# name, layers, loss, its period, samples, R and tau: axes before N for each hidden layer, windows of integrators
CASES = (
    ("tied", _tied, "psc", 1, 3, [()]),
    ("untied", _untied, "cross_entropy", 1, 3, [(STEPS,)]),
    ("stacked", _stacked, "psc", 2, 3, [(3, STEPS), ()]),
    ("stacked", _stacked, "cross_entropy", 1, 20, [(20, STEPS), (20, STEPS)]),
    ("motif", _fixed, "psc", 2, 3, [(STEPS,), ()]),
    ("integrators", _tied, "cross_entropy", 1, 3, [(STEPS,)], 3),
)


def problem(backend, case, seed=0):
    """The smooth network of one of the ``CASES``, float64."""
    _, build, loss, period, batch, leading, *windows = case
    rng = np.random.default_rng(seed)
    layers = build()
    net = network_of(INPUTS, layers, backend, loss_named(loss, period), smooth=True,
                     readout=Integrator(*windows) if windows else None)
    parameters = net.init(rng)
    for layer in parameters.layers:
        layer.w += 0.8  # enough input for every layer to be active: errors then stand out from rounding
        if "w_exc" in layer:
            layer.w_exc *= rng.uniform(0.5, 2, layer.w_exc.shape)
    events = random_events(rng, batch, STEPS, INPUTS, real=period == 2, share=MANY if period == 2 else FEW)
    return Problem(net, parameters.replaced(random_intrinsic(rng, net.hidden, leading)), events)


def lines(backend):
    """One line per parameter group of every case."""
    rows = []
    for case in CASES:
        net, parameters, events = problem(backend, case)
        own = not any(case[5])   # R and tau have gradients where each neuron has one of either
        gradients = net.gradients(parameters, events, intrinsic=own).gradients
        title = f"smooth, {case[0]}, {case[2]}" + (f" period {case[3]}" if case[2] == "psc" else "")
        for entry, gradient in gradients.items():
            name, = parameters.only([entry]).flatten()
            value = parameters.layers[entry[0]][entry[1]]
            expected = central_differences(
                lambda: net.evaluate(parameters, events).loss, value, STEP)  # noqa: B023
            if entry[1] in INTRINSIC:
                name, expected = f"ln {name}", value * expected
            rows.append(Line(f"{title}: {name}", "central differences of the loss",
                              relative_error(gradient, expected), BOUND))
    return rows
