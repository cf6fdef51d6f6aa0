"""HRMAS against the dense reference: the bi-level gradient, a whole iteration, narrowing, discretising."""

import copy
from dataclasses import replace

import naive
import numpy as np
import pytest
from dense import TAU_M, TAU_S, assert_close, assert_same_bits, random_case, supernet_values

from hrmas_sparse.settings.load import load
from hrmas_sparse.engine.network import Plasticity
from hrmas_sparse.search.optim import Adam
from hrmas_sparse.search.hrmas import (
    Learner, StepSettings, alpha_gradient, bilevel, discretize, dropout_scales, entropy, keep_best_sizes, search_step,
    weight_step)
from hrmas_sparse.engine.recurrence import Discrete
from hrmas_sparse.engine.relaxation import softmax

ONE = (("supernet", 12, (2, 3)),)
TWO = (("supernet", 12, (2, 3)), ("supernet", 8, (2, 4)))
PLASTICITY = Plasticity(tau_cal=16.0, gamma=0.5, mu=0.2)
SETTINGS = load("ntidigits").search
WINDOW = StepSettings(0.003, 1.0, PLASTICITY, "window")


def untied(hidden):
    return tuple((*layer, True, False) for layer in hidden)


def halves(seed, hidden, **options):
    """A case, and its batch as training and validation batch: for naive and for the engine."""
    case = random_case(seed, hidden, B=8, T=14, R="fixed", tau="fixed", density=0.4, **options)
    dense = [(case.X[part], case.Y[part]) for part in (slice(0, 4), slice(4, 8))]
    batch = case.events()
    return case, dense, [batch[np.arange(4)], batch[np.arange(4, 8)]]


def engine_values(case, layers):
    """naive's layers, or gradients of them, under the names of files."""
    found = {}
    for n, layer in enumerate(layers, start=1):
        found["w_out" if n == len(layers) else f"w{n}"] = layer["W_in"].T
    for n, (layer, recurrence) in enumerate(zip(layers, case.recurrences), start=1):
        found.update({f"rec{n}.{key}": x for key, x in supernet_values(layer, recurrence).items()})
    return found


def alphas(case, grads):
    """naive's alpha gradients under the names of files."""
    blank = [dict(layer, **(grad or {})) for layer, grad in zip(case.layers, grads)]
    return {name: x for name, x in engine_values(case, blank).items() if "alpha" in name}


# ---- the bi-level gradient ------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [ONE, TWO, untied(ONE), untied(TWO)], ids=["one", "two", "one-untied", "two-untied"])
@pytest.mark.parametrize("eta, clip", [(1e-5, None), (0.01, 1.0), (0.01, 1e6)])
def test_second_order(backend, hidden, eta, clip):
    case, dense, (train, valid) = halves(1, hidden)
    parameters = case.parameters()
    before = copy.deepcopy(parameters)
    network = case.network(backend)
    found = alpha_gradient(network, parameters, train, valid, eta=eta, clip=clip)
    expected = naive.hyper_gradient(*dense, case.layers, TAU_S, eta, clip)
    again, passed = bilevel(network, parameters, (train, valid), eta, clip)
    assert network.outcomes([passed], valid)[0][0].loss == pytest.approx(expected["loss"], rel=1e-9)
    assert_same_bits(again, found)
    assert_close(found, alphas(case, expected["grads"]), 1e-7)
    assert_same_bits(parameters, before)                                # w came back from a copy


def test_the_second_order_term_is_there(backend):
    case, _, (train, valid) = halves(1, ONE)
    network = case.network(backend)
    first, second = (alpha_gradient(network, case.parameters(), train, valid, eta=0.01, order=order).flatten()
                     for order in ("first", "second"))
    assert all(np.abs(first[name] - second[name]).max() > 1e-3 * np.abs(first[name]).max() for name in first)


@pytest.mark.parametrize("hidden", [ONE, TWO], ids=["one", "two"])
def test_first_order_is_the_validation_gradient_at_w(backend, hidden):
    case, dense, (train, valid) = halves(2, hidden)
    found = alpha_gradient(case.network(backend), case.parameters(), train, valid, eta=0.01, order="first")
    _, grads = naive.supernet_gradients(*dense[1], case.layers, TAU_S)
    expected = {name: x for name, x in engine_values(case, grads_as_layers(case, grads)).items() if "alpha" in name}
    assert_close(found, expected, 1e-9)


