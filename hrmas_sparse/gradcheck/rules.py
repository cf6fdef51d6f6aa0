"""Learning rules against finite differences of the losses they descend (mathematics 12d).

SpiKL-IP: one step of the engine against the KL loss of mathematics 8. Alpha: the second-order gradient [12-14]
against L_valid(w - eta grad L_train(w, alpha), alpha), of the smooth network.
"""

import numpy as np

from hrmas_sparse.engine.layers import LIF, Recurrent, Supernet
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.recurrence import Free, motif_connections
from hrmas_sparse.gradcheck.lines import Line, relative_error
from hrmas_sparse.gradcheck.problems import (
    CLASSES,
    TAU_M,
    TAU_S,
    V_TH,
    central_differences,
    events_of,
    network_of,
    random_events,
    random_intrinsic,
)
from hrmas_sparse.search import hrmas as search

KL_BOUND = 1e-8
EXACT_BOUND = 1e-12
ALPHA_BOUND = 1e-6

# ---- SpiKL-IP ----------------------------------------------------------------------------------------

GAMMA, MU = 0.5, 0.15
NEURONS = 40


def kl_loss(R, tau, x, v_th, mu):
    """KL(rates || exponential of mean mu) of a neuron with constant input x, as far as R and tau enter."""
    excess = R * x - v_th
    y = 1 / (tau * np.log(R * x / excess))
    return -np.log(v_th * tau * y**2 / (x * excess)) + y / mu


def descent(R, tau, y, v_th, mu):
    """-dL/dR and -dL/dtau at the input x that makes these neurons fire at rate y; all (N,)."""
    x = v_th / (1 - np.exp(-1 / (tau * y))) / R  # (Wc + v_th) / R
    R, tau = R.copy(), tau.copy()
    return tuple(-central_differences(lambda: kl_loss(R, tau, x, v_th, mu).sum(), part, 1e-2) for part in (R, tau))


def one_step(backend, tau_cal, R, tau, fire):
    """R and tau after one step of the engine in which some neurons spike, (N,)."""
    none = np.zeros(0, np.int64)
    net = network_of(1, [Recurrent(Free(NEURONS, none, none))], backend)
    parameters = Parameters([{"w": 100 * V_TH * fire[None, :], "w_rec": np.zeros(0), "R": R, "tau": tau},
                             {"w": np.zeros((NEURONS, CLASSES))}])
    after = net.adapt(parameters, events_of(np.ones((1, 1, 1)), [0]), Plasticity(tau_cal, GAMMA, MU)).intrinsic
    return after.layers[0].R, after.layers[0].tau


def intrinsic_plasticity(backend):
    """Lines of SpiKL-IP. A spike in the first step sets phi to 1, and so y to 1/tau_cal."""
    rng = np.random.default_rng(11)
    R, tau = (rng.uniform(10, 100, NEURONS) for _ in range(2))
    fire, rows = np.ones(NEURONS), []
    for tau_cal in (2.0, 6.0, 15.0):
        moved = [(new - old) / GAMMA for new, old in zip(one_step(backend, tau_cal, R, tau, fire), (R, tau))]
        for name, a, b in zip(("R", "tau"), moved, descent(R, tau, 1 / tau_cal, V_TH, MU)):
            rows.append(Line(f"SpiKL-IP: step of {name} at y = 1/{tau_cal:g}", "central differences of the KL loss",
                              relative_error(a, b), KL_BOUND))
    low, high = TAU_M / 2, 8 * TAU_M
    quiet = one_step(backend, 15.0, R, tau, 0 * fire)
    wanted = np.minimum(R + 0.1 * GAMMA, high), np.maximum(tau - 0.1 * GAMMA, low)
    rows.append(Line("SpiKL-IP: a silent neuron", "R + 0.1 gamma, tau - 0.1 gamma", relative_error(quiet, wanted),
                      EXACT_BOUND))
    edge = one_step(backend, 15.0, np.full(NEURONS, high), np.full(NEURONS, low), 0 * fire)
    wanted = np.full(NEURONS, high), np.full(NEURONS, low)
    rows.append(Line("SpiKL-IP: bounds", "1/2 and 8 times tau_m", relative_error(edge, wanted), EXACT_BOUND))
    return rows + online(backend)


