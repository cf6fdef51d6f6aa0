"""One layer through the backend's own interface, forward and back, against naive.py."""

import itertools

import naive
import numpy as np
import pytest
from dense import SHAPES, TAU_M, TAU_S, TOLERANCE, assert_close, assert_same_bits, error, events, free

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends.base import Gradients, Intrinsic, Neurons, Synapses
from hrmas_sparse.engine.recurrence import Links

V_TH, CAP, WIDTH = 9.0, 8.0, 0.2
DTYPES = ["float64", "float32"]


class OneLayer:
    """A layer of naive.py and of a backend, with the effects from above that would come back to it."""

    through_time = False    # its rule

    def __init__(self, seed, backend, dtype="float64", B=5, T=15, C=4, N=7, R="neuron", tau="neuron", recurrent=True,
                 tau_s=TAU_S, v_th=V_TH, density=0.3, reach=None):
        rng = np.random.default_rng(seed)
        self.backend, self.dtype, self.tau_s, self.v_th = backend, dtype, tau_s, v_th
        self.X = (rng.random((B, T, C)) < density) * rng.random((B, T, C)) * 2
        self.W_in = rng.normal(0.7, 1.2, (N, C))
        self.W_rec = rng.normal(0, 0.5, (N, N)) * (rng.random((N, N)) < 0.6) if recurrent else None
        if reach is not None:
            self.W_rec *= np.abs(np.subtract.outer(np.arange(N), np.arange(N))) <= reach
        self.R, self.tau = (rng.uniform(10, 24, SHAPES[shape](B, T, N)) for shape in (R, tau))
        self.above = rng.normal(size=(B, T, N))
        self.k = neuron.constants(dtype, tau_s, v_th, CAP, WIDTH)

    def cast(self, x):
        return np.array(x, self.dtype, order="C")

    def synapses(self):
        if self.W_rec is None:
            links = Links(np.zeros(len(self.W_in) + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, self.dtype))
        else:
            recurrence = free(self.W_rec)
            links = recurrence.links({"w_rec": self.cast(self.W_rec[recurrence.target, recurrence.source])})
        return Synapses(self.cast(self.W_in.T), links)

    def chunk(self):
        chunk, = self.backend.pack(events(self.X, np.zeros(len(self.X))), np.dtype(self.dtype))
        return chunk

    def bound(self, p=None, smooth=False):
        """The layer on the backend."""
        return self.backend.layer(0, Neurons(self.k, p, smooth, self.through_time), self.synapses(),
                                  Intrinsic(self.cast(self.R), self.cast(self.tau)))

    def engine(self, smooth=False):
        """What the backend finds, as plain arrays: v, s, a, delta, E."""
        layer, chunk, synapses = self.bound(smooth=smooth), self.chunk(), self.synapses()

        def unpack(opaque):
            return self.backend.unpack(opaque, chunk.size)

        tape = layer.forward(chunk, chunk.spikes, keep_psc=True)
        found = dict(v=unpack(tape.v), s=unpack(tape.spikes), a=unpack(tape.psc))
        np.testing.assert_array_equal(self.backend.to_host(layer.psc(tape, chunk)), found["a"])
        if not smooth:
            assert self.backend.to_host(tape.count).sum() == found["s"].sum()
        # the effects from above, as the output layer gets them: dL/da, filtered back
        above = layer.effect_of_loss(tape, self.above)
        gradients = Gradients(np.zeros_like(synapses.w), np.zeros_like(synapses.links.data))
        below, delta = layer.backward(tape, above, gradients, keep_delta=True)
        return dict(found, E=unpack(below.errors), delta=unpack(delta))

    def reference(self, smooth=False):
        constants = dict(tau_s=self.tau_s, v_th=self.v_th)
        tape = naive.forward_layer(self.X, self.W_in, self.W_rec, self.R, self.tau, **constants, smooth=smooth,
                                   width=WIDTH)
        back = naive.backward_layer(tape, self.W_rec, self.R, self.tau, **constants, slope_cap=CAP, width=WIDTH,
                                    A_above=naive.filter_back(self.above, self.tau_s), smooth=smooth)
        if self.through_time:
            back = naive.through_time(tape, self.above, self.W_rec, self.R, self.tau, **constants, width=WIDTH)
        return {key: tape[key] for key in "vsa"} | {"E": back["E"], "delta": back["delta"]}

    def check(self, smooth=False):
        expected = self.reference(smooth)
        assert smooth or expected["s"].any()
        assert_close(self.engine(smooth), expected, TOLERANCE[self.dtype])
        return expected