def grads_as_layers(case, grads):
    return [dict(layer, **grad) for layer, grad in zip(case.layers, grads)]


def test_inner_step_reaches_below_zero(backend):
    """w_exc >= 0 holds after the Adam step only, not in w' and w+- (mathematics 14)."""
    case, dense, (train, valid) = halves(3, ONE)
    case.layers[0]["w_exc"] *= 1e-4
    found = alpha_gradient(case.network(backend), case.parameters(), train, valid, eta=0.05)
    inner = naive.moved(case.layers, -0.05, naive.supernet_gradients(*dense[0], case.layers, TAU_S)[1])
    assert (inner[0]["w_exc"] < 0).any()
    assert_close(found, alphas(case, naive.hyper_gradient(*dense, case.layers, TAU_S, 0.05, 1.0)["grads"]), 1e-7)


def test_silence_is_no_division_by_zero(backend):
    case, _, _ = halves(4, ONE)
    case.X[:] = 0
    batch = case.events()
    found = alpha_gradient(case.network(backend), case.parameters(), batch, batch, eta=0.01)
    assert all(np.isfinite(x).all() for _, x in found.items())


# ---- a whole iteration --------------------------------------------------------------------------------------


def tree(function, *trees):
    """Apply a function to corresponding arrays of nested dicts."""
    if isinstance(trees[0], dict):
        return {key: tree(function, *(t[key] for t in trees)) for key in trees[0]}
    return None if trees[0] is None else function(*trees)


class Reference:
    """Algorithm 1 in naive's words; keeps Adam's moments by layer and key."""

    def __init__(self, case):
        self.layers, self.moments, self.steps = copy.deepcopy(case.layers), {}, {}

    def adam(self, kind, keys, grads, rate, betas):
        self.steps[kind] = step = self.steps.get(kind, 0) + 1
        for n, (layer, grad) in enumerate(zip(self.layers, grads)):
            for key in keys(layer):
                zero = tree(np.zeros_like, grad[key])
                m, v = self.moments.get((n, key), (zero, zero))
                moved = [tree(lambda *x, i=i: naive.adam_step(*x, step, rate, *betas)[i], layer[key], grad[key], m, v)
                         for i in range(3)]
                layer[key], self.moments[n, key] = moved[0], moved[1:]

    def iterate(self, train, valid, rate, clip, settings):
        alpha = naive.hyper_gradient(train, valid, self.layers, TAU_S, rate, clip)["grads"]
        self.adam("alpha", lambda x: ["alpha_size", "alphas"] if "sizes" in x else [], alpha, settings.alpha_lr,
                  settings.alpha_betas)
        _, grads = naive.supernet_gradients(*train, self.layers, TAU_S)          # at the new alpha
        norm = naive.weights_norm(self.layers, grads)
        grads = [tree(lambda g: g * min(1.0, clip / norm), grad) for grad in grads]
        self.adam("w", naive.weight_names, grads, rate, (0.9, 0.999))
        for layer in self.layers:
            if "w_exc" in layer:
                layer["w_exc"] = np.maximum(layer["w_exc"], 0)
        plain = [dict(x, W_rec=naive.effective_matrix(**naive.relaxation_of(x))) if "sizes" in x else x
                 for x in self.layers]
        window = naive.spikl_ip_network(train[0], plain, TAU_S, TAU_M, PLASTICITY.tau_cal, PLASTICITY.gamma,
                                        PLASTICITY.mu)                           # with the new weights
        for layer, after in zip(self.layers[:-1], window):
            layer["R"], layer["tau"] = after["R_end"], after["tau_end"]
        return norm


@pytest.mark.parametrize("hidden", [ONE, untied(TWO)], ids=["one", "two-untied"])
def test_iterations_are_the_reference(backend, hidden):
    case, dense, (train, valid) = halves(5, hidden)
    network, reference = case.network(backend), Reference(case)
    settings = replace(SETTINGS, alpha_lr=0.05, eta=None, alpha_clip=0.0)  # naive.py clips w's gradient alone
    learner = Learner(case.parameters(), Adam(), Adam(settings.alpha_betas))
    for _ in range(3):
        norm = search_step(network, learner, train, valid, settings, WINDOW).norm
        assert norm == pytest.approx(reference.iterate(*dense, 0.003, 1.0, settings), rel=1e-6)
        assert_close(learner.parameters.trained(), engine_values(case, reference.layers), 1e-6)
        expected = {f"{key}{n}": layer[key] for n, layer in enumerate(reference.layers[:-1], 1) for key in ("R", "tau")}
        assert_close(learner.parameters.intrinsic(), expected, 1e-9)
        assert not np.array_equal(learner.parameters.layers[0].R, case.parameters().layers[0].R)


