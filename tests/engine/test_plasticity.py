"""SpiKL-IP through whole networks: windows, several in a row, online; against naive.py."""

import naive
import numpy as np
import pytest
from dense import TAU_M, TAU_S, TOLERANCE, Case, assert_close, assert_same_bits, random_case

from hrmas_sparse.engine.network import Plasticity
from hrmas_sparse.storage.errors import InputError

DTYPES = ["float64", "float32"]
STACKS = {
    "one layer": (("free", 8),),
    "supernet": (("supernet", 10, (2, 5)),),
    "two layers": (("motif", 8, 4), ("free", 7)),
    "between feedforward layers": (("feedforward", 7), ("motif", 9, 3), ("feedforward", 6)),
    "three layers": (("free", 6), ("supernet", 8, (2, 4), True, False), ("motif", 10, 5)),
}
SETTINGS = dict(tau_cal=16.0, gamma=2.0, mu=0.2)


def windows(case, **settings):
    """naive's windows of every layer, output last; a dict has R_end only where there is recurrence."""
    return naive.spikl_ip_network(case.X, case.plain(), TAU_S, TAU_M, **{**SETTINGS, **settings})


def carried_on(case, found):
    """The case with the R and tau a window left, in naive's dicts."""
    layers = [dict(x, R=w["R_end"], tau=w["tau_end"]) if "R_end" in w else x for x, w in zip(case.layers, found)]
    return Case(case.X, case.Y, layers, case.recurrences, case.settings)


def check_window(outcome, expected, intrinsic, dtype):
    """Spikes, trajectories and results of every layer; the layers without recurrence keep what they had."""
    tolerance = TOLERANCE[dtype]
    for n, (record, window) in enumerate(zip(outcome.records, expected), start=1):
        np.testing.assert_array_equal(record["spikes"], window["s"])
        assert outcome.rates[n - 1] == window["s"].mean()
        if "R_end" in window:
            wanted = dict(R=window["R_end"], tau=window["tau_end"], trajectory=np.stack([window["R"], window["tau"]]))
            after = outcome.intrinsic.layers[n - 1]
            found = dict(R=after.R, tau=after.tau, trajectory=record["trajectory"])
            assert_close(found, wanted, tolerance)
            assert found["R"].dtype == found["tau"].dtype == dtype
        else:
            assert "trajectory" not in record
            assert_same_bits(outcome.intrinsic.layers[n - 1], intrinsic.layers[n - 1])
    assert outcome.intrinsic.flatten().keys() == intrinsic.flatten().keys()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("start", ["fixed", "neuron"])
def test_window(backend, stack, start, dtype):
    case = random_case(30, STACKS[stack], B=4, R=start, tau=start)
    expected = windows(case)
    assert all(window["s"].any() for window in expected)
    outcome = case.run(backend, dtype, "adapt", plasticity=Plasticity(**SETTINGS))
    check_window(outcome, expected, case.parameters(dtype).intrinsic(), dtype)
    assert outcome.gradients is None


@pytest.mark.parametrize("B", [1, 2, 15, 16, 17, 33, 50])
def test_windows_of_every_batch(backend, B):
    """The result is the mean over the samples' copies, whatever chunks they were in."""
    for T in (1, 2, 6):
        case = random_case(31, STACKS["two layers"], B=B, T=T, density=0.5, R="fixed", tau="fixed")
        outcome = case.run(backend, "float64", "adapt", plasticity=Plasticity(**SETTINGS))
        check_window(outcome, windows(case), case.parameters().intrinsic(), "float64")


def test_layers_too_large_for_a_cache(backend):
    """A backend may take such a layer's steps a few at a time."""
    case = random_case(42, (("motif", 240, 10), ("free", 60)), B=1, T=60, C=20, R="fixed", tau="fixed")
    for way in ("adapt", "gradients"):
        outcome = case.run(backend, "float64", way, plasticity=Plasticity(**SETTINGS))
        check_window(outcome, windows(case), case.parameters().intrinsic(), "float64")


@pytest.mark.parametrize("settings", [dict(gamma=0.02, mu=0.1), dict(gamma=5.0), dict(gamma=100.0, mu=0.05),
                                      dict(tau_cal=4.0), dict(mu=0.6), dict(gamma=0.0)], ids=str)
def test_settings(backend, settings):
    case = random_case(32, STACKS["two layers"], R="fixed", tau="fixed")
    outcome = case.run(backend, "float64", "adapt", plasticity=Plasticity(**{**SETTINGS, **settings}))
    check_window(outcome, windows(case, **settings), case.parameters().intrinsic(), "float64")
    if settings.get("gamma") == 0:
        assert_same_bits(outcome.intrinsic, case.parameters().intrinsic())


@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_in_a_row(backend, dtype):
    """Each starts from what the one before left, on another batch; phi starts anew."""
    case = random_case(33, STACKS["two layers"], B=3, R="fixed", tau="fixed")
    rng = np.random.default_rng(0)
    network, parameters = case.network(backend, dtype), case.parameters(dtype)
    for _ in range(6):
        case.X = rng.permuted(case.X, axis=1)
        expected = windows(case)
        outcome, before = network.adapt(parameters, case.events(), Plasticity(**SETTINGS), record=True), parameters
        check_window(outcome, expected, before.intrinsic(), dtype)
        parameters, case = parameters.replaced(outcome.intrinsic), carried_on(case, expected)
        assert all((before.layers[n][name] != x).any() for (n, name), x in outcome.intrinsic.items())