def online(backend):
    """Lines of gradients taken while SpiKL-IP runs [27, 28]: those along the R[t], tau[t] it went through."""
    rng = np.random.default_rng(12)
    pattern = motif_connections(8, 4)
    net = network_of(INPUTS, [Recurrent(Free(8, pattern.source, pattern.target))], backend)
    weights = [rng.standard_normal(shape) + 1.2 for shape in ((INPUTS, 8), (8, CLASSES))]
    parameters = Parameters([{"w": weights[0], "w_rec": rng.uniform(-0.6, 0.4, pattern.source.size)},
                             {"w": weights[1]}])
    events = random_events(rng, 18, 14, INPUTS)
    parameters = parameters.replaced(random_intrinsic(rng, net.hidden, [()]))
    moving = net.gradients(parameters, events, Plasticity(15.0, GAMMA, MU), record=True)
    R, tau = moving.records[0]["trajectory"]
    given = net.gradients(parameters.replaced(Parameters([{"R": R, "tau": tau}, {}])), events).gradients.flatten()
    return [Line(f"SpiKL-IP online: {name}", "the same pass, R[t] and tau[t] given",
                 relative_error(gradient, given[name]), EXACT_BOUND)
            for name, gradient in moving.gradients.flatten().items()]


# ---- the second-order gradient of alpha --------------------------------------------------------------
#
# [14] takes a difference over eps = 0.01/||D||, a step of length 0.01 through the weights, whatever their
# size. Against weights of order 1 that leaves an error near 1e-4. Dividing v_th and all weights by a common
# unit changes nothing in the network, so the check measures its weights in a small one: the same step is
# then as good as a derivative, and the bound tight.

UNIT = 1e-3
STEPS, INPUTS, BATCH = 10, 4, 3
ETA = 0.1  # of weights in units of order 1


def alpha_problem(backend, seed=13):
    """A smooth network of two relaxed layers, and a training and a validation batch."""
    rng = np.random.default_rng(seed)
    layers = [Supernet(n, sizes, w_exc=0.3 / UNIT, w_inh=-2 / UNIT, alpha_init=1.0)
              for n, sizes in ((6, (2, 3)), (4, (1, 2)))]
    v_th = V_TH / UNIT / TAU_S
    net = Network(INPUTS, CLASSES, layers, LIF(TAU_M, TAU_S, v_th, v_th), "psc", backend, "float64", smooth=True)
    parameters = net.init(rng)
    for layer in parameters.layers:
        layer.w = (layer.w + 0.8) / UNIT
    batches = [random_events(rng, BATCH, STEPS, INPUTS) for _ in range(2)]
    return net, parameters.replaced(random_intrinsic(rng, net.hidden, [(), (STEPS,)])), *batches


def second_order(backend):
    """Lines of each group of alphas, and of what the second order adds to the first."""
    net, parameters, train, valid = alpha_problem(backend)
    eta = ETA / UNIT**2

    def after_step():
        step = net.gradients(parameters, train).gradients.only(net.weight_names)
        return parameters.replaced(Parameters(
            {name: arrays[name] - eta * g for name, g in layer.items()}
            for arrays, layer in zip(parameters.layers, step.layers)))

    gradients = search.bilevel(net, parameters, (train, valid), eta, None)[0].flatten()
    expected = {name: central_differences(lambda: net.evaluate(after_step(), valid).loss, alpha, 1e-3)
                for name, alpha in parameters.only(net.alpha_names).flatten().items()}
    first = net.gradients(after_step(), valid).gradients.flatten()
    added = [np.concatenate([(g[name] - first[name]).ravel() for name in expected]) for g in (gradients, expected)]
    pairs = [*((name, gradients[name], x) for name, x in expected.items()), ("what it adds to the first", *added)]
    return [Line(f"second order, smooth: {what}", "differences of L_valid(w - eta dL_train/dw)",
                 relative_error(a, b), ALPHA_BOUND) for what, a, b in pairs]


def lines(backend):
    """All rules."""
    return intrinsic_plasticity(backend) + second_order(backend)