def run_step(backend, mode, **change):
    case, _, (train, valid) = halves(5, ONE)
    learner = Learner(case.parameters(), Adam(), Adam())
    search_step(case.network(backend), learner, train, valid, replace(SETTINGS, **change), WINDOW._replace(mode=mode))
    return learner


def test_eta_follows_the_rate_unless_it_is_given(backend):
    assert_same_bits(run_step(backend, "off", eta=None).parameters, run_step(backend, "off", eta=0.003).parameters)
    other = run_step(backend, "off", eta=0.5).alpha_adam.m.flatten()
    found = run_step(backend, "off", eta=None).alpha_adam.m.flatten()
    assert any((x != other[name]).any() for name, x in found.items())


def test_plasticity_off_leaves_the_neurons_alone(backend):
    off, window, online = (run_step(backend, mode).parameters for mode in ("off", "window", "online"))
    assert_same_bits(off.intrinsic(), {key: np.full(12, TAU_M) for key in ("R1", "tau1")})
    R = window.layers[0].R, online.layers[0].R
    assert (R[0] != TAU_M).any() and (R[1] != TAU_M).any() and (R[0] != R[1]).any()


@pytest.mark.parametrize("mode", ["window", "online", "off"])
def test_what_is_no_number_teaches_nothing(backend, mode):
    case, _, (train, valid) = halves(5, ONE)
    learner = Learner(case.parameters(), Adam(), Adam())
    learner.parameters.layers[0].w[0, 0] = np.nan
    before = copy.deepcopy(learner)
    step = WINDOW._replace(mode=mode)
    result = search_step(case.network(backend), learner, train, valid, SETTINGS, step)
    assert not (np.isfinite(result.outcome.loss) and np.isfinite(result.norm))
    result = weight_step(case.network(backend), learner, train, step)
    assert not (np.isfinite(result.outcome.loss) and np.isfinite(result.norm))
    assert_same_bits(learner.parameters, before.parameters)
    assert learner.w_adam.step == learner.alpha_adam.step == 0


# ---- dropout ----------------------------------------------------------------------------------------------------


def test_dropout_is_the_network_without_those_neurons(backend):
    case, _, (train, _) = halves(5, TWO)
    network, learner = case.network(backend), Learner(case.parameters(), Adam(), Adam())
    scales = dropout_scales(network, 0.5, np.random.default_rng(1))
    assert {n: x.shape for n, x in scales.items()} == {1: (network.hidden[0].size, 1), 2: (network.hidden[1].size, 1)}
    assert set(np.concatenate([x.ravel() for x in scales.values()]).tolist()) == {0.0, 2.0}
    thinned, before = learner.parameters.copy(), learner.parameters.copy()
    for n, x in scales.items():
        thinned.layers[n].w *= x
    expected = network.gradients(thinned, train)
    outcome = weight_step(network, learner, train, StepSettings(0.01, None, scales=scales)).outcome
    assert outcome.loss == expected.loss
    for n, x in scales.items():
        cut, found = x[:, 0] == 0, learner.parameters.layers[n].w
        np.testing.assert_array_equal(outcome.gradients.layers[n].w,
                                      2 * expected.gradients.layers[n].w * ~cut[:, None])
        np.testing.assert_array_equal(found[cut], before.layers[n].w[cut])


def test_no_dropout_draws_nothing(backend):
    rng = np.random.default_rng(1)
    assert dropout_scales(halves(5, TWO)[0].network(backend), 0.0, rng) == {}
    assert rng.integers(1 << 60) == np.random.default_rng(1).integers(1 << 60)


