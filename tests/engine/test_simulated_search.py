"""Learning on the device, in the simulator: parameters, Adam, relaxation and events lie there as in CuPy's arrays."""

import dataclasses
import math

import numpy as np
import pytest
import simulator
import toys
from dense import assert_close, assert_same_bits, random_case
from test_plasticity import SETTINGS

from hrmas_sparse.settings.load import load
from hrmas_sparse.search import hrmas as search
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine import learning
from hrmas_sparse.engine.backends.cuda import backend as module, launch, loader
from hrmas_sparse.engine.network import Plasticity
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.recurrence import Relaxed
from hrmas_sparse.search.optim import Adam


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What a launch does is tested elsewhere."""
    simulator.one_thread_a_block(monkeypatch)


def learnt(backend, order, mode):
    """What one step of a search leaves, as NumPy's arrays; on the device until then."""
    case = random_case(20, (("supernet", 6, (2, 3)), ("motif", 4, 2)), B=3, T=6, density=0.5, R="fixed", tau="fixed")
    network = case.network(backend)
    learner = search.Learner(case.parameters(), Adam(), Adam((0.5, 0.999)))
    learner = learner.to(backend.to_device)
    events = backend.loader(case.events())
    settings = dataclasses.replace(load("ntidigits").search, alpha_order=order, alpha_lr=0.05)
    train, valid = events[np.array([2, 0])], events[np.array([1])]
    result = search.search_step(network, learner, train, valid, settings,
                                search.StepSettings(1e-3, 1.0, Plasticity(**SETTINGS), mode))
    held = [x for part in (learner.parameters, learner.w_adam.m) for _, x in part.items()]
    learner = learner.to(backend.to_host)
    return held, (result.outcome.loss, result.valid.loss, result.norm), learner


@pytest.mark.parametrize("order, mode", [("first", "off"), ("second", "window"), ("first", "online")])
def test_a_step_of_the_search(cuda, order, mode):
    held, losses, one = learnt(cuda, order, mode)
    assert all(isinstance(array, simulator.DeviceArray) for array in held)
    _, expected, other = learnt(get_backend("cpu", 1), order, mode)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert_close(one.parameters, other.parameters, 1e-9)
    for name in ("w_adam", "alpha_adam"):
        assert_close(getattr(one, name).m, getattr(other, name).m, 1e-9)
        assert all(type(array) is np.ndarray for _, array in getattr(one, name).v.items())


@pytest.mark.parametrize("trains", [("R", "tau"), ("tau",)])
def test_steps_that_train_R_and_tau(cuda, trains):
    """On the device, as on the CPU."""
    found = []
    for backend in (cuda, get_backend("cpu", 1)):
        case = random_case(24, (("feedforward", 5), ("motif", 4, 2)), B=3, T=6, density=0.5, R="neuron", tau="neuron")
        learner = search.Learner(case.parameters(), Adam(), Adam()).to(backend.to_device)
        network, batch = case.network(backend), backend.loader(case.events())[np.arange(3)]
        for _ in range(2):
            search.weight_step(network, learner, batch, search.StepSettings(0.02, 1e-3, trains=trains))
        if backend is cuda:
            assert all(isinstance(x, simulator.DeviceArray) for _, x in learner.parameters.items())
        found.append(learner.to(backend.to_host))
    for one, other in zip(*([x.parameters, x.w_adam.m, x.w_adam.v] for x in found)):
        assert_close(one, other, 1e-9)
    start = case.parameters().flatten()
    moved = {name for name, x in found[0].parameters.flatten().items() if (x != start[name]).any()}
    assert {name for name in moved if name[0] in "Rt"} == {f"{name}{n}" for name in trains for n in (1, 2)}


def test_batches_taken_on_the_device(cuda):
    events = random_case(21, B=9, T=7, density=0.3).events()
    events.indptr.flags.writeable = False
    there = loader.DeviceEvents.of(events)
    for index in ([3], [8, 0, 8], [], [4, 4, 1, 7]):
        one, other = there[np.array(index, np.int64)], events[np.array(index, np.int64)]
        assert isinstance(one.step, simulator.DeviceArray)
        for name in ("indptr", "step", "channel", "value", "labels"):
            assert_same_bits(np.array(getattr(one, name), subok=False), getattr(other, name))
        assert (one.steps, one.channels, len(one)) == (other.steps, other.channels, len(other))


@pytest.mark.parametrize("sizes, inter, tied", [
    ((1, 2, 3, 4, 6), True, True), ((3,), False, True), ((2, 4), True, False)])
