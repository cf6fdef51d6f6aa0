"""Whole networks, forward and backward, against naive.py."""

import dataclasses
import functools
import itertools
import math

import naive
import numpy as np
import pytest
from dense import TAU_S, Case, assert_close, assert_same_bits, error, events, random_case

from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.backends.cpu import LANES, blocks, chunks, losses
from hrmas_sparse.engine.losses import CrossEntropyLoss, PscLoss
from hrmas_sparse.engine.network import Network

STACKS = {
    "output only": (),
    "feedforward": (("feedforward", 9),),
    "free": (("free", 8),),
    "motif": (("motif", 12, 4),),
    "motif without inter": (("motif", 12, 4, False),),
    "supernet": (("supernet", 12, (2, 3, 6)),),
    "free, feedforward": (("free", 7), ("feedforward", 6)),
    "motif, motif": (("motif", 12, 3), ("motif", 10, 5, False)),
    "supernet, supernet": (("supernet", 8, (2, 4)), ("supernet", 9, (3, 1), False, False)),
    "feedforward, supernet, motif": (("feedforward", 7), ("supernet", 10, (5, 2), True, False), ("motif", 6, 2)),
    "motif, free, feedforward": (("motif", 10, 5), ("free", 8), ("feedforward", 7)),
}
CAPS_AND_WIDTHS = list(itertools.product([0.3, 1.0, 8.0], [0.2, 0.5]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("stack", STACKS)
def test_stacks(backend, stack, dtype):
    """Input sparse enough to visit its events, and not."""
    for seed, density in enumerate((0.05, 0.08, 0.2, 0.8)):
        random_case(seed, STACKS[stack], C=20 if density < 0.1 else 5, density=density).check(backend, dtype)


@pytest.mark.parametrize("stack", STACKS)
def test_stacks_through_time(backend, stack):
    random_case(80, STACKS[stack], rule="surrogate").check(backend)


def test_unknown_rules_are_refused():
    with pytest.raises(InputError, match="rule: expected tssl-bp or surrogate, found 'bptt'"):
        Network(2, 2, [], rule="bptt")


@pytest.mark.parametrize("real", [False, True], ids=["binary", "real"])
@pytest.mark.parametrize("R", ["neuron", "step", "sample"])
@pytest.mark.parametrize("tau", ["neuron", "step", "sample"])
def test_intrinsic_parameters_of_every_shape(backend, R, tau, real):
    random_case(10, (("free", 8), ("motif", 6, 3)), B=5, R=R, tau=tau, real=real).check(backend)


def test_trajectories_reach_every_chunk(backend):
    """(B, T, N) with more samples than run together."""
    random_case(11, (("free", 6),), B=37, T=6, R="sample", tau="sample").check(backend)


@pytest.mark.parametrize("R, tau", [("neuron", "neuron"), ("step", "sample"), ("sample", "step")])
def test_layers_too_large_for_a_cache(backend, R, tau):
    """A backend may take such a layer's steps a few at a time."""
    for seed, smooth in enumerate([False, False, True]):
        case = random_case(60 + seed, (("motif", 240, 10), ("feedforward", 150)), B=2, T=90, C=20, R=R, tau=tau,
                           density=(0.05, 0.8)[seed % 2], smooth=smooth)
        case.check(backend)


def test_gradients_of_recurrent_parameters_alone(backend):
    case = random_case(64, (("supernet", 12, (2, 3)), ("feedforward", 7), ("motif", 9, 3)), B=20)
    network, batch, full = case.network(backend), case.events(), case.run(backend)
    passed = network.passes([case.parameters()], batch, backward=True, record=True, feedforward=False)
    (part,), _ = network.outcomes(passed, batch)
    kept = {name: x for name, x in full.gradients.flatten().items() if name.startswith("rec")}
    assert_same_bits(part.gradients, kept)
    assert_same_bits([part.loss, part.predicted, part.records], [full.loss, full.predicted, full.records])


@pytest.mark.parametrize("loss", [dict(period=1), dict(period=2), dict(period=3), dict(loss="cross_entropy"),
                                  dict(loss="cross_entropy", scale=0.3)], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses(backend, loss, dtype):
    random_case(12, (("motif", 8, 4), ("free", 6)), **loss).check(backend, dtype)


@pytest.mark.parametrize("slope_cap, width", CAPS_AND_WIDTHS)
def test_slope_caps_and_widths(backend, slope_cap, width):
    random_case(13, (("motif", 8, 4), ("free", 6)), slope_cap=slope_cap, width=width).check(backend)


def test_slope_cap_and_width_matter():
    """Or the test above would compare nothing."""
    settings = [dict(slope_cap=c, width=h) for c, h in CAPS_AND_WIDTHS]
    found = [random_case(13, (("motif", 8, 4), ("free", 6)), **s).reference()["gradients"]["w1"] for s in settings]
    assert all(error(a, b) > 1e-3 for a, b in itertools.combinations(found, 2))


def test_smooth_variant(backend):
    for seed, stack in enumerate(STACKS.values()):
        random_case(seed, stack, R="step", tau="sample", smooth=True).check(backend)


@pytest.mark.parametrize("real", [False, True])
def test_currents_of_many_senders_are_the_same(backend, real, monkeypatch):
    """Panels of their weights change no bit."""
    case = random_case(17, (("motif", 72, 8),), B=20, real=real)
    expected = case.run(backend, "float32")
    monkeypatch.setattr(blocks, "MANY", 0)
    found = case.run(backend, "float32")
    assert_same_bits([found.loss, found.gradients, found.records],
                     [expected.loss, expected.gradients, expected.records])


def test_samples_with_and_without_values_in_one_batch(backend):
    """A chunk of zeros and ones alone takes another path than one with real values."""
    case = random_case(14, B=35, T=8)
    case.X[:16] = case.X[:16] > 0
    case.X[16:32] = np.round(2 * case.X[16:32])                # counts, some of them 0
    case.check(backend)


def test_values_of_every_type_and_read_only(backend):
    """A cache gives uint8 or float32 values, mapped read-only."""
    case = random_case(15)
    case.X = np.ceil(2 * case.X)
    network, parameters = case.network(backend), case.parameters()
    expected = network.gradients(parameters, case.events())
    assert case.X.max() > 1
    for dtype in (np.uint8, np.float32):
        batch = dataclasses.replace(case.events(), value=case.events().value.astype(dtype))
        for array in vars(batch).values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        found = network.gradients(parameters, batch)
        assert_same_bits([found.loss, found.gradients], [expected.loss, expected.gradients])


@pytest.mark.parametrize("shape", ["neuron", "sample"])
def test_several_sets_of_parameters_side_by_side(backend, shape):
    """Each set's gradients are those it has alone; on the CPU bit for bit."""
    case = random_case(17, (("supernet", 8, (2, 4)), ("feedforward", 6), ("motif", 6, 3)), B=19, T=8, R=shape,
                       tau=shape)
    network, batch = case.network(backend), case.events()
    rng = np.random.default_rng(18)
    points = [case.parameters().trained().map(lambda x: x + 0.1 * rng.normal(size=x.shape)) for _ in range(3)]
    points = [case.parameters().replaced(point) for point in points]
    alone = [network.gradients(point, batch).gradients for point in points]
    for passed, expected in zip(network.passes(points, batch, backward=True), alone, strict=True):
        if backend.name == "cpu":
            assert_same_bits(passed.gradients, expected)
        assert_close(passed.gradients, expected, 1e-12)
    for passed, expected in zip(network.passes(points[:2], batch, backward=True, feedforward=False), alone):
        found = passed.gradients.flatten()
        assert found and all(name.startswith("rec") for name in found)
        assert_close(found, {name: expected.flatten()[name] for name in found}, 1e-12)


def test_ways_agree(backend):
    """evaluate is gradients without them; recording changes nothing; nothing given is changed, nothing kept is."""
    case = random_case(16, (("supernet", 8, (2, 4)), ("free", 6)))
    network, parameters = case.network(backend), case.parameters()
    full = case.run(backend)
    bare = network.gradients(parameters, case.events())
    forward = network.evaluate(parameters, case.events(), record=True)
    assert bare.records is None and forward.gradients is None and bare.intrinsic is None and forward.intrinsic is None
    assert_same_bits([bare.loss, bare.predicted, bare.rates, bare.gradients],
                     [full.loss, full.predicted, full.rates, full.gradients])
    assert_same_bits([forward.loss, forward.predicted], [full.loss, full.predicted])
    for one, other in zip(forward.records, full.records):
        assert_same_bits(one, {key: other[key] for key in one})
    assert_same_bits(parameters, case.parameters())
    kept = full.gradients.copy(), [dict(r, v=r["v"].copy()) for r in full.records]
    random_case(17, (("supernet", 8, (2, 4)), ("free", 6))).run(backend)
    assert_same_bits([full.gradients, full.records], list(kept))


def test_empty_batch(backend):
    case = random_case(18)
    network, empty = case.network(backend), case.events()[[]]
    for way in (network.evaluate, network.gradients):
        with pytest.raises(InputError, match="empty batch"):
            way(case.parameters(), empty)


# ---- losses and decision ---------------------------------------------------------------------------


@pytest.mark.parametrize("period", [1, 2, 3, 7, 40])
def test_psc_loss(period):
    rng = np.random.default_rng(period)
    psc, labels = rng.uniform(0, 8, (4, 20, 5)), np.array([0, 4, 2, 2])
    loss, gradient = PscLoss(period)(psc, labels, TAU_S)
    mean, expected = naive.loss_psc(psc, labels, TAU_S, period)
    assert loss.shape == (4,) and loss.mean() == pytest.approx(mean, rel=1e-13)
    assert error(gradient, expected) < 1e-14


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(1, 1, 2), (4, 20, 5), (13, 100, 26), (16, 301, 11)], ids=str)
def test_the_kernel_of_the_psc_loss_has_its_bits(shape, dtype):
    rng = np.random.default_rng(2)
    lanes = rng.uniform(0, 8, (*shape[1:], LANES)).astype(dtype)
    psc, labels = np.ascontiguousarray(np.moveaxis(lanes, -1, 0)[:shape[0]]), rng.integers(0, shape[2], shape[0])
    bound = functools.partial(PscLoss(3), tau_s=TAU_S)
    loss, gradient = bound(psc, labels)
    for form in (psc, lanes[..., :shape[0]].transpose(2, 0, 1)):
        found = losses.judge(bound, form, labels, chunks.Buffers())
        for ours, theirs in zip(found, (loss, psc.sum(axis=1, dtype=np.float64), gradient), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("scale", [0.02, 1.0, 50.0])
def test_cross_entropy_loss(scale):
    psc, labels = np.random.default_rng(1).uniform(0, 8, (4, 20, 5)), np.array([0, 4, 2, 2])
    loss, gradient = CrossEntropyLoss(scale)(psc, labels, TAU_S)
    if scale < 50:                                             # there the reference takes the logarithm of 0
        mean, expected = naive.loss_cross_entropy(psc, labels, scale)
        assert loss.shape == (4,) and loss.mean() == pytest.approx(mean, rel=1e-12)
        assert error(gradient, expected) < 1e-12
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()


def test_scores_are_the_summed_psc_and_the_largest_decides(backend):
    for dtype in ("float64", "float32"):
        found = random_case(27, B=40).run(backend, dtype)
        psc = found.psc[-1].astype(dtype)
        assert found.scores.dtype == np.float64 and found.scores.shape == (40, 3) and found.scores.any()
        np.testing.assert_array_equal(found.scores, psc.sum(axis=1, dtype=np.float64))
        np.testing.assert_array_equal(found.predicted, found.scores.argmax(axis=1))


def test_decision_and_its_ties(backend):
    """Three output neurons that hear nothing, or of which two hear the same: the lower class wins."""
    case = random_case(28, B=2, density=0.0)
    np.testing.assert_array_equal(case.run(backend).predicted, [0, 0])
    case = random_case(28, hidden=(), B=2, density=1.0)
    case.layers[-1]["W_in"][:] = np.array([[0.0], [5.0], [5.0]])
    found = case.run(backend)
    assert found.scores[0, 1] == found.scores[0, 2] > found.scores[0, 0]
    np.testing.assert_array_equal(found.predicted, [1, 1])


# ---- parameters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_initial_parameters(backend, dtype):
    case = random_case(19, (("supernet", 40, (4, 10)), ("motif", 30, 5), ("feedforward", 20)), C=50)
    network = case.network(backend, dtype)
    first, second = (network.init(0) for _ in range(2))
    assert_same_bits(first, second)
    start, weights, alphas = first.intrinsic().flatten(), network.weight_names, network.alpha_names
    first, expected = first.flatten(), case.parameters(dtype).flatten()
    assert {k: (x.shape, x.dtype) for k, x in first.items()} == {k: (x.shape, x.dtype) for k, x in expected.items()}
    for name, senders in (("w1", 50), ("w2", 40), ("w3", 30), ("w_out", 20)):       # He normal
        assert first[name].std() == pytest.approx(np.sqrt(2 / senders), rel=0.15)
        assert abs(first[name].mean()) < 5 * np.sqrt(2 / senders / first[name].size)
    for name in ("rec1.w_exc", "rec2.w_exc"):
        assert (first[name] == np.array(0.2, dtype)).all()
    for name in ("rec1.alpha_size", "rec1.alpha_4", "rec1.alpha_10"):
        assert 0 < np.abs(first[name]).max() < 6e-3            # 1e-3 times a standard normal
    assert alphas == [(0, "alpha_size"), (0, "alpha_4"), (0, "alpha_10")]
    assert weights == [(0, "w"), (1, "w"), (2, "w"), (3, "w"), (0, "w_exc"), (1, "w_exc")]
    assert len(weights + alphas) + len(start) == len(first)
    assert_same_bits(network.initial_intrinsic(), start)
    assert sorted(start) == ["R1", "R2", "R3", "tau1", "tau2", "tau3"]
    assert all((x == 16).all() and x.dtype == dtype and x.shape == (n,)
               for x, n in zip(start.values(), (40, 40, 30, 30, 20, 20)))


def test_initial_parameters_run(backend):
    """What a run starts from goes through, and every gradient arrives under its parameter's name and shape."""
    case = random_case(20, (("supernet", 12, (2, 3)), ("motif", 8, 4)), density=0.9)
    network = case.network(backend, "float32")
    parameters = network.init(1)
    found = network.gradients(parameters, case.events())
    assert {k: x.shape for k, x in found.gradients.items()} == {k: x.shape for k, x in parameters.trained().items()}


def test_not_a_number_is_not_hidden(backend):
    """A NaN among the weights must reach the gradients: it has to stop a run."""
    for stack in ((("motif", 8, 4),), (("supernet", 8, (2, 4)),)):
        case = random_case(22, stack)
        network = case.network(backend, "float32")
        for (n, name), weights in case.parameters("float32").trained().items():
            parameters = case.parameters("float32")
            parameters.layers[n][name] = np.full_like(weights, np.nan)
            found = network.gradients(parameters, case.events())
            norm = sum(float(np.sum(x**2)) for _, x in found.gradients.items())
            assert np.isnan(found.loss) or np.isnan(norm), name


def test_one_step_by_hand(backend):
    """At the threshold exactly there is no spike (v > v_th), nor a reset; a step later there is."""
    X = np.ones((1, 2, 1))
    layers = [dict(W_in=np.array([[8.0]]), W_rec=None, R=np.array([16.0]), tau=np.array([16.0]), v_th=8.0),
              dict(W_in=np.array([[0.0]]), W_rec=None, R=np.array([16.0]), tau=np.array([16.0]), v_th=8.0)]
    for dtype in ("float64", "float32"):
        record = Case(X, np.array([0]), layers, [None]).run(backend, dtype).records[0]
        np.testing.assert_array_equal(record["v"][0, :, 0], [8.0, 22.5])
        np.testing.assert_array_equal(record["spikes"][0, :, 0], [0.0, 1.0])
        np.testing.assert_array_equal(record["psc"][0, :, 0], [0.0, 1.0])
    assert_close(dict(v=record["v"]), dict(v=naive.network_forward(X, layers, TAU_S)[0]["v"]), 0.0)


def test_channels_beyond_the_last_event(backend):
    """Channels and steps where nothing happens count: their gradients are 0, not missing."""
    case = random_case(23, C=6, T=12)
    case.X[:, :, 4:] = 0
    case.X[:, 9:] = 0
    found, _ = case.check(backend)
    gradient = found.gradients.layers[0].w
    assert (gradient[4:] == 0).all() and gradient.shape == (6, 8)
    assert len(events(case.X, case.Y)) == 3


# ---- shapes that do not fit ---------------------------------------------------------------------------


def misfit(**change):
    """A case's parameters with other arrays, by name in the first layer, and its events."""
    def made(case):
        parameters = case.parameters()
        for name, function in change.items():
            layer = parameters.layers[-1 if name == "w_out" else 0]
            name = name.removesuffix("_out")
            layer[name] = function(layer[name])
        return parameters, case.events()
    return made


MISFITS = {
    "too few channels": lambda c: (c.parameters(), events(c.X[:, :, :3], c.Y)),
    "too many channels": lambda c: (c.parameters(), events(np.concatenate([c.X, c.X], axis=2), c.Y)),
    "a label below the classes": lambda c: (c.parameters(), events(c.X, np.full(len(c.Y), -1))),
    "a label beyond the classes": lambda c: (c.parameters(), events(c.X, np.full(len(c.Y), 3))),
    "weights of another layer": misfit(w=lambda w: w[:, :7].copy()),
    "weights too few to send": misfit(w_out=lambda w: w[:7].copy()),
    "links without weights": misfit(w_rec=lambda w: w[:3]),
    "R of another layer": misfit(R=lambda x: x[:5], tau=lambda x: x[:5]),
    "R of other steps": misfit(R=lambda x: np.full((9, 8), 16.0)),
    "R of other samples": misfit(R=lambda x: np.full((2, 20, 8), 16.0), tau=lambda x: np.full((2, 20, 8), 16.0)),
    "a layer too few": lambda c: (Parameters(c.parameters().layers[1:]), c.events()),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_shapes_that_do_not_fit_are_refused(backend, misfit):
    """Kernels do not check bounds: what does not fit has to stop before them."""
    case = random_case(24)
    with pytest.raises(InputError):
        case.network(backend).gradients(*MISFITS[misfit](case))


def test_rates_of_the_smooth_variant_are_of_samples_only(backend):
    """Lanes beyond the batch send nothing anybody may count."""
    case = random_case(25, B=3, smooth=True)
    found = case.run(backend)
    assert all(rate <= 1 for rate in found.rates)


def test_free_recurrence_has_start_values(backend):
    network = random_case(26).network(backend)
    assert "w_rec" in network.init(0).layers[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_cross_entropy_is_the_sum_over_its_target(smoothing):
    psc, labels, scale = np.random.default_rng(0).random((4, 6, 5)), np.array([0, 4, 2, 2]), 0.3
    loss, gradient = CrossEntropyLoss(scale, smoothing)(psc, labels, TAU_S)

    def slow(x, label):
        z = [scale * sum(x[t, o] for t in range(6)) for o in range(5)]
        total = sum(math.exp(v) for v in z)
        target = [smoothing / 5 + (1 - smoothing) * (o == label) for o in range(5)]
        return -sum(d * math.log(math.exp(v) / total) for d, v in zip(target, z))

    np.testing.assert_allclose(loss, [slow(x, label) for x, label in zip(psc, labels)], rtol=1e-12)
    moved = psc.copy()
    moved[1, 3, 2] += 1e-6
    slope = (slow(moved[1], 4) - slow(psc[1], 4)) / 1e-6
    assert gradient[1, 3, 2] == pytest.approx(slope, rel=1e-4)
