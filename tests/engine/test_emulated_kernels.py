"""Every CUDA kernel as a GPU would get it, at its real block size, against the CPU backend and golden numbers.

Threads of a block take turns in three orders; memory is poisoned. Controls break the kernels on purpose: whatever is
broken must be seen. test_emulator.py starts these tests.
"""

import functools
import re
from pathlib import Path
from types import ModuleType

import conftest
import numpy as np
import pytest
from dense import assert_close, assert_same_bits
from emulator.emulator import ORDERS, RISING
from test_gpu import compare as compare_on_a_gpu

from hrmas_sparse.data.events import Events
from hrmas_sparse import doctor
from hrmas_sparse.engine import lockstep, selftest
from hrmas_sparse.engine.backends import cuda, get_backend
from hrmas_sparse.engine.backends.cuda import (
    Probe, batches, learning, losses, relaxation, smooth, step, synapses, verdict)
from hrmas_sparse.engine.backends.cuda.backend import CudaBackend
from hrmas_sparse.engine.layers import LIF, Dense, Feedforward, Integrator, Motifs, Supernet
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.gradcheck import golden
from hrmas_sparse.search.hrmas import Learner, StepSettings, weight_step
from hrmas_sparse.search.optim import Adam

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PLASTICITY = Plasticity(tau_cal=16.0, gamma=0.02, mu=0.1)
BARRIER = "cuda.syncthreads()"


@pytest.fixture
def emulator():
    made = conftest.EMULATOR
    made.order, made.divergent = RISING, 0
    made.launches.clear()
    yield made
    assert made.divergent == 0, "some threads of a block ended where others waited"


def batch(samples, steps, channels, classes, density, seed=0):
    rng = np.random.default_rng(seed)
    return Events.from_dense(rng.random((samples, steps, channels)) < density, rng.integers(0, classes, samples))


def network(hidden, backend, dtype="float64", channels=40, classes=7, **options):
    return Network(channels=channels, classes=classes, hidden=hidden, neuron=LIF(v_th=1, v_th_out=0.5),
                   backend=backend, dtype=dtype, **options)


def compare(emulator, hidden, samples=3, steps=40, density=0.1, dtype="float64", plasticity=None, orders=ORDERS,
            plain=True, intrinsic=False, **options):
    """Gradients of both backends, in all orders of threads; the CPU's, and how often its layers spiked.

    With everything recorded, and ``plain``, as in training, where the output layer has a kernel of its own.
    """
    events, found = batch(samples, steps, 40, 7, density), []
    reference = network(hidden, get_backend("cpu"), dtype, **options)
    params = reference.init(seed=1)
    expected = reference.gradients(params, events, plasticity, True, intrinsic)
    net = network(hidden, CudaBackend(), dtype, **options)
    for emulator.order in orders:
        found.append(net.gradients(params, events, plasticity, True, intrinsic))
        for out in [found[-1], *([net.gradients(params, events, plasticity, False, intrinsic)] if plain else [])]:
            assert_same_bits(*([x.loss, x.scores, x.rates, x.gradients] for x in (out, found[0])))
    for out in found:
        flips = sum(int((a != b).sum()) for a, b in zip(out.spikes, expected.spikes) if b is not None)
        assert flips == 0 and out.rates == expected.rates
        assert abs(out.loss / expected.loss - 1) < (1e-9 if dtype == "float64" else 1e-4)
        assert_close(out.gradients.flatten(), expected.gradients.flatten(), 1e-9 if dtype == "float64" else 1e-4)
    return expected


LONG = "many neurons a thread"
HIDDEN = {
    "motif": [Motifs(96, size=16, seed=0)],
    "odd": [Motifs(105, size=5, seed=1), Feedforward(33)],
    "two layers": [Motifs(64, size=16, seed=0), Motifs(48, size=4, inter=False, seed=2)],
    "supernet": [Supernet(40, sizes=(4, 5, 10))],
    "dense": [Dense(37)],
    "one neuron": [Dense(1)],
    "links too far for a byte": [Motifs(280, size=140, seed=0)],
    LONG: [Motifs(1600, size=16, seed=0)],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == LONG)) for name in HIDDEN])
def test_the_cpu_finds_the_same_whatever_the_order_of_threads(emulator, name):
    expected = compare(emulator, HIDDEN[name])
    assert all(rate > 0 for rate in expected.rates[:1]), "nothing spiked: nothing was tested"


def test_cross_entropy(emulator):
    compare(emulator, HIDDEN["motif"], loss="cross_entropy")