@pytest.mark.parametrize("recurrent", [True, False], ids=["recurrent", "feedforward"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("R, tau", list(itertools.product(SHAPES, SHAPES)))
def test_layer(backend, R, tau, dtype, recurrent):
    OneLayer(0, backend, dtype, R=R, tau=tau, recurrent=recurrent).check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("R, tau", list(itertools.product(SHAPES, SHAPES)))
def test_layer_through_time(backend, R, tau, dtype):
    for recurrent in (True, False):
        layer = OneLayer(3, backend, dtype, R=R, tau=tau, recurrent=recurrent)
        layer.through_time = True
        layer.check()


@pytest.mark.parametrize("seed", range(20))
def test_layers_of_many_sizes(backend, seed):
    rng = np.random.default_rng(seed)
    B, T, C, N = (int(rng.integers(1, most + 1)) for most in (16, 20, 9, 20))
    layer = OneLayer(50 + seed, backend, B=B, T=T, C=C, N=N, recurrent=bool(seed % 2))
    assert_close(layer.engine(), layer.reference(), 1e-9)


@pytest.mark.parametrize("reach", [0, 1, 7, 40, 130, 299])
def test_wide_layers(backend, reach):
    """Layers that a backend may cut into blocks of neurons, recordings that it may cut into spans of steps."""
    for seed, N, T in ((0, 300, 19), (1, 128, 35), (2, 129, 16)):
        layer = OneLayer(70 + seed, backend, B=2, T=T, N=N, reach=reach)
        layer.W_rec *= 3 / max(1, min(reach, N)) ** 0.5
        layer.check()


@pytest.mark.parametrize("R, tau", list(itertools.product(SHAPES, SHAPES)))
def test_smooth_layer(backend, R, tau):
    for recurrent in (True, False):
        OneLayer(1, backend, R=R, tau=tau, recurrent=recurrent).check(smooth=True)


def test_smooth_layer_is_differentiated(backend):
    """Not against the reference: sum_t above a by central differences in the input of every step."""
    layer = OneLayer(2, backend, B=2, T=6, density=1.0)
    E = layer.engine(smooth=True)["E"]                         # dL/d(current of step t), all later effects included
    slope = np.einsum("btn,nc->btc", E, layer.W_in)
    numeric, step = np.zeros_like(slope), 1e-5
    for index in np.ndindex(slope.shape):
        values = []
        for sign in (1, -1):
            layer.X[index] += sign * step
            values.append((layer.above * layer.engine(smooth=True)["a"]).sum())
            layer.X[index] -= sign * step
        numeric[index] = (values[0] - values[1]) / (2 * step)
    assert error(slope, numeric) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau_s, steps", [(2.0, 2), (4 / 3, 1)])
def test_a_psc_of_a_quarter_is_not_silent(backend, dtype, tau_s, steps):
    """a < 1/4, not <=: with decay 1/2 (or 1/4) a spike's psc meets 1/4 exactly, two steps (or one) later."""
    layer = OneLayer(3, backend, dtype, B=1, T=6, C=1, N=1, recurrent=False, tau_s=tau_s, v_th=8.0)
    layer.X[:], layer.W_in[:] = 0, 9
    layer.X[0, 0] = 1
    expected = layer.check()
    assert expected["a"][0, steps, 0] == 0.25
    # silent a step later, where the surrogate replaces what the recursion says
    np.testing.assert_array_equal(expected["a"][0, :, 0] < 0.25, np.arange(6) > steps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_the_threshold_exactly(backend, dtype):
    """v = v_th, all numbers exact in binary: no spike, no reset, the surrogate at its largest going back."""
    layer = OneLayer(4, backend, dtype, B=1, T=3, C=1, N=1, recurrent=False, v_th=8.0)
    layer.X[:], layer.W_in[:], layer.R[:], layer.tau[:] = 1, 8, 16, 16
    found = layer.engine()
    assert found["v"][0, 0, 0] == 8 and found["s"][0, :, 0].tolist() == [0, 1, 1]
    assert_close(found, layer.reference(), TOLERANCE[dtype])
    layer.v_th = np.nextafter(np.dtype(dtype).type(8), 0)
    layer.k = neuron.constants(dtype, TAU_S, layer.v_th, CAP, WIDTH)
    assert layer.engine()["s"][0, 0, 0] == 1


def test_intrinsic_of_samples_beyond_the_batch_is_harmless(backend):
    """Lanes without a sample repeat the last one's R and tau: no division by a zero that nobody set."""
    layer = OneLayer(5, backend, B=3, R="sample", tau="sample")
    membrane = layer.bound().forward(layer.chunk(), layer.chunk().spikes).membrane
    assert np.isfinite(membrane.gain).all() and np.isfinite(membrane.inv_tau).all()


@pytest.mark.parametrize("shape", [(7,), (15, 7)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shared_value_is_everyones(backend, dtype, shape):
    """(N,) and (T, N) say the same as the (B, T, N) they stand for, bit for bit."""
    layer = OneLayer(6, backend, dtype)
    layer.R, layer.tau = (np.random.default_rng(n).uniform(10, 24, shape) for n in (7, 8))
    short = layer.engine()
    layer.R, layer.tau = (np.broadcast_to(x, (5, 15, 7)).copy() for x in (layer.R, layer.tau))
    assert all(np.array_equal(x, short[key]) for key, x in layer.engine().items())


# ---- with plasticity -----------------------------------------------------------------------------------------------


def window(layer, gamma=2.0, mu=0.2, tau_cal=16.0, start=(TAU_M, TAU_M)):
    """SpiKL-IP over one layer: the backend's spikes, trajectory and sums, and naive's."""
    N, size = len(layer.W_in), len(layer.X)
    R, tau = (np.broadcast_to(np.asarray(x, float), (N,)) for x in start)
    p = neuron.plasticity_constants(layer.dtype, TAU_M, tau_cal, layer.v_th, gamma, mu)
    chunk, backend, layer.R, layer.tau = layer.chunk(), layer.backend, R, tau
    tape = layer.bound(p).forward(chunk, chunk.spikes, keep_trajectory=True)
    trajectory = backend.unpack(tape.plastic.trajectory, size)
    found = dict(s=backend.unpack(tape.spikes, size), R=trajectory[0], tau=trajectory[1],
                 R_end=tape.plastic.R_sum / size, tau_end=tape.plastic.tau_sum / size)
    expected = naive.spikl_ip_window(layer.X, layer.W_in, layer.W_rec, R, tau, layer.tau_s, layer.v_th, TAU_M, tau_cal,
                                     gamma, mu)
    return found, {key: expected[key] for key in found}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", [dict(), dict(gamma=0.02, mu=0.1), dict(gamma=20.0, mu=0.05), dict(tau_cal=4.0),
                                      dict(start=(11.0, 30.0)), dict(start=(128.0, 8.0)), dict(start=(8.0, 128.0))],
                         ids=str)
def test_window(backend, settings, dtype):
    found, expected = window(OneLayer(8, backend, dtype), **settings)
    assert expected["s"].any() and (expected["R_end"] != expected["R"][0, 0]).any()
    assert_close(found, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("seed", range(10))
def test_windows_of_many_sizes(backend, seed):
    rng = np.random.default_rng(seed)
    B, T, C, N = (int(rng.integers(1, most + 1)) for most in (16, 25, 9, 12))
    layer = OneLayer(70 + seed, backend, B=B, T=T, C=C, N=N, recurrent=bool(seed % 2))
    assert_close(*window(layer, gamma=rng.uniform(0.1, 10), mu=rng.uniform(0.05, 0.5)), 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_are_reached_and_kept(backend, dtype):
    """Silent neurons drift to R = 8 tau_m and tau = tau_m / 2; a steep learning rate throws busy ones about."""
    layer = OneLayer(9, backend, dtype, T=30)
    layer.X[:] = 0
    found, expected = window(layer, gamma=100.0)
    assert (found["R_end"] == 128).all() and (found["tau_end"] == 8).all()
    assert_close(found, expected, TOLERANCE[dtype])
    found, expected = window(OneLayer(9, backend, dtype, T=30, density=0.8), gamma=1e4)
    for name in ("R", "tau"):
        assert found[name].min() == 8 and found[name].max() == 128
    assert_close(found, expected, TOLERANCE[dtype])


def test_a_trajectory_is_kept_on_request_only(backend):
    layer, start = OneLayer(10, backend), np.full(7, TAU_M)
    p = neuron.plasticity_constants("float64", TAU_M, 16.0, layer.v_th, 2.0, 0.2)
    bound, chunk = backend.layer(0, Neurons(layer.k, p), layer.synapses(), Intrinsic(start, start)), layer.chunk()
    kept, bare = (bound.forward(chunk, chunk.spikes, keep_trajectory=keep).plastic for keep in (True, False))
    assert bare.trajectory.size == 0 and kept.trajectory.size
    assert_same_bits([bare.R_sum, bare.tau_sum], [kept.R_sum, kept.tau_sum])
    assert (start == TAU_M).all()