# ---- the end of a stage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_the_best_size_keeps_what_was_learnt_for_it(backend, tied):
    hidden = TWO if tied else untied(TWO)
    case, _, (train, valid) = halves(6, hidden)
    network = case.network(backend)
    learner = Learner(case.parameters(), Adam(), Adam())
    for layer, best in zip(learner.parameters.layers, (1, 0)):
        layer.alpha_size[:] = 0
        layer.alpha_size[best] = 3
    search_step(network, learner, train, valid, SETTINGS, WINDOW)
    before = copy.deepcopy(learner)
    assert keep_best_sizes(network, learner) == [3, 2]
    for part in ("parameters", "w_adam", "alpha_adam"):
        for moment in ("m", "v") if "adam" in part else (None,):
            old, new = (getattr(x, part) if moment is None else getattr(getattr(x, part), moment)
                        for x in (before, learner))
            old, new = old.flatten(), new.flatten()
            for n, (size, slot) in enumerate(((3, 1), (2, 0)), start=1):
                supernet = network.hidden[n - 1].recurrence
                narrowed = supernet.narrowed(size)
                for name in [k for k in old if k.startswith(f"rec{n}.")]:
                    if name.endswith("w_exc"):                # by source and target, not by place
                        place = {pair: k for k, pair in enumerate(zip(supernet.source, supernet.target))}
                        chosen = [place[pair] for pair in zip(narrowed.source, narrowed.target)]
                        assert_same_bits(new[name], old[name][chosen])
                    elif name.endswith("alpha_size"):
                        assert_same_bits(new[name], old[name][slot:slot + 1])
                    elif name.endswith(f"alpha_{size}"):
                        assert_same_bits(new[name], old[name])
                    else:
                        assert name not in new
            assert all(name in new for name in old if name.startswith("w"))
    assert learner.w_adam.step == learner.alpha_adam.step == 1
    assert_same_bits(learner.parameters.intrinsic(), before.parameters.intrinsic())


def test_stage_two_goes_on(backend):
    """The narrowed learner fits the narrowed network, and its sizes stay decided."""
    case, _, (train, valid) = halves(6, ONE)
    network = case.network(backend)
    learner = Learner(case.parameters(), Adam(), Adam())
    search_step(network, learner, train, valid, SETTINGS, WINDOW)
    (size,) = keep_best_sizes(network, learner)
    network.hidden[0] = network.layers[0] = replace(network.hidden[0],
                                                    recurrence=network.hidden[0].recurrence.narrowed(size).on(backend))
    network.stack = replace(network.stack, layers=tuple(network.layers))
    assert learner.parameters.flatten().keys() == network.init(0).flatten().keys()
    search_step(network, learner, train, valid, SETTINGS, WINDOW)
    (found,) = discretize(network, learner)
    assert found.motif_size == size
    parts = learner.parameters.layers[0][f"alpha_{size}"].argmax(axis=-1)
    assert_same_bits(found.types.astype(parts.dtype), parts)


@pytest.mark.parametrize("tied", [True, False])
def test_discretising_is_the_reference(backend, tied):
    case, _, _ = halves(7, TWO if tied else untied(TWO))
    network = case.network(backend)
    found = discretize(network, Learner(case.parameters(), Adam(), Adam()))
    for architecture, layer in zip(found, case.layers):
        v, types = naive.discretize(layer["sizes"], layer["alpha_size"], layer["alphas"])
        assert architecture.motif_size == v
        expected = naive.architecture_matrix(len(layer["W_in"]), v, types, layer["w_exc"], True, tied)
        motif = Discrete(architecture)
        weights = np.where(motif.excitatory, layer["w_exc"][motif.target, motif.source], -2.0)
        np.testing.assert_array_equal(motif.dense(weights), expected)


def test_ties_go_to_the_smaller_size_and_the_first_type(backend):
    case, _, _ = halves(7, ONE)
    parameters = case.parameters().map(np.zeros_like)
    (found,) = discretize(case.network(backend), Learner(parameters, Adam(), Adam()))
    assert found.motif_size == 2 and not found.types.any()


def test_entropy(backend):
    case, _, _ = halves(8, TWO)
    network, parameters = case.network(backend), case.parameters()
    uniform = parameters.map(np.zeros_like)
    np.testing.assert_allclose(entropy(network, uniform), (np.log(3), np.log(2)))
    decided = parameters.map(lambda x: 1e4 * (np.arange(x.shape[-1]) == 0) + np.zeros_like(x))
    assert entropy(network, decided) == (0, 0)
    hats = [softmax(parameters.layers[n][name]) for n, name in network.alpha_names if name != "alpha_size"]
    expected = np.concatenate([-(hat * np.log(hat)).sum(axis=-1) for hat in hats]).mean()
    assert entropy(network, parameters)[0] == pytest.approx(expected)