@pytest.mark.slow
def test_surrogate_gradient_through_time(emulator):
    compare(emulator, HIDDEN["motif"], rule="surrogate", orders=[RISING])
    assert [name for name, *_ in emulator.launches].count("output") == 1


def test_steps_that_train_R_and_tau(emulator):
    found, start = [], []
    for backend in (CudaBackend(), get_backend("cpu")):
        net = network(HIDDEN["odd"], backend)
        start.append(net.init(seed=1))
        learner = Learner(start[-1].copy(), Adam(), Adam()).to(backend.to_device)
        for n in range(2):
            weight_step(net, learner, batch(3, 40, 40, 7, 0.1, n), StepSettings(0.01, 1e-3, trains=("R", "tau")))
        found.append(learner.to(backend.to_host).parameters.flatten())
    assert_close(*found, 1e-9)
    assert all((found[0][name] != start[0].flatten()[name]).any() for name in ("R1", "tau1", "R2", "tau2", "w1"))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["tssl-bp", "surrogate"])
def test_gradients_of_R_and_tau(emulator, rule):
    expected = compare(emulator, HIDDEN["odd"], rule=rule, intrinsic=True, orders=[RISING])
    assert all((layer[name] != 0).any() for layer in expected.gradients.layers[:-1] for name in ("R", "tau"))


@pytest.mark.slow
@pytest.mark.parametrize("smooth", [False, True])
def test_gradients_of_R_and_tau_whatever_the_order_of_threads(emulator, smooth):
    """R and tau of two layers that all differ, and several networks in one pass."""
    rng, nets = np.random.default_rng(0), {}
    for name, backend in (("cpu", get_backend("cpu")), ("cuda", CudaBackend())):
        nets[name] = network([Motifs(64, size=16, seed=0), Feedforward(33)], backend, smooth=smooth)
    points = [nets["cpu"].init(seed=seed) for seed in range(2)]
    for params in points:
        for layer in params.layers[:-1]:
            layer.R, layer.tau = (rng.uniform(10, 24, layer.R.shape) for _ in range(2))
    events, options = batch(3, 40, 40, 7, 0.2), dict(backward=True, intrinsic=True)
    expected, bits = nets["cpu"].passes(points, events, **options), []
    for emulator.order in ORDERS:
        bits.append([x.gradients.flatten() for x in nets["cuda"].passes(points, events, **options)])
        assert_same_bits(bits[-1], bits[0])
    for one, other in zip(bits[0], expected):
        assert_close(one, other.gradients.flatten(), 1e-9)


@pytest.mark.parametrize("windows", [1, 7])
def test_integrators(emulator, windows):
    compare(emulator, HIDDEN["odd"], readout=Integrator(windows), loss="cross_entropy")


