"""Patterns, tables of types, the relaxation and its chain rule, discretisation: against naive.py."""

import itertools

import naive
import numpy as np
import pytest
from dense import (
    assert_close, assert_same_bits, error, free, motif_layer, on_links, recurrent_values, rows, supernet_layer,
    supernet_values)

from hrmas_sparse.engine.architecture import EXCITATORY, INHIBITORY, NONE, Architecture
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.engine.backends.cpu.relaxation import Relaxation
from hrmas_sparse.engine.recurrence import Discrete, Relaxed, motif_connections, table_rows
from hrmas_sparse.engine.relaxation import softmax, softmax_pullback

# neurons and motif size: single neurons, motifs of one, one motif, two motifs, many
SIZES = [(1, 1), (2, 1), (7, 1), (7, 7), (2, 2), (8, 4), (10, 5), (12, 2), (12, 3), (15, 5), (16, 16), (20, 4)]
SETS = [(12, (3,)), (12, (2, 3, 4, 6)), (12, (6, 2)), (12, (1, 12)), (10, (5, 10, 1)), (4, (2, 1)), (6, (6,)),
        (1, (1,)), (20, (2, 4, 5, 10))]
EITHER = [True, False]


def every(*names):
    """Parametrise over True and False for each name."""
    return pytest.mark.parametrize(", ".join(names), list(itertools.product(EITHER, repeat=len(names))))


# ---- which connections there are ---------------------------------------------------------------------


@every("inter", "tied")
@pytest.mark.parametrize("neurons, size", SIZES)
def test_motif_connections(neurons, size, inter, tied):
    found = motif_connections(neurons, size, inter, tied)
    order = np.lexsort((found.target, found.source))
    np.testing.assert_array_equal(order, np.arange(order.size))                  # by source, then target
    pattern = np.zeros((neurons, neurons), int)
    np.add.at(pattern, (found.target, found.source), 1)
    np.testing.assert_array_equal(pattern, naive.motif_pattern(neurons, size, inter))
    # the row of the table: number the rows in naive's tables, bring the tables over, look the numbers up
    connections = naive.connections(neurons, size, inter, tied)
    count = table_rows(neurons, size, inter, tied)
    if tied:
        numbered = dict(intra=np.arange(size**2).reshape(size, size))
        if inter:
            numbered["inter"] = size**2 + np.arange(2 * size).reshape(size, 2)
    else:
        numbered = dict(all=np.arange(count))
    table = rows(numbered, neurons, size, inter)
    assert table.shape == (count,)
    names = {(i, r): numbered[part][index] for i, r, part, index in connections}
    assert [names[i, r] for i, r in zip(found.target, found.source)] == list(table[found.row])


def test_as_the_paper_draws_it():
    """v + 2 inputs inside a layer, v + 1 at its ends, itself among them (mathematics 2)."""
    found = motif_connections(12, 3)
    senders = {i: sorted(int(r) for r in found.source[found.target == i]) for i in (0, 4, 11)}
    assert senders == {0: [0, 1, 2, 3], 4: [1, 3, 4, 5, 7], 11: [8, 9, 10, 11]}


@pytest.mark.parametrize("neurons, size", [(10, 4), (10, 0), (10, -5), (10, 20), (3, 2)])
def test_a_motif_has_to_divide(neurons, size):
    for build in (lambda: motif_connections(neurons, size), lambda: Relaxed(neurons, (1, size))):
        with pytest.raises(InputError, match=f"motif size {size} does not divide {neurons} neurons"):
            build()


@pytest.mark.parametrize("kind", ["free", "motif", "supernet"])
def test_links_are_sorted_by_source_then_target(kind):
    rng = np.random.default_rng(0)
    if kind == "free":
        layer = dict(W_rec=rng.normal(size=(9, 9)) * (rng.random((9, 9)) < 0.4))
        recurrence = free(layer["W_rec"])
    else:
        layer, recurrence = motif_layer(rng, 9, 3) if kind == "motif" else supernet_layer(rng, 9, (1, 3))
    links = recurrence.links(recurrent_values(layer, recurrence))
    W = layer["W_rec"] if "W_rec" in layer else naive.effective_matrix(**naive.relaxation_of(dict(layer, W_in=W_IN)))
    assert links.indptr.dtype == np.int64 and links.indices.dtype == np.uint32
    assert links.indptr[0] == 0 and links.indptr[-1] == links.indices.size == links.data.size
    dense = np.zeros((9, 9))
    for r in range(9):
        mine = slice(links.indptr[r], links.indptr[r + 1])
        assert (np.diff(links.indices[mine].astype(int)) > 0).all()
        dense[links.indices[mine], r] = links.data[mine]
    assert error(dense, W) < 1e-14
    np.testing.assert_array_equal(recurrence.dense(links.data), dense)


