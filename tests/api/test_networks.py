"""The scripts of "Networks" and of alpha_gradient, as a user writes them: only public names, each under 25 lines."""

import inspect
import sys
import threading
import time

import numpy as np
import pytest

import hrmas_sparse as hs


def spikes(samples=8, steps=20, channels=10, classes=3, seed=0):
    """A random batch."""
    rng = np.random.default_rng(seed)
    return hs.Events.from_dense(rng.random((samples, steps, channels)) < 0.3, rng.integers(0, classes, samples))


@pytest.mark.parametrize("neurons", [800, 1600, 3200])
def test_a_network_of_motifs_with_gradients_and_time(neurons):
    net = hs.Network(channels=78, classes=26, hidden=[hs.Motifs(neurons, size=16, types="random", inter=True, seed=0)],
                     neuron=hs.LIF(tau_m=16, tau_s=8, v_th=10, v_th_out=1), loss="psc", backend="cpu",
                     dtype="float32", smooth=False)
    params, events = net.init(seed=0), spikes(16, 100, 78, 26)
    started = time.perf_counter()
    out = net.gradients(params, events)
    seconds = time.perf_counter() - started
    layer, grad = params.layers[0], out.gradients.layers[0]
    assert grad.w.shape == layer.w.shape == (78, neurons) and grad.w_exc.shape == layer.w_exc.shape
    assert grad.w.any() and grad.w_exc.any() and 0 < out.rates[0] < 1 and seconds < 300
    assert out.scores.shape == (16, 26) and (out.predicted == out.scores.argmax(axis=1)).all()
    recorded = net.evaluate(params, events, record=True)
    assert [x.shape for x in recorded.spikes] == [(16, 100, neurons), (16, 100, 26)]
    assert recorded.loss == out.loss == net.loss(params, events)
    np.testing.assert_allclose(recorded.psc[-1].sum(axis=1), out.scores, rtol=1e-4)
    before = np.concatenate([np.zeros_like(recorded.psc[0][:, :1]), recorded.psc[0][:, :-1]], axis=1)
    np.testing.assert_allclose(recorded.psc[0], (1 - 1 / 8) * before + recorded.spikes[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer, name", [
    (lambda: hs.Motifs(12, size=3), "w_exc"), (lambda: hs.Supernet(12, sizes=(2, 3)), "alpha_3"),
    (lambda: hs.Dense(6), "w_rec"), (lambda: hs.Feedforward(6), "w")])
def test_finite_differences_of_ones_own(layer, name):
    net = hs.Network(channels=10, classes=3, hidden=[layer()], neuron=hs.LIF(v_th=1), backend="cpu", dtype="float64",
                     smooth=True)
    params, events, eps = net.init(seed=1), spikes(), 1e-5
    gradient = net.gradients(params, events).gradients.layers[0][name]
    place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    losses = []
    for side in (1, -1):
        moved = params.copy()
        moved.layers[0][name][place] += side * eps
        losses.append(net.loss(moved, events))
    assert (losses[0] - losses[1]) / (2 * eps) == pytest.approx(gradient[place], rel=1e-6)
    rows = hs.check_gradients(net, params, events, eps=1e-5, entries=5)
    assert {row.name for row in rows} == set(params.trained().layers[0]) and max(row.error for row in rows) < 1e-6
    own = [row for row in hs.check_gradients(net, params, events, intrinsic=True) if row.name in ("R", "tau")]
    assert len(own) == 10 and max(row.error for row in own) < 1e-6 and min(abs(row.by_hand) for row in own) > 0


def test_alpha_gradient_by_hand():
    net = hs.Network(channels=10, classes=3, hidden=[hs.Supernet(12, sizes=(2, 3), w_exc=0.5)],
                     neuron=hs.LIF(v_th=1), backend="cpu", dtype="float64")
    params, train, valid, eta = net.init(seed=0), spikes(seed=1), spikes(seed=2), 0.01
    found = hs.alpha_gradient(net, params, train, valid, eta=eta, clip=None).layers[0]

    def moved(step, direction):
        new = params.copy()
        for n, name in net.weight_names:
            new.layers[n][name] += step * direction.layers[n][name]
        return new

    first = net.gradients(moved(-eta, net.gradients(params, train).gradients), valid).gradients
    norm = np.sqrt(sum((first.layers[n][name]**2).sum() for n, name in net.weight_names))
    ahead, behind = (net.gradients(moved(side * 0.01 / norm, first), train).gradients.layers[0] for side in (1, -1))
    for name in ("alpha_size", "alpha_2", "alpha_3"):
        by_hand = first.layers[0][name] - eta * norm / 0.02 * (ahead[name] - behind[name])
        np.testing.assert_allclose(found[name], by_hand, rtol=1e-7, atol=1e-12 * np.abs(by_hand).max())
        assert (by_hand != first.layers[0][name]).any()


@pytest.mark.parametrize("shared", [True, False], ids=["one network", "a network each"])
def test_two_threads_at_once_give_the_same_bits(shared):
    def network():
        return hs.Network(channels=10, classes=3, hidden=[hs.Motifs(60, size=5)], neuron=hs.LIF(v_th=1), backend="cpu")

    def work(net, seed):
        batches = [spikes(33, 20 + seed + n, seed=seed + n) for n in range(8)]
        return [out for batch in batches for out in [net.gradients(net.init(seed), batch, record=True)]]

    net, found = network(), {}
    expected = {seed: work(net, seed) for seed in (1, 2)}
    threads = [threading.Thread(target=lambda s=seed: found.update({s: work(net if shared else network(), s)}))
               for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        for one, other in zip(found[seed], expected[seed], strict=True):
            assert one.loss == other.loss and all((a == b).all() for a, b in zip(one.v, other.v))
            flat = other.gradients.flatten()
            assert all((x == flat[name]).all() for name, x in one.gradients.flatten().items())


def test_the_rows_of_gradcheck():
    rows = hs.gradcheck(golden=None, backend="cpu")
    checked = [row for row in rows if row.ok is not None]
    assert len(checked) > 50 and all(row.ok and row.error <= row.bound and row.what for row in checked)


def test_every_script_is_short():
    for name, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction):
        if name.startswith("test_"):
            lines = inspect.getsource(function).splitlines()
            assert len([x for x in lines if not x.startswith("@")]) <= 25, name