def test_the_relaxation(cuda, sizes, inter, tied):
    """Both ways, all motif sizes; links that only some sizes have; rows of types that have no link."""
    whole, rng = Relaxed(12, sizes, inter, tied), np.random.default_rng(22)
    parameters = {name: rng.normal(size=x.shape) for name, x in whole.initial(np.float64, rng).items()}
    gradient = rng.normal(size=whole.source.size)
    there = {name: cuda.to_device(x) for name, x in parameters.items()}
    on = whole.on(cuda)
    np.testing.assert_allclose(cuda.to_host(on.effective(there)), whole.effective(parameters), rtol=1e-12, atol=1e-14)
    found, expected = on.pullback(there, cuda.to_device(gradient)), whole.pullback(parameters, gradient)
    assert set(found) == set(expected)
    for name, x in expected.items():
        np.testing.assert_allclose(cuda.to_host(found[name]), x, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_arithmetic_of_learning(cuda, monkeypatch, threads):
    """Of more arrays than one launch takes; clipped and not; where nothing has a direction."""
    rng, on, layers = np.random.default_rng(23), cuda.learning, 2
    monkeypatch.setattr(launch, "TILE", threads)
    monkeypatch.setattr(on, "MOST", 3)
    monkeypatch.setattr(on, "PARTS", 2)

    def drawn():
        return Parameters([{"w": rng.normal(size=(3, 2)), "w_exc": rng.normal(size=5)} for _ in range(layers)])

    def close(found, expected):
        for (_, x), (_, y) in zip(found.items(), expected.items(), strict=True):
            np.testing.assert_allclose(cuda.to_host(x), y, rtol=1e-12, atol=1e-15)

    w, g, plus, minus = here = [drawn() for _ in range(4)]
    for limit in (0.1, math.inf):
        dw, dg, dplus, dminus = (part.map(lambda x: cuda.to_device(x.copy())) for part in here)
        squares, expected = on.squares(dg), learning.squares(g)
        np.testing.assert_allclose(cuda.to_host(squares).sum(axis=1), expected[:, 0], rtol=1e-13)
        close(on.descended(dw, dg, squares, limit, 0.3), learning.descended(w, g, expected, limit, 0.3))
        for found, wanted in zip(on.sides(dw, dg, squares), learning.sides(w, g, expected)):
            close(found, wanted)
        close(on.second_order(dg, dplus, dminus, squares, 0.3), learning.second_order(g, plus, minus, expected, 0.3))
        one, other, moves = Adam(), Adam(), w.copy()
        for _ in range(2):
            one.update(dw, dg, 0.1, 0.5, limit, squares, on)
            other.update(moves, g, 0.1, 0.5, limit, expected)
        close(dw, moves)
        close(one.v, other.v)
        nothing = on.squares(dg.map(np.zeros_like))
        close(on.second_order(dg, dplus, dminus, nothing, 0.3), g)


def test_a_host_array_on_the_device_is_refused():
    """Or nothing above would show that none gets there."""
    there = simulator.DeviceModule().asarray(np.ones(3))
    for mix in (lambda: there + np.ones(3), lambda: np.concatenate([there, np.ones(3)]), lambda: there[np.arange(2)]):
        with pytest.raises(TypeError, match="host met"):
            mix()


@pytest.mark.parametrize("which", toys.JOBS)
def test_a_whole_job(cuda, tmp_path, monkeypatch, which):
    simulator.one_thread_a_block(monkeypatch)
    toys.check_job(cuda, tmp_path, which)


def test_what_cupy_refuses_is_refused():
    """Or nothing above would show that it is not asked for: an H100 was, at the end of a search's first epoch."""
    there = simulator.DeviceModule().asarray(np.ones((2, 3)))
    for ask in (lambda: np.maximum.reduce(there), lambda: np.asarray(there), lambda: np.array(there),
                lambda: np.asarray(a=there), lambda: np.array([there, there]), lambda: np.insert(there, 0, 1.0),
                lambda: np.add.accumulate(there)):
        with pytest.raises((TypeError, NotImplementedError)):
            ask()
    assert np.add.reduce(there).sum() == 6 and there.max() == 1 and there.all() and np.isfinite(there).all()
    assert type(np.array(there, subok=False)) is np.ndarray
    assert isinstance(np.asarray(np.ones(2), like=there), simulator.DeviceArray)


@pytest.mark.parametrize("order, mode, clip", [("first", "off", 1.0), ("second", "window", 1e-9),
                                               ("second", "online", 1e9)])
def test_what_the_host_waits_for(cuda, monkeypatch, order, mode, clip):
    """Two copies a batch: before alpha moves, and before w does, with all that the metrics want; no single numbers."""
    case = random_case(20, (("supernet", 6, (2, 3)),), B=2, T=5, density=0.5, R="fixed", tau="fixed")
    network = case.network(cuda)
    learner = search.Learner(case.parameters(), Adam(), Adam()).to(cuda.to_device)
    batch = cuda.loader(case.events())[np.arange(2)]
    settings = dataclasses.replace(load("ntidigits").search, alpha_order=order)
    copies, real = [], module.to_host
    monkeypatch.setattr(module, "to_host", lambda array: copies.append(1) or real(array))
    simulator.DeviceArray.waited()
    step = search.StepSettings(1e-3, clip, Plasticity(**SETTINGS), mode)
    result = search.search_step(network, learner, batch, batch, settings, step)
    assert len(copies) == 2 and simulator.DeviceArray.waited() == 0
    assert np.isfinite([result.outcome.loss, result.valid.loss, result.norm, *result.layer_norms]).all()
    assert len(result.layer_norms) == len(network.layers)
    assert all(type(x) is np.ndarray for x in (result.outcome.predicted, result.valid.scores))
    result = search.weight_step(network, learner, batch, step)
    assert len(result.outcome.rates) == 2 and len(copies) == 3 and simulator.DeviceArray.waited() == 0
    learner = search.Learner(case.parameters(), Adam(), Adam()).to(cuda.to_device)
    search.weight_step(network, learner, batch, step._replace(mode="off", trains=("R", "tau")))
    assert len(copies) == 4 and simulator.DeviceArray.waited() == 0