W_IN = np.zeros((9, 1))


def test_free():
    recurrence = free(np.eye(5)[::-1])
    weights = np.arange(1.0, 6)
    assert recurrence.weight_names == ("w_rec",) and recurrence.alpha_names == ()
    assert recurrence.effective({"w_rec": weights}) is weights
    assert_same_bits(recurrence.pullback({"w_rec": weights}, 2 * weights), {"w_rec": 2 * weights})
    none = free(np.zeros((4, 4)))
    assert none.links({"w_rec": np.zeros(0)}).indptr.tolist() == [0] * 5


# ---- a discrete architecture -------------------------------------------------------------------------------


@every("inter", "tied")
@pytest.mark.parametrize("neurons, size", SIZES)
def test_motif(neurons, size, inter, tied):
    rng = np.random.default_rng(neurons + size)
    layer, recurrence = motif_layer(rng, neurons, size, inter, tied)
    parameters = recurrent_values(layer, recurrence)
    W = recurrence.dense(recurrence.effective(parameters))
    np.testing.assert_array_equal(W, layer["W_rec"])
    kept = [naive.NONE != layer["types"][part][index] for _, _, part, index in
            naive.connections(neurons, size, inter, tied)]
    assert recurrence.source.size == sum(kept) and recurrence.possible == len(kept)
    # gradients: only excitatory weights are trained
    gradient = rng.normal(size=(neurons, neurons))
    found = recurrence.pullback(parameters, on_links(recurrence, gradient))
    assert_same_bits(found, recurrent_values(dict(W_rec=gradient), recurrence))
    assert found["w_exc"].size == (layer["W_rec"] > 0).sum()
    start = recurrence.initial("float32")
    assert start["w_exc"].shape == found["w_exc"].shape and (start["w_exc"] == np.float32(0.2)).all()
    assert set(recurrence.effective(start).tolist()) <= {float(np.float32(0.2)), -2.0}
    assert recurrence.effective(start).dtype == np.float32


@pytest.mark.parametrize("kind", [EXCITATORY, INHIBITORY, NONE])
def test_motif_of_one_type(kind):
    recurrence = Discrete(Architecture(8, 4, True, np.full(24, kind, np.int8)))
    weights = recurrence.effective(recurrence.initial("float64"))
    expected = np.where(naive.motif_pattern(8, 4), (0.2, -2.0, 0.0)[kind], 0.0)
    np.testing.assert_array_equal(recurrence.dense(weights), expected)


def test_motif_with_other_start_weights():
    recurrence = Discrete(Architecture(4, 2, False, np.array([0, 1, 1, 0], np.int8)), w_exc=0.5, w_inh=-1.0)
    W = recurrence.dense(recurrence.effective(recurrence.initial("float64")))
    np.testing.assert_array_equal(W, np.kron(np.eye(2), [[0.5, -1.0], [-1.0, 0.5]]))


def test_too_few_types():
    with pytest.raises(InputError, match="types: expected 12 for motifs of 2 neurons, found 5"):
        Discrete(Architecture(6, 2, False, np.zeros(5, np.int8), tied=False))


# ---- the relaxation --------------------------------------------------------------------------------------------


def relaxation(layer, neurons):
    return naive.relaxation_of(dict(layer, W_in=np.zeros((neurons, 1))))


@every("inter", "tied")
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 2e-5)])
@pytest.mark.parametrize("neurons, sizes", SETS)
def test_supernet(neurons, sizes, inter, tied, dtype, tolerance):
    rng = np.random.default_rng(neurons)
    layer, recurrence = supernet_layer(rng, neurons, sizes, inter, tied)
    parameters = {name: x.astype(dtype) for name, x in supernet_values(layer, recurrence).items()}
    naives = relaxation(layer, neurons)
    pattern = naive.union_pattern(neurons, sizes, inter)
    np.testing.assert_array_equal(recurrence.dense(np.ones(recurrence.source.size)), pattern)
    W = recurrence.effective(parameters)
    assert error(recurrence.dense(W), naive.effective_matrix(**naives)) < tolerance

    gradient = rng.normal(size=(neurons, neurons)) * pattern
    found = recurrence.pullback(parameters, on_links(recurrence, gradient).astype(dtype))
    expected = supernet_values(naive.relaxation_gradients(gradient, **naives), recurrence)
    assert_close(found, expected, tolerance)
    assert W.dtype == dtype and all(x.dtype == dtype for x in found.values())
    assert recurrence.alpha_names == ("alpha_size", *(f"alpha_{v}" for v in sizes))
    assert set(found) == set(recurrence.alpha_names + recurrence.weight_names)


