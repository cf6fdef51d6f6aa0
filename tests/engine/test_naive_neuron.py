"""Gradients of time constants and resistances: the sums of mathematics 5 against changes followed forward."""

import naive
import numpy as np
import pytest
from naive_neuron import LOG_R, LOG_TAU, followed, gradients

B, T, N, C, TAU_S, WIDTH = 3, 14, 5, 4, 3.0, 0.3


def layer(seed, recurrent):
    """Dense weights and neurons that all differ; about a quarter of the steps have a spike."""
    rng = np.random.default_rng(seed)
    return {"W_in": rng.normal(0.6, 1.0, (N, C)), "W_rec": rng.normal(0, 0.5, (N, N)) if recurrent else None,
            "R": rng.uniform(3, 9, N), "tau": rng.uniform(3, 9, N), "v_th": rng.uniform(1.0, 2.5, N)}


def spikes(seed):
    return (np.random.default_rng(seed).random((B, T, C)) < 0.4).astype(float)


def forward(x, one, smooth):
    return naive.forward_layer(x, one["W_in"], one["W_rec"], one["R"], one["tau"], TAU_S, one["v_th"], smooth, WIDTH)


def errors(tape, g, one, rule):
    neurons = one["W_rec"], one["R"], one["tau"], TAU_S, one["v_th"]
    if rule == "surrogate":
        return naive.through_time(tape, g, *neurons, WIDTH)["delta"]
    return naive.backward_layer(tape, *neurons, naive.filter_back(g, TAU_S), 4.0, WIDTH, rule == "smooth")["delta"]


@pytest.mark.parametrize("rule", ["tssl-bp", "surrogate", "smooth"])
@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_sums_of_errors_are_what_follows_from_a_change(rule, recurrent, seed):
    one, x = layer(seed, recurrent), spikes(seed)
    tape = forward(x, one, rule == "smooth")
    g = np.random.default_rng(seed + 9).normal(size=(B, T, N))
    if rule != "smooth":
        silent = tape["a"] < 0.25
        assert tape["s"].any() and (silent & (tape["s"] == 0)).any() and (~silent & (tape["s"] == 0)).any()
    found = gradients(tape, errors(tape, g, one, rule), one["tau"])
    for which in (LOG_R, LOG_TAU):
        expected = followed(tape, g, one["W_rec"], one["R"], one["tau"], TAU_S, one["v_th"], which, rule, 4.0, WIDTH)
        np.testing.assert_allclose(found[which], expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
        assert abs(expected).min() > 0


@pytest.mark.parametrize("seed", range(2))
def test_finite_differences_where_the_network_is_smooth(seed):
    """Two layers, the loss at the upper one."""
    below, x = layer(seed, True), spikes(seed)
    above = dict(layer(seed + 5, False), W_in=np.random.default_rng(seed).normal(0.5, 0.6, (N, N)))
    labels = np.arange(B) % N

    def run(one):
        tape = forward(x, one, True)
        return tape, forward(tape["s"], above, True)

    tape, top = run(below)
    _, g = naive.loss_psc(top["a"], labels, TAU_S)
    up = naive.backward_layer(top, None, above["R"], above["tau"], TAU_S, above["v_th"], naive.filter_back(g, TAU_S),
                              4.0, WIDTH, True)
    delta = naive.backward_layer(tape, below["W_rec"], below["R"], below["tau"], TAU_S, below["v_th"],
                                 up["E"] @ above["W_in"], 4.0, WIDTH, True)["delta"]
    found, step = gradients(tape, delta, below["tau"]), 1e-6
    for which, name in ((LOG_R, "R"), (LOG_TAU, "tau")):
        for i in range(N):
            moved = [below | {name: below[name] * np.exp(sign * step * np.eye(N)[i])} for sign in (1, -1)]
            loss = [naive.loss_psc(run(one)[1]["a"], labels, TAU_S)[0] for one in moved]
            assert found[which][i] / B == pytest.approx((loss[0] - loss[1]) / (2 * step), rel=1e-6, abs=1e-8), which


@pytest.mark.parametrize("rule", ["tssl-bp", "surrogate"])
def test_a_resistance_is_a_threshold(rule):
    """A neuron of R and one of tau_m whose threshold is tau_m / R as high: the same spikes, errors and gradients."""
    one, x, tau_m = layer(3, True), spikes(3), 6.0
    other = one | {"R": np.full(N, tau_m), "v_th": one["v_th"] * tau_m / one["R"]}
    tapes = [forward(x, each, False) for each in (one, other)]
    np.testing.assert_array_equal(tapes[0]["s"], tapes[1]["s"])
    assert tapes[0]["s"].any() and (one["R"] != tau_m).all()
    g = np.random.default_rng(1).normal(size=(B, T, N))
    found = [errors(tape, g, each, rule) for tape, each in zip(tapes, (one, other))]
    np.testing.assert_allclose(found[0] * one["R"], found[1] * other["R"], rtol=1e-9, atol=1e-12)   # tau E, both
    for which, wanted in gradients(tapes[0], found[0], one["tau"]).items():
        np.testing.assert_allclose(gradients(tapes[1], found[1], one["tau"])[which], wanted, rtol=1e-9, atol=1e-12)