def test_windows_until_the_bounds(backend):
    """With the learning rate of the published code R and tau run into their bounds and stay inside."""
    case = random_case(34, STACKS["one layer"], B=2, T=40, R="fixed", tau="fixed")
    met = set()
    for _ in range(12):
        expected = windows(case, gamma=5.0, mu=0.05)
        outcome = case.run(backend, "float64", "adapt", plasticity=Plasticity(16.0, 5.0, 0.05))
        check_window(outcome, expected, case.parameters().intrinsic(), "float64")
        values = np.concatenate([x for _, x in outcome.intrinsic.items()])
        assert values.min() >= TAU_M / 2 and values.max() <= 8 * TAU_M
        met |= set(values.tolist()) & {TAU_M / 2, 8 * TAU_M}
        case = carried_on(case, expected)
    assert met == {TAU_M / 2, 8 * TAU_M}


@pytest.mark.parametrize("dtype", DTYPES)
def test_silent_neurons(backend, dtype):
    """They drift by 0.1 gamma a step, R up and tau down, until the bounds; no 0/0 on the way."""
    case = random_case(35, STACKS["two layers"], T=30, density=0.0, R="fixed", tau="fixed")
    outcome = case.run(backend, dtype, "adapt", plasticity=Plasticity(16.0, 1.0, 0.2))
    for (_, name), x in outcome.intrinsic.items():
        np.testing.assert_allclose(x, TAU_M + {"R": 3, "tau": -3}[name], rtol=1e-6)
    outcome = case.run(backend, dtype, "adapt", plasticity=Plasticity(16.0, 1000.0, 0.2))
    assert {name: set(x.tolist()) for name, x in outcome.intrinsic.flatten().items()} == {
        "R1": {128.0}, "R2": {128.0}, "tau1": {8.0}, "tau2": {8.0}}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_neuron_at_every_step(backend, dtype):
    """Rates of one: y tau far above the floor, exp(1/(tau y)) near one."""
    case = random_case(36, STACKS["two layers"], density=1.0, real=False, T=40, R="fixed", tau="fixed")
    for layer in case.layers:
        layer["W_in"] = 200 + np.abs(layer["W_in"])
    expected = windows(case)
    assert all(window["s"].all() for window in expected)
    outcome = case.run(backend, dtype, "adapt", plasticity=Plasticity(**SETTINGS))
    check_window(outcome, expected, case.parameters(dtype).intrinsic(), dtype)


# ---- online: the pass that is differentiated adapts ------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_online_gradients(backend, stack, dtype):
    """Those of a network whose R and tau follow, sample by sample, the trajectories of the window [27, 28]."""
    case = random_case(41, STACKS[stack], B=19, T=12, R="fixed", tau="fixed")
    plasticity = Plasticity(**SETTINGS)
    expected = windows(case)
    outcome = case.run(backend, dtype, plasticity=plasticity)
    check_window(outcome, expected, case.parameters(dtype).intrinsic(), dtype)
    along = Case(case.X, case.Y, [dict(x, R=w.get("R", x["R"]), tau=w.get("tau", x["tau"]))
                                  for x, w in zip(case.layers, expected)], case.recurrences, case.settings)
    replayed, wanted = along.check(backend, dtype)
    assert_close(outcome.gradients, wanted["gradients"], TOLERANCE[dtype])
    assert outcome.loss == pytest.approx(wanted["loss"], rel=TOLERANCE[dtype])
    for record, delta in zip(outcome.records, wanted["delta"]):
        assert_close(dict(delta=record["delta"]), dict(delta=delta), TOLERANCE[dtype])
    np.testing.assert_array_equal(outcome.predicted, replayed.predicted)
    # the window alone says the same of R and tau, and a pass without plasticity something else
    assert_same_bits(case.run(backend, dtype, "adapt", plasticity=plasticity).intrinsic, outcome.intrinsic)
    fixed = case.run(backend, dtype)
    assert fixed.intrinsic is None and (
        fixed.gradients.layers[0].w != outcome.gradients.layers[0].w).any()


def test_only_recurrent_layers_adapt(backend):
    """A feedforward network has nothing to adapt: online is as without."""
    case = random_case(38, (("feedforward", 7), ("feedforward", 6)), R="neuron", tau="neuron")
    online, fixed = (case.run(backend, plasticity=p) for p in (Plasticity(**SETTINGS), None))
    assert_same_bits([online.gradients, online.records], [fixed.gradients, fixed.records])
    assert_same_bits(online.intrinsic, case.parameters().intrinsic())


def test_nothing_given_is_changed(backend):
    case = random_case(39, STACKS["three layers"], R="fixed", tau="fixed")
    parameters = case.parameters()
    outcome = case.network(backend).gradients(parameters, case.events(), Plasticity(**SETTINGS))
    assert all(x is not parameters.layers[n][name] for (n, name), x in outcome.intrinsic.items())
    assert_same_bits(parameters, case.parameters())


def test_empty_batch(backend):
    case = random_case(40, R="fixed", tau="fixed")
    with pytest.raises(InputError, match="empty batch"):
        case.network(backend).adapt(case.parameters(), case.events()[[]], Plasticity(**SETTINGS))