@every("inter", "tied")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernels_of_the_relaxation_have_its_bits(dtype, inter, tied):
    rng = np.random.default_rng(3)
    plain = Relaxed(80, (5, 8, 16), inter, tied, alpha_scale=1.0)
    parameters = {name: x * rng.uniform(0.5, 2, x.shape).astype(dtype) for name, x in plain.initial(dtype, rng).items()}
    gradient = rng.normal(size=plain.source.shape).astype(dtype)
    kernels = Relaxation(plain._tables)
    assert_same_bits(kernels.weights(parameters), plain.effective(parameters))
    assert_same_bits(kernels.pullback(parameters, gradient), plain.pullback(parameters, gradient))


def test_supernet_start():
    recurrence = Relaxed(12, (2, 3), tied=False, alpha_scale=0.5)
    start = recurrence.initial("float32", np.random.default_rng(0))
    assert {name: x.shape for name, x in start.items()} == {
        "w_exc": (recurrence.source.size,), "alpha_size": (2,), "alpha_2": (44, 3), "alpha_3": (54, 3)}
    assert all(x.dtype == np.float32 for x in start.values())
    assert 0.3 < np.concatenate([start["alpha_2"], start["alpha_3"]]).std() < 0.7


def test_softmax_of_large_alphas():
    """Decided architectures do not overflow, in either type."""
    for dtype in ("float32", "float64"):
        hat = softmax(np.array([[1e4, -1e4, 0.0], [-1e5, -1e5, -1e5]], dtype))
        np.testing.assert_allclose(hat, [[1, 0, 0], [1 / 3] * 3], atol=1e-7)
        np.testing.assert_array_equal(softmax_pullback(hat[:1], np.ones((1, 3), dtype)), [[0, 0, 0]])


@every("inter", "tied")
def test_a_decided_supernet_is_its_motif(inter, tied):
    """Alphas far apart: the relaxed matrix is that of the discretised architecture, with the same w_exc."""
    rng = np.random.default_rng(5)
    layer, recurrence = supernet_layer(rng, 12, (2, 3, 6), inter, tied)
    parameters = {name: np.where(x == x.max(axis=-1, keepdims=True), 0.0, -1e3) if name.startswith("alpha") else x
                  for name, x in supernet_values(layer, recurrence).items()}
    motif = Discrete(recurrence.discretize(parameters))
    W = recurrence.dense(recurrence.effective(parameters))
    w_exc = recurrence.dense(parameters["w_exc"])[motif.target, motif.source][motif.excitatory]
    assert error(motif.dense(motif.effective({"w_exc": w_exc})), W) < 1e-14


# ---- stage 2, discretisation ----------------------------------------------------------------------------------------


@every("inter", "tied")
@pytest.mark.parametrize("kept", [2, 3, 6])
def test_narrowing(kept, inter, tied):
    """The supernet of one size with what is carried over is the smaller net built from the start."""
    layer, whole = supernet_layer(np.random.default_rng(6), 12, (3, 6, 2), inter, tied)
    values = supernet_values(layer, whole)
    small, parameters = whole.narrowed(kept), whole.narrow(values, kept)
    built = Relaxed(12, (kept,), inter, tied)
    assert small.sizes == (kept,) and small.alpha_names == built.alpha_names == ("alpha_size", f"alpha_{kept}")
    assert_same_bits([small.source, small.target], [built.source, built.target])
    at = [k for k, v in enumerate(layer["sizes"]) if v == kept]
    narrow = dict(layer, sizes=[kept], alphas={kept: layer["alphas"][kept]}, alpha_size=layer["alpha_size"][at])
    assert_same_bits(parameters, supernet_values(narrow, built))
    assert error(small.dense(small.effective(parameters)), naive.effective_matrix(**relaxation(narrow, 12))) < 1e-14
    gradient = np.random.default_rng(7).normal(size=small.source.size)
    found = small.pullback(parameters, gradient)
    expected = naive.relaxation_gradients(small.dense(gradient), **relaxation(narrow, 12))
    assert_close(found, supernet_values(expected, built), 1e-13)
    assert found["alpha_size"] == 0                            # one size: nothing left to choose


