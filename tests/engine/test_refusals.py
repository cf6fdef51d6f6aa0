"""Malformed batches, parameters and networks: one InputError each, before a kernel sees them. None is accepted."""

import os

import numpy as np
import pytest

import hrmas_sparse as hs
from hrmas_sparse.data.events import Events

DRAWS = int(os.environ.get("HRMAS_REFUSALS", "400"))
ODD = (None, "x", -1, 0, 2.5, 10**30, True, float("nan"), [], {}, b"w", 1j)


@pytest.fixture(scope="module")
def net():
    return hs.Network(channels=6, classes=3, hidden=[hs.Motifs(12, size=3), hs.Supernet(8, sizes=(2, 4))],
                      neuron=hs.LIF(v_th=1), backend="cpu")


def batch(rng):
    return hs.Events.from_dense(rng.random((5, 9, 6)) < 0.4, rng.integers(0, 3, 5))


NO_ARRAYS = (None, "x", {}, 3, np.zeros((2, 2)))


# ---- batches: built wrong, or written to after they were built -------------------------------------------------


def array_of(events, name, value):
    """The batch with another array, as something that went round the checks would have it."""
    broken = Events._of(**{key: x for key, x in vars(events).items()})
    vars(broken)[name] = value
    return broken


def somewhere(events, name, value, rng):
    """The batch with one entry of an array written over."""
    array = getattr(events, name).copy()
    array[rng.integers(len(array))] = value
    return array_of(events, name, array)