@pytest.mark.parametrize("density", [0.02, 0.4], ids=["events", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_and_dense_input(emulator, density, dtype):
    compare(emulator, HIDDEN["motif"], density=density, dtype=dtype, orders=[RISING])


@pytest.mark.parametrize("density, options", [
    (0.02, {}), (0.4, {}), (0.02, dict(readout=Integrator(3), loss="cross_entropy"))],
    ids=["events", "dense", "integrators"])
def test_seeds_together_are_what_they_are_alone(emulator, density, options):
    def gradients(backend, seed):
        net = network([Motifs(96, size=16, seed=seed)], backend, "float32", **options)
        return net.gradients(net.init(seed=seed), batch(2, 33, 40, 7, density, seed))

    alone = [gradients(CudaBackend(), seed) for seed in range(3)]
    before = len(emulator.launches)
    found = lockstep.run(CudaBackend(), [functools.partial(gradients, seed=seed) for seed in range(3)])
    of_each = "select", "choose", "copy"    # their own weights of links, and those of all layers put together
    alone_and_not = [[name for name, *_ in some if name not in of_each]
                     for some in (emulator.launches[:before], emulator.launches[before:])]
    assert alone_and_not[0] == 3 * alone_and_not[1], "they ran one after another"
    for one, other in zip(found, alone):
        assert_same_bits([one.loss, one.gradients, one.rates], [other.loss, other.gradients, other.rates])


def test_plasticity_during_the_passes(emulator):
    compare(emulator, HIDDEN["motif"], plasticity=PLASTICITY)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tests_of_a_gpu_hold_here(emulator, dtype):
    compare_on_a_gpu(CudaBackend(), 400, dtype, steps=40, samples=4)


@pytest.mark.parametrize("name, plasticity", [("R", None), ("w", None), ("tau", PLASTICITY), ("R", PLASTICITY)])
def test_nan_stays(emulator, name, plasticity):
    """A bound taken with fmin or fmax, as a GPU has them, would swallow it, and a run that is lost would go on."""
    events, found = batch(2, 10, 40, 7, 0.2), []
    for backend in (get_backend("cpu"), CudaBackend()):
        net = network(HIDDEN["motif"], backend)
        params = net.init(seed=1)
        params.layers[0][name].reshape(-1)[5] = np.nan
        out = net.gradients(params, events, plasticity)
        assert np.isnan(out.gradients.layers[0].w[:, 5]).all(), backend.name
        found.append({key: np.isnan(x) for key, x in (out.intrinsic.flatten() if plasticity else {}).items()})
    assert_same_bits(*found)
    assert plasticity is None or found[0][f"{name}1"][5]


@pytest.mark.parametrize("stem", golden.KINDS)
def test_golden_numbers(emulator, stem):
    for dtype in ("float64", "float32") if stem in ("feedforward_published", "spikl_ip") else ("float64",):
        lines = golden._check(GOLDEN / f"{stem}.npz", dtype, CudaBackend())
        assert lines and all(line.ok for line in lines), [line for line in lines if not line.ok]


# ---- the self-test, the emulator as its device ------------------------------------------------------------------


@pytest.fixture
def device(monkeypatch, tmp_path, emulator):
    """A machine whose GPU is the emulator, and a user's cache; small cases."""
    found = Probe((12, 9), "the emulator", 80 << 30, (9, 0), "0.30", "14", "")
    for module in (cuda, doctor):
        monkeypatch.setattr(module, "probe", lambda: found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verdict, "_TESTED", {})
    monkeypatch.setattr(selftest, "CASES", {name: ((40, 80, 7, 2, 33) if case[0] == selftest.W1 else case[0], *case[1:])
                                            for name, case in selftest.CASES.items()})


def test_auto_takes_a_gpu_that_has_passed_the_self_test(device, emulator):
    assert "not passed the self-test yet" in get_backend("cuda").notice and get_backend("auto", 1).name == "cpu"
    lines, well = doctor.self_test()
    assert well and "the self-test is passed" in lines[0] and emulator.launches, lines
    taken = get_backend("auto")
    assert taken.name == "cuda" and taken.notice == "using the emulator, which has passed the self-test"
    assert get_backend("cuda").notice == ""


@pytest.mark.slow
def test_auto_does_not_take_a_gpu_that_fails(device, monkeypatch):
    broken(monkeypatch, *STEP, lambda source: source.replace("effect += returned(", "effect -= returned("))
    lines, well = doctor.self_test()
    assert not well and "a step of W1: the gradient of " in lines[1]
    assert any("golden numbers, recurrent_const: the gradient of " in line for line in lines)
    assert get_backend("auto", 1).name == "cpu" and "FAILS THE SELF-TEST" in get_backend("cuda").notice


# ---- controls: kernels that are broken on purpose --------------------------------------------------------------


def broken(monkeypatch, module, names, change):
    """Let a module's kernels be what a change makes of its source."""
    source = Path(module.__file__).read_text()
    text = change(source)
    assert text != source
    changed = ModuleType(module.__name__)
    changed.__file__ = module.__file__
    exec(compile(text, module.__file__, "exec"), vars(changed))
    for name in names:
        monkeypatch.setattr(module, name, getattr(changed, name))


def without_barrier(number):
    """A change that takes out one of the barriers."""
    def change(source):
        at = [match.start() for match in re.finditer(re.escape(BARRIER), source)][number]
        return source[:at] + "pass" + source[at + len(BARRIER):]
    return change


def fewer_buffers(*changes):
    """A change that lets a kernel have a buffer less than it needs."""
    def change(source):
        for old, new in changes:
            assert source.count(old) == 1
            source = source.replace(old, new)
        return source
    return change


STEP, LINKS = (step, ("forward", "backward")), (synapses, ("links_gradient",))
LOSSES = losses, ("of_psc", "of_cross_entropy", "judging")
WITH_BARRIERS = STEP, LINKS, LOSSES, (batches, ("scatter",))
CONTROLS = {f"barrier {n} of {module.__name__.split('.')[-1]}": (module, names, without_barrier(n))
            for module, names in WITH_BARRIERS for n in range(Path(module.__file__).read_text().count(BARRIER))} | {
    "two rows of bits": (*STEP, fewer_buffers(
        ("now, before, after = U(0), U(2 * words), words", "now, before, after = U(0), words, words"),
        ("now, before, after = after, now, before", "now, before, after = after, now, now"))),
    "one row of errors": (*STEP, fewer_buffers(("now, after = U(0), neurons", "now, after = U(0), U(0)"))),
    "one place for all parts": (*LINKS, fewer_buffers(
        ("shared[U(part * lanes + lane)]", "shared[lane]"), ("shared[U(U(n) * lanes + lane)]", "shared[lane]"))),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if module is losses else ())
                                  for name, (module, *_) in CONTROLS.items()])