def test_narrow_copies_and_takes_parts():
    """What stage 1 ends with stays as it was; Adam's moments of some parameters go the same way."""
    layer, whole = supernet_layer(np.random.default_rng(8), 12, (3, 6))
    values = supernet_values(layer, whole)
    before = {name: x.copy() for name, x in values.items()}
    for x in whole.narrow(values, 3).values():
        x[...] = 7
    assert_same_bits(values, before)
    assert set(whole.narrow({"w_exc": values["w_exc"]}, 3)) == {"w_exc"}


def test_narrowing_on_the_host_meets_nothing_of_a_device():
    """CuPy's arrays are no index of NumPy's; a search narrows between its phases, when all it learnt is on the host."""
    class Device:
        def to_device(self, array):
            return "there"

        def relaxation(self, tables):
            return "there"

    whole = Relaxed(12, (2, 3))
    values = whole.initial(np.float64, np.random.default_rng(0))
    values["w_exc"] = np.arange(values["w_exc"].size, dtype=float)
    assert_same_bits(whole.on(Device()).narrow(values, 3), whole.narrow(values, 3))


def test_narrowing_keeps_other_start_values():
    start = Relaxed(12, (2, 3), w_exc=0.7, w_inh=-1.5, alpha_scale=0.0).narrowed(3)
    parameters = start.initial("float64", np.random.default_rng(0))
    assert (parameters["w_exc"] == 0.7).all() and not parameters["alpha_3"].any()
    np.testing.assert_allclose(start.effective(parameters), (0.7 - 1.5) / 3)


@pytest.mark.parametrize("sizes", [(2, 3, 6), (6, 3, 2), (3, 6, 2)])
@pytest.mark.parametrize("alpha, best", [([0, 0, 0], 2), ([1, 1, 0], None), ([0, 1, 1], None), ([-1, -2, -3], None)])
def test_ties_go_to_the_smaller_size(sizes, alpha, best):
    recurrence = Relaxed(12, sizes)
    expected = best or min(v for v, a in zip(sizes, alpha) if a == max(alpha))
    for dtype in ("float32", "float64"):
        assert recurrence.best_size({"alpha_size": np.array(alpha, dtype)}) == expected


@every("inter", "tied")
def test_discretize(inter, tied):
    """As naive does, ties between types and sizes among them: small whole alphas tie often."""
    ties = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        layer, recurrence = supernet_layer(rng, 12, [(2, 3, 4), (6, 4, 1)][seed % 2], inter, tied)
        layer["alpha_size"] = rng.integers(0, 2, 3).astype(float)
        for parts in layer["alphas"].values():
            for name in parts:
                parts[name] = rng.integers(0, 3, parts[name].shape).astype(float)
                top = np.sort(parts[name], axis=-1)
                ties += (top[..., 2] == top[..., 1]).sum()
        size, types = naive.discretize(layer["sizes"], layer["alpha_size"], layer["alphas"])
        found = recurrence.discretize(supernet_values(layer, recurrence))
        assert (found.neurons, found.motif_size, found.linked, found.tied) == (12, size, inter, tied)
        assert found.types.dtype == np.int8
        np.testing.assert_array_equal(found.types, rows(types, 12, size, inter))
        w_exc = rng.uniform(0.1, 1, (12, 12))
        motif = Discrete(found)
        W = motif.dense(motif.effective({"w_exc": on_links(motif, w_exc)[motif.excitatory]}))
        np.testing.assert_array_equal(W, naive.architecture_matrix(12, size, types, w_exc, inter, tied))
    assert ties > 100


def test_types_tie_in_the_order_excitatory_inhibitory_none():
    recurrence = Relaxed(2, (1,), inter=False, tied=False)
    table = np.array([[0.5, 0.5, 0.5], [0.1, 0.5, 0.5]])
    found = recurrence.discretize({"alpha_size": np.zeros(1), "alpha_1": table})
    assert found.types.tolist() == [EXCITATORY, INHIBITORY]