BATCHES = {
    "a step beyond the last": lambda e, rng: somewhere(e, "step", rng.choice([9, 10, 60000, 65535]), rng),
    "a channel beyond the last": lambda e, rng: somewhere(e, "channel", rng.choice([6, 7, 60000]), rng),
    "a value that is no number": lambda e, rng: array_of(e, "value", np.where(
        np.arange(len(e.value)) == rng.integers(len(e.value)), rng.choice([np.nan, np.inf]), 1.0)),
    "a label out of range": lambda e, rng: somewhere(e, "labels", rng.choice([3, -1, 10**12]), rng),
    "unsorted": lambda e, rng: array_of(e, "step", e.step[::-1].copy()),
    "twice": lambda e, rng: array_of(array_of(e, "step", np.repeat(e.step[:1], len(e.step))), "channel",
                                     np.repeat(e.channel[:1], len(e.step))),
    "indptr beyond the events": lambda e, rng: somewhere(e, "indptr", len(e.step) + rng.integers(1, 10**9), rng),
    "indptr below 0": lambda e, rng: somewhere(e, "indptr", -rng.integers(1, 10**9), rng),
    "indptr too short": lambda e, rng: array_of(e, "indptr", e.indptr[:-1]),
    "fewer channels than steps": lambda e, rng: array_of(e, "channel", e.channel[:rng.integers(len(e.channel))]),
    "more labels": lambda e, rng: array_of(e, "labels", np.zeros(rng.integers(6, 99), np.int64)),
    "arrays of another kind": lambda e, rng: array_of(
        e, rng.choice(["step", "channel", "value", "labels", "indptr"]), NO_ARRAYS[rng.integers(len(NO_ARRAYS))]),
    "complex": lambda e, rng: array_of(e, rng.choice(["step", "value", "labels"]), np.ones(len(e.step), complex)),
    "steps of another kind": lambda e, rng: array_of(e, "steps", ODD[rng.integers(len(ODD))]),
    "channels of another kind": lambda e, rng: array_of(e, "channels", ODD[rng.integers(len(ODD))]),
    "channels of another network": lambda e, rng: array_of(e, "channels", int(rng.integers(7, 65536))),
    "steps fewer than there are": lambda e, rng: array_of(e, "steps", int(e.step.max())),
    "no sample": lambda e, rng: e[[]],
    "no batch": lambda e, rng: ODD[rng.integers(len(ODD))],
    "a dense array": lambda e, rng: e.dense(),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batches(net, kind):
    params = net.init(seed=0)
    for seed in range(DRAWS // len(BATCHES) + 1):
        rng = np.random.default_rng(seed)
        broken = BATCHES[kind](batch(rng), rng)
        for way in (net.evaluate, net.gradients, net.loss):
            with pytest.raises(hs.InputError, match="events: .*(expected .*(found|comes after)|empty)"):
                way(params, broken)


def test_the_batch_itself_is_taken(net):
    """Or the tests above would show nothing."""
    for seed in range(20):
        assert np.isfinite(net.loss(net.init(seed=0), batch(np.random.default_rng(seed))))


def test_a_batch_that_is_written_to_is_seen(net):
    """The way it used to end in a segmentation fault."""
    events = batch(np.random.default_rng(0))
    events.step[-1] = 60000
    with pytest.raises(hs.InputError, match="step.* expected .*found 60000"):
        net.gradients(net.init(seed=0), events)


def test_alpha_gradient_checks_what_it_is_given(net):
    """For the passes inside it check nothing."""
    params, good = net.init(seed=0), batch(np.random.default_rng(0))
    broken, narrow = batch(np.random.default_rng(1)), net.init(seed=0)
    broken.step[-1] = 60000
    narrow.layers[0].w = narrow.layers[0].w[:-1]
    for point, train, valid in ((params, broken, good), (params, good, broken), (narrow, good, good)):
        with pytest.raises(hs.InputError, match="expected .*found"):
            hs.alpha_gradient(net, point, train, valid, eta=0.1)


# ---- parameters ----------------------------------------------------------------------------------------------------


def entry(params, rng):
    """A layer and a name of its arrays, at random."""
    layer = params.layers[rng.integers(len(params.layers))]
    return layer, list(layer)[rng.integers(len(layer))]


def shape(params, rng):
    layer, name = entry(params, rng)
    grown = [n + 1 if axis == rng.integers(layer[name].ndim) else n for axis, n in enumerate(layer[name].shape)]
    layer[name] = rng.choice(np.array([np.zeros([*layer[name].shape, 1], np.float32), layer[name][:-1],
                                       np.zeros(0, np.float32), np.zeros((), np.float32), None], object))
    if layer[name] is None:
        layer[name] = np.zeros([max(grown) + 1] * len(grown), np.float32)


def dtype(params, rng):
    layer, name = entry(params, rng)
    layer[name] = layer[name].astype(rng.choice(["float64", "float16", "int32", "complex64", ">f4", "U8", "bool"]))


def missing(params, rng):
    layer, name = entry(params, rng)
    del layer[name]


def too_many(params, rng):
    params.layers[rng.integers(len(params.layers))][rng.choice(["w_in", "alpha_9", "bias", ""])] = np.ones(3)


def no_array(params, rng):
    layer, name = entry(params, rng)
    layer[name] = ODD[rng.integers(len(ODD))]


def layers(params, rng):
    params.layers.insert(0, params.layers[0]) if rng.random() < 0.5 else params.layers.pop()


PARAMETERS = [shape, dtype, missing, too_many, no_array, layers]


@pytest.mark.parametrize("change", PARAMETERS)
def test_parameters(net, change):
    for seed in range(DRAWS // len(PARAMETERS) + 1):
        rng = np.random.default_rng(seed)
        params = net.init(seed=0)
        change(params, rng)
        for way in (net.evaluate, net.gradients, net.loss):
            with pytest.raises(hs.InputError, match="parameters: .*expected .*(found|missing)"):
                way(params, batch(rng))


@pytest.mark.parametrize("params", [*ODD, [{}], {"w1": np.ones((6, 12))}], ids=repr)
def test_what_are_no_parameters(net, params):
    with pytest.raises(hs.InputError, match="parameters: expected hrmas_sparse.Parameters"):
        net.evaluate(params, batch(np.random.default_rng(0)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_of_what_is_no_number_are_refused(net, value):
    """Of every array, in every way that scores or adapts; a training step sees it in its loss or gradients."""
    from hrmas_sparse.engine.network import Plasticity
    events = batch(np.random.default_rng(0))
    for (n, name), array in net.init(seed=0).items():
        params = net.init(seed=0)
        params.layers[n][name].flat[array.size // 2] = value
        for way in (net.evaluate, net.loss, lambda p, e: net.adapt(p, e, Plasticity(16.0, 0.1, 0.2))):
            with pytest.raises(hs.InputError, match=f"layer {n}, {name}: expected finite numbers"):
                way(params, events)


def test_a_tau_that_divides_nothing_is_refused(net):
    for value in (0.0, -1.0):
        params = net.init(seed=0)
        params.layers[1].tau[3] = value
        with pytest.raises(hs.InputError, match="layer 1, tau: expected numbers above 0"):
            net.evaluate(params, batch(np.random.default_rng(0)))


def test_arrays_laid_out_otherwise_are_taken(net):
    """Strided, Fortran's order, read-only: the same numbers, the same bits."""
    params, events = net.init(seed=0), batch(np.random.default_rng(0))
    expected = net.gradients(params, events)
    for change in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x[::-1].copy()[::-1],
                   lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)):
        found = net.gradients(params.map(change), events)
        assert found.loss == expected.loss
        flat = expected.gradients.flatten()
        assert all((x == flat[name]).all() for name, x in found.gradients.flatten().items())


# ---- networks -----------------------------------------------------------------------------------------------------


WHOLE = dict(channels=6, classes=3, hidden=[hs.Feedforward(4)], backend="cpu")


@pytest.mark.parametrize("name", ["channels", "classes", "hidden", "neuron", "loss", "backend", "dtype"])
def test_networks(name):
    for value in ODD:
        if (name, repr(value)) in {("neuron", "None"), ("channels", "1"), ("hidden", "[]"), ("hidden", "{}")}:
            continue
        with pytest.raises(hs.InputError, match=rf"{name}:? .*expected .*found"):
            hs.Network(**(WHOLE | {name: value}))


LAYERS = [lambda v: hs.Motifs(v, size=2), lambda v: hs.Motifs(8, size=v), lambda v: hs.Motifs(8, size=2, inter=v),
          lambda v: hs.Motifs(8, size=2, tied=v), lambda v: hs.Motifs(8, size=2, seed=v),
          lambda v: hs.Motifs(8, size=2, w_exc=v), lambda v: hs.Motifs(8, size=2, types=v),
          lambda v: hs.Motifs(8, size=2, v_th=v), lambda v: hs.Motifs(8, architecture=v),
          lambda v: hs.Supernet(v), lambda v: hs.Supernet(8, sizes=v), lambda v: hs.Supernet(8, sizes=(2, v)),
          lambda v: hs.Supernet(8, sizes=(2,), alpha_init=v), lambda v: hs.Dense(v), lambda v: hs.Dense(8, v_th=v),
          lambda v: hs.Feedforward(v), lambda v: hs.LIF(tau_m=v), lambda v: hs.LIF(v_th=v),
          lambda v: hs.LIF(slope_cap=v)]
RIGHT = {(2, True), (3, True), (4, "0"), (4, "[]"), (5, "0"), (5, "2.5"), (7, "None"), (7, "2.5"), (12, "0"),
         (12, "2.5"), (14, "None"), (14, "2.5"), (16, "2.5"), (17, "2.5"), (18, "2.5")}


@pytest.mark.parametrize("n", range(len(LAYERS)))
def test_layers(n):
    for value in ODD:
        fits = (n, value if value is True else repr(value)) in RIGHT or (
            isinstance(value, int) and value == 10**30 and n in (4, 5, 7, 12, 14, 16, 17, 18))
        if not fits:
            with pytest.raises(hs.InputError, match="expected .*found|does not divide"):
                LAYERS[n](value)


def test_too_many_connections_are_refused_before_they_are_made():
    for layer in (lambda: hs.Dense(10**6).recurrence(), lambda: hs.Motifs(10**7, size=10**7),
                  lambda: hs.Supernet(10**7, sizes=(10**7,))):
        with pytest.raises(hs.InputError, match="connections .* do not fit"):
            layer()


@pytest.mark.parametrize("arguments", [dict(eta=-1), dict(eta=np.nan), dict(eta="x"), dict(eta=1, order="third"),
                                       dict(eta=1, clip=0), dict(eta=1, clip=np.inf)], ids=str)
def test_alpha_gradient(net, arguments):
    events = batch(np.random.default_rng(0))
    with pytest.raises(hs.InputError, match="expected .*found"):
        hs.alpha_gradient(net, net.init(seed=0), events, events, **arguments)
    plain = hs.Network(**WHOLE)
    with pytest.raises(hs.InputError, match="there is no alpha"):
        hs.alpha_gradient(plain, plain.init(seed=0), events, events, eta=0.1)


def test_check_gradients(net):
    smooth = hs.Network(**WHOLE, dtype="float64", smooth=True)
    events = batch(np.random.default_rng(0))
    for other, arguments in ((net, {}), (hs.Network(**WHOLE, smooth=True), {}), (smooth, dict(eps=0)),
                             (smooth, dict(eps=np.nan)), (smooth, dict(entries=0)), (smooth, dict(entries=True))):
        with pytest.raises(hs.InputError, match="expected"):
            hs.check_gradients(other, other.init(seed=0), events, **arguments)