def test_what_is_broken_is_seen(monkeypatch, name):
    emulator = conftest.EMULATOR
    broken(monkeypatch, *CONTROLS[name])
    emulator.divergent = 0
    for options in (dict(), dict(plasticity=PLASTICITY), dict(loss="cross_entropy")):
        try:
            compare(emulator, HIDDEN["motif"], steps=40, plain=CONTROLS[name][0] is losses, **options)
        except AssertionError:
            return
        if emulator.divergent:
            return
    pytest.fail("a broken kernel gave the right result in every order")


@pytest.mark.parametrize("barrier", [None, 0, 1])
def test_squares_with_and_without_their_barriers(monkeypatch, barrier):
    emulator, rng = conftest.EMULATOR, np.random.default_rng(0)
    if barrier is not None:
        broken(monkeypatch, learning, ("sum_squares",), without_barrier(barrier))
    gradients = Parameters([{"w": rng.standard_normal((90, 70))}, {"w": rng.standard_normal(7)}])
    right = []
    for emulator.order in ORDERS:
        found = learning.squares(gradients).sum(axis=1)
        right.append(np.allclose(found, [np.square(g).sum() for _, g in gradients.items()], rtol=1e-12, atol=0))
    assert all(right) == (barrier is None)


@pytest.mark.parametrize("barrier", [None, 0])
def test_the_gradient_of_sizes_with_and_without_its_barrier(monkeypatch, barrier):
    if barrier is not None:
        broken(monkeypatch, relaxation, ("pull_back_sizes",), without_barrier(barrier))
    events, right = batch(3, 20, 40, 7, 0.1), []
    cpu, here = (network(HIDDEN["supernet"], backend) for backend in (get_backend("cpu"), CudaBackend()))
    params = cpu.init(seed=1)
    expected = cpu.gradients(params, events).gradients.layers[0].alpha_size
    for conftest.EMULATOR.order in ORDERS:
        found = here.gradients(params, events).gradients.layers[0].alpha_size
        right.append(np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max())
    assert all(right) == (barrier is None)


@pytest.mark.parametrize("barrier", [None, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1))])
def test_the_smooth_variant_with_and_without_its_barriers(monkeypatch, barrier):
    if barrier is not None:
        broken(monkeypatch, smooth, ("forward", "backward"), without_barrier(barrier))
    events, right = batch(3, 20, 40, 7, 0.1), []
    cpu, here = (network(HIDDEN["motif"], backend, smooth=True) for backend in (get_backend("cpu"), CudaBackend()))
    params = cpu.init(seed=1)
    expected = cpu.gradients(params, events).gradients.flatten()
    for conftest.EMULATOR.order in ORDERS:
        found = here.gradients(params, events).gradients.flatten()
        right.append(all(np.abs(found[name] - x).max() <= 1e-9 * np.abs(x).max() for name, x in expected.items()))
    assert all(right) == (barrier is None)


@pytest.mark.slow
def test_what_is_whole_is_not_seen(emulator, monkeypatch):
    for module, names in WITH_BARRIERS:
        broken(monkeypatch, module, names, lambda source: source + "\n# as it was\n")
    for plasticity in (None, PLASTICITY):
        compare(emulator, HIDDEN["motif"], plasticity=plasticity)


# ---- more of the same, for the slow tests ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [
    [Motifs(800, size=16, seed=0)], [Motifs(3200, size=16, seed=0)], [Motifs(12800, size=16, seed=0)],
    [Supernet(800, sizes=(5, 10, 16, 25, 40))], [Motifs(400, size=16, seed=0), Motifs(400, size=25, seed=1)],
], ids=["800", "3200", "12800", "supernet", "two layers"])
def test_large_layers(emulator, hidden, dtype):
    orders = ORDERS if hidden[0].neurons < 12800 else [RISING]
    compare(emulator, hidden, samples=2, steps=35, dtype=dtype, orders=orders)


@pytest.mark.slow
def test_plasticity_in_a_large_layer(emulator):
    compare(emulator, [Motifs(3200, size=16, seed=0)], samples=2, steps=35, plasticity=PLASTICITY)
