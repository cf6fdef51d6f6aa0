"""Adam, clipping, schedules, the projection."""

import math

import naive
import numpy as np
import pytest

from hrmas_sparse.engine import learning
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.search.optim import Adam, global_norm, scheduled


def clipped(gradients, limit):
    """The step down gradients as w' takes it, and their norm: from 0, with eta = 1, its sign turned."""
    squares = learning.squares(gradients)
    step = learning.descended(gradients.map(np.zeros_like), gradients, squares, math.inf if limit is None else limit, 1)
    return step.map(lambda array: -array), learning.norm_of(squares)


def arrays(rng, dtype="float64", scale=1.0):
    return Parameters([{"w": rng.normal(size=(5, 4)), "w_rec": rng.normal(size=7)},
                       {"w": rng.normal(size=(4, 2))}]).map(lambda x: (scale * x).astype(dtype))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999), (0.0, 0.0)])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 1e-5)])
def test_adam_is_the_reference(dtype, tolerance, betas):
    rng = np.random.default_rng(0)
    w = arrays(rng, dtype)
    expected = {name: (x.astype(float), np.zeros(x.shape), np.zeros(x.shape)) for name, x in w.flatten().items()}
    adam = Adam(betas)
    for step in range(1, 30):
        g = arrays(rng, dtype, scale=10.0 ** rng.integers(-3, 3))
        rate = 0.01 * step
        adam.update(w, g, rate)
        expected = {name: naive.adam_step(x, g.flatten()[name].astype(float), m, v, step, rate, *betas)
                    for name, (x, m, v) in expected.items()}
    for name, (x, m, v) in expected.items():
        for found, wanted in zip((each.flatten()[name] for each in (w, adam.m, adam.v)), (x, m, v)):
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
            assert found.dtype == dtype


def test_adam_moves_only_what_has_a_gradient_and_in_place():
    rng = np.random.default_rng(1)
    w = arrays(rng)
    before, same = w.copy(), w.flatten()
    Adam().update(w, Parameters([{"w": np.ones((5, 4))}, {}]), 0.1)
    assert all(x is same[name] for name, x in w.flatten().items())
    np.testing.assert_array_equal(w.layers[0].w_rec, before.layers[0].w_rec)
    np.testing.assert_array_equal(w.layers[1].w, before.layers[1].w)
    np.testing.assert_allclose(w.layers[0].w, before.layers[0].w - 0.1, rtol=1e-6)  # the rate times the sign


def test_adam_stands_still_without_slope():
    w = Parameters([{"w": np.array([1.0, 2.0])}])
    Adam().update(w, Parameters([{"w": np.zeros(2)}]), 0.1)
    np.testing.assert_array_equal(w.layers[0].w, [1, 2])


def test_decay_shrinks_weights_apart_from_the_moments():
    rng = np.random.default_rng(3)
    w, plain, shrunk = arrays(rng), Adam(), Adam()
    without, decayed = w.copy(), w.copy()
    g = arrays(rng)
    plain.update(without, g, 0.1)
    shrunk.update(decayed, g, 0.1, decay=0.5)
    for (n, name), x in w.items():
        np.testing.assert_allclose(decayed.layers[n][name], without.layers[n][name] - 0.1 * 0.5 * x, rtol=1e-12)
        np.testing.assert_array_equal(plain.m.layers[n][name], shrunk.m.layers[n][name])


@pytest.mark.parametrize("limit", [0.1, 1.0, 1e9, None])
def test_clipping_is_the_reference(limit):
    g = arrays(np.random.default_rng(2))
    found, norm = clipped(g, limit)
    expected, expected_norm = naive.clip_by_global_norm([x for _, x in g.items()], math.inf if limit is None else limit)
    assert norm == pytest.approx(expected_norm, rel=1e-14) and global_norm(found) <= (limit or math.inf) * (1 + 1e-12)
    for (_, x), wanted in zip(found.items(), expected, strict=True):
        np.testing.assert_allclose(x, wanted, rtol=1e-14)


def test_clipping_keeps_type_shape_and_the_given_gradients():
    g = arrays(np.random.default_rng(3), "float32")
    before = g.copy().flatten()
    found = clipped(g, 0.5)[0].flatten()
    for name, x in g.flatten().items():
        np.testing.assert_array_equal(x, before[name])
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape)


def test_a_norm_that_float32_cannot_hold():
    assert global_norm(Parameters([{"w": np.full(4, 1e30, np.float32)}])) == pytest.approx(2e30, rel=1e-6)


def test_a_gradient_that_is_no_number_is_not_hidden():
    found, norm = clipped(Parameters([{"w": np.array([1.0, np.nan])}]), 1.0)
    assert math.isnan(norm) and math.isnan(found.layers[0].w[1])


def test_schedules():
    assert [scheduled(0.2, "constant", p) for p in (0, 0.3, 1)] == [0.2] * 3
    assert scheduled(0.2, "cosine", 0) == 0.2
    assert scheduled(0.2, "cosine", 0.5) == pytest.approx(0.1)
    assert scheduled(0.2, "cosine", 1) == pytest.approx(0, abs=1e-17)
    rates = [scheduled(0.2, "cosine", p) for p in np.linspace(0, 1, 50)]
    assert all(a > b for a, b in zip(rates, rates[1:]))


def test_only_excitatory_weights_are_kept_positive():
    values = Parameters({name: np.array([-1.0, 0.5]) for name in ("w", "w_exc", "alpha_5", "w_rec")} for _ in range(2))
    same = values.flatten()
    Adam().update(values, values.map(np.zeros_like), 0.1)
    for name, x in values.flatten().items():
        assert x is same[name]
        np.testing.assert_array_equal(x, [0, 0.5] if name.endswith("w_exc") else [-1, 0.5])


@pytest.mark.parametrize("limit", [0.1, 1e9])
def test_adam_moves_by_clipped_gradients(limit):
    rng = np.random.default_rng(4)
    w, g, one, other = arrays(rng), arrays(rng), Adam(), Adam()
    expected = w.copy()
    for _ in range(3):
        one.update(w, g, 0.1, limit=limit)
        other.update(expected, clipped(g, limit)[0], 0.1)
    for (_, x), (_, wanted) in zip(w.items(), expected.items(), strict=True):
        np.testing.assert_array_equal(x, wanted)


def test_arrays_of_many_pieces_are_what_they_are_as_a_whole(monkeypatch):
    rng = np.random.default_rng(5)
    w, g = arrays(rng), arrays(rng)
    expected = w.copy()
    Adam().update(expected, g, 0.1)
    monkeypatch.setattr(learning, "PIECE", 8)
    Adam().update(w, g, 0.1)
    for (_, x), (_, wanted) in zip(w.items(), expected.items(), strict=True):
        np.testing.assert_array_equal(x, wanted)
