"""Gradients of time constants and thresholds: the sums of mathematics 5 against changes followed forward."""

import naive
import numpy as np
import pytest
from naive_neuron import LOG_TAU, V_TH, followed, gradients

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
    found = gradients(tape, errors(tape, g, one, rule), one["tau"], rule)
    for which in (LOG_TAU, V_TH):
        expected = followed(tape, g, one["W_rec"], one["R"], one["tau"], TAU_S, one["v_th"], which, rule, 4.0, WIDTH)
        np.testing.assert_allclose(found[which], expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
        assert abs(expected).min() > 0


@pytest.mark.parametrize("seed", range(2))
def test_finite_differences_where_the_network_is_smooth(seed):
    """Two layers, the loss at the upper one; the width of the logistic stays where a threshold moves."""
    below, x = layer(seed, True), spikes(seed)
    above = dict(layer(seed + 5, False), W_in=np.random.default_rng(seed).normal(0.5, 0.6, (N, N)))
    labels = np.arange(B) % N
    width = WIDTH * below["v_th"]

    def run(one):
        """The tapes with some neurons below; the width of their logistic is what it was."""
        tape = naive.forward_layer(x, one["W_in"], one["W_rec"], one["R"], one["tau"], TAU_S, one["v_th"], True,
                                   width / one["v_th"])
        return tape, forward(tape["s"], above, True)

    tape, top = run(below)
    _, g = naive.loss_psc(top["a"], labels, TAU_S)
    up = naive.backward_layer(top, None, above["R"], above["tau"], TAU_S, above["v_th"], naive.filter_back(g, TAU_S),
                              4.0, WIDTH, True)
    delta = naive.backward_layer(tape, below["W_rec"], below["R"], below["tau"], TAU_S, below["v_th"],
                                 up["E"] @ above["W_in"], 4.0, WIDTH, True)["delta"]
    found, step = gradients(tape, delta, below["tau"], "smooth"), 1e-6
    for which, change in ((LOG_TAU, lambda by: {"tau": below["tau"] * np.exp(by)}),
                          (V_TH, lambda by: {"v_th": below["v_th"] + by})):
        for i in range(N):
            loss = [naive.loss_psc(run(below | change(sign * step * np.eye(N)[i]))[1]["a"], labels, TAU_S)[0]
                    for sign in (1, -1)]
            assert found[which][i] / B == pytest.approx((loss[0] - loss[1]) / (2 * step), rel=1e-6, abs=1e-8), which
