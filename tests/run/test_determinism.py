"""What must not matter: company in the batch, order, threads, history. And shapes at the edge of what there is."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np
import pytest
from dense import TAU_S, TOLERANCE, assert_close, assert_same_bits, flat, random_case

from hrmas_sparse.engine.backends.cpu.backend import CpuBackend
from hrmas_sparse.engine.backends.cpu import blocks
from hrmas_sparse.engine.losses import PscLoss
from hrmas_sparse.engine.network import Plasticity

STACK = (("supernet", 12, (2, 3)), ("motif", 9, 3), ("feedforward", 7))
PLASTICITY = Plasticity(tau_cal=16.0, gamma=2.0, mu=0.2)
WAYS = {"fixed": {}, "online": {"plasticity": PLASTICITY}}


def draw(rng, values):
    return values[rng.integers(len(values))]


def random_stack(rng, most=9):
    """Zero to three hidden layers, some of one neuron."""
    found = []
    for _ in range(rng.integers(4)):
        kind, N = draw(rng, ["feedforward", "free", "motif", "supernet"]), int(rng.integers(1, most + 1))
        divisors = [v for v in range(1, N + 1) if N % v == 0]
        inter, tied = bool(rng.integers(2)), bool(rng.integers(2))
        if kind == "motif":
            found.append((kind, N, draw(rng, divisors), inter, tied))
        elif kind == "supernet":
            sizes = tuple(int(v) for v in rng.permutation(divisors)[:rng.integers(1, 4)])
            found.append((kind, N, sizes, inter, tied))
        else:
            found.append((kind, N))
    return tuple(found)


# ---- odd shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(80))
def test_odd_shapes(backend, seed, dtype):
    rng = np.random.default_rng(seed)
    case = random_case(
        100 + seed, random_stack(rng), B=draw(rng, [1, 2, 15, 16, 17, 31, 32, 33, 50]), T=draw(rng, [1, 2, 3, 7, 12]),
        C=draw(rng, [1, 2, 5, 8]), O=draw(rng, [1, 2, 5]), R=draw(rng, ["neuron", "step", "sample"]),
        tau=draw(rng, ["neuron", "step", "sample"]), real=bool(rng.integers(2)), density=draw(rng, [0.05, 0.3, 1.0]),
        loss=draw(rng, ["psc", "cross_entropy"]), period=draw(rng, [1, 2, 3]), slope_cap=draw(rng, [1.0, 8.0]))
    case.check(backend, dtype, busy=False)


@pytest.mark.parametrize("B", [1, 16, 17])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_spike_at_all(backend, B, dtype):
    case = random_case(1, STACK, B=B, T=6, density=0.0)
    assert case.events().value.size == 0
    found, _ = case.check(backend, dtype, busy=False)
    assert found.rates == [0, 0, 0, 0] and not any(x.any() for _, x in found.gradients.items())


@pytest.mark.parametrize("B", [1, 16, 17])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_neuron_at_every_step(backend, B, dtype):
    case = random_case(2, STACK, B=B, T=6, density=1.0, real=False)
    for layer in case.layers:
        layer["W_in"], layer["v_th"] = 50 + np.abs(layer["W_in"]), 1e-3
    found, _ = case.check(backend, dtype)
    assert found.rates == [1, 1, 1, 1]


def test_samples_without_events(backend):
    case = random_case(3, STACK, B=20, T=8)
    case.X[[0, 7, 15, 16, 19]] = 0
    found, _ = case.check(backend)
    assert not found.records[0]["spikes"][[0, 7, 15, 16, 19]].any()


def test_every_branch_of_the_rule_is_met(backend):
    """Or comparing gradients would compare one: silent lately or not, spike or none, slope capped or not."""
    case = random_case(4, STACK, B=20)
    met = np.zeros(4, int)
    for tape, layer in zip(case.reference()["tapes"], case.layers):
        before = np.concatenate([np.zeros_like(tape["u"][:, :1]), tape["u"][:, :-1]], axis=1)
        silent, spike, capped = tape["a"] < 0.25, tape["s"] == 1, tape["v"] - before < layer["v_th"] / 8
        met += [part.sum() for part in (silent, ~silent & ~spike, spike & capped, spike & ~capped)]
    assert (met > 3).all(), met
    case.check(backend)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("span", [1, 2, 3, 7, 9, 10])
def test_steps_taken_a_few_at_a_time(monkeypatch, span, dtype):
    """The CPU takes steps in spans; here short recordings do so, with R and tau of every shape."""
    stack, shapes = (("motif", 9, 3), ("free", 8)), ["neuron", "step", "sample"]
    cases = [random_case(8, stack, B=18, T=10, C=12, R=R, tau=tau, density=density, smooth=smooth)
             for R in shapes for tau in shapes for density in (0.05, 0.8) for smooth in (False, dtype == "float64")]
    plain, all_expected = [case.run(CpuBackend(1), dtype) for case in cases], everything(CpuBackend(1), dtype)
    assert blocks.span_of(100) < 100
    monkeypatch.setattr(blocks, "SPAN", span)
    for case, expected in zip(cases, plain):
        found = case.run(CpuBackend(1), dtype)
        assert_same_bits([found.records, found.loss], [expected.records, expected.loss])
        assert_close(found.gradients, expected.gradients, TOLERANCE[dtype])
    for one, other in zip(everything(CpuBackend(1), dtype), all_expected):
        assert_same_bits([one["records"], one["intrinsic"]], [other["records"], other["intrinsic"]])
        assert_close(one["gradients"] or {}, other["gradients"] or {}, TOLERANCE[dtype])


# ---- company and order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("density", [0.03, 0.3125, 0.9])
@pytest.mark.parametrize("real", [False, True], ids=["binary", "real"])
def test_a_sample_is_the_same_alone_and_in_any_batch(backend, dtype, way, density, real):
    """Also where the samples' densities differ, so that company decides how a backend multiplies."""
    case = random_case(5, STACK, B=35, T=9, C=12, R="fixed", tau="fixed", density=density, real=real)
    network, parameters = case.network(backend, dtype), case.parameters(dtype)
    batch = case.events()

    def run(index):
        found = network.gradients(parameters, batch[index], record=True, **WAYS[way])
        return [{key: np.moveaxis(x, 1, 0) if key == "trajectory" else x for key, x in record.items()}
                for record in found.records], found

    records, whole = run(np.arange(35))
    total, losses = {name: 0.0 for name in parameters.trained().flatten()}, 0.0
    for i in range(35):
        alone, found = run([i])
        assert_same_bits(alone, [{key: x[i:i + 1] for key, x in record.items()} for record in records])
        assert found.predicted[0] == whole.predicted[i]
        total = {name: total[name] + x.astype(float) / 35 for name, x in found.gradients.flatten().items()}
        losses += found.loss / 35
    assert_close(total, whole.gradients, TOLERANCE[dtype])
    assert losses == pytest.approx(whole.loss, rel=1e-12)

    order = np.random.default_rng(0).permutation(35)
    permuted, found = run(order)
    assert_same_bits(permuted, [{key: x[order] for key, x in record.items()} for record in records])
    assert_same_bits(found.predicted, whole.predicted[order])
    assert_close(found.gradients, whole.gradients, TOLERANCE[dtype])
    assert found.loss == pytest.approx(whole.loss, rel=1e-12)

    doubled, _ = run([3, 3, 20, 3])
    assert_same_bits(doubled, [{key: x[[3, 3, 20, 3]] for key, x in record.items()} for record in records])


# ---- threads, repetition, history -----------------------------------------------------------------------------


def everything(backend, dtype, seed=6, B=70):
    """All numbers of one case, with and without plasticity; 70 samples are five chunks."""
    case = random_case(seed, STACK, B=B, T=10, R="fixed", tau="fixed")
    outcomes = [case.run(backend, dtype, **options) for options in WAYS.values()]
    outcomes.append(case.run(backend, dtype, "adapt", plasticity=PLASTICITY))
    names = ("loss", "predicted", "gradients", "intrinsic", "records", "rates")
    return [{name: getattr(outcome, name) for name in names} for outcome in outcomes]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_threads_do_not_matter(dtype):
    expected = everything(CpuBackend(threads=1), dtype)
    for threads in (2, 3, 7):
        backend = CpuBackend(threads)
        for _ in range(3):
            assert_same_bits(everything(backend, dtype), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_history_does_not_matter(threads):
    """Big, small, other type, other network, failed and big again on one backend: as on fresh ones."""
    used = CpuBackend(threads)
    calls = [("float64", 6, 70), ("float64", 7, 2), ("float32", 6, 70), ("float64", 8, 17), ("float64", 6, 70)]
    for dtype, seed, B in calls:
        assert_same_bits(everything(used, dtype, seed, B), everything(CpuBackend(threads), dtype, seed, B))
        for other in ((("free", 30),), (("motif", 12, 4, False), ("free", 9), ("free", 7))):
            random_case(9, other, B=20, T=15, C=9, density=1.0).run(used, dtype)
        random_case(9, STACK, B=20, T=10, smooth=True).run(used)
        broken = random_case(seed, STACK, B=16 * threads, T=10, R="fixed", tau="fixed")
        for layer in broken.layers:                            # NaN left in every buffer, lane for lane
            layer["W_in"] = np.full_like(layer["W_in"], np.nan)
        for options in WAYS.values():
            assert np.isnan(broken.run(used, dtype, **options).gradients.layers[0].w).any()


def test_a_loss_that_fails_leaves_nothing_behind():
    used = CpuBackend(threads=2)
    case = random_case(6, STACK, B=70, T=10)
    network = case.network(used)

    def fails(psc, labels):
        raise RuntimeError("this loss fails")

    network.stack = dataclasses.replace(network.stack, loss=fails)
    with pytest.raises(RuntimeError, match="this loss fails"):
        network.gradients(case.parameters(), case.events())
    assert_same_bits(everything(used, "float64"), everything(CpuBackend(2), "float64"))


def fingerprint():
    """SHA-256 of everything, in both types, with the threads the environment asks for."""
    digest = hashlib.sha256()
    for dtype in ("float64", "float32"):
        for name, x in flat(everything(CpuBackend(), dtype)).items():
            digest.update(f"{name} {x.dtype} {x.shape}".encode() + x.tobytes())
    return digest.hexdigest()


def test_environment_does_not_matter():
    expected = fingerprint()
    for numba, blas in ((1, 1), (1, 2), (2, 1), (2, 2)):
        environment = {**os.environ, "NUMBA_NUM_THREADS": str(numba), "OPENBLAS_NUM_THREADS": str(blas),
                       "PYTHONPATH": str(Path(__file__).parents[1])}
        program = "import test_determinism as t; print(t.CpuBackend().threads, t.fingerprint())"
        out = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, env=environment, check=True,
                             capture_output=True, text=True).stdout
        assert out.split() == [str(numba), expected]


# ---- the reference itself is fit for these comparisons ----------------------------------------------------------


def test_the_cases_are_alive():
    """A comparison of silent networks would show nothing."""
    tapes = naive.network_forward(*(lambda case: (case.X, case.plain()))(random_case(6, STACK, B=70, T=10)), 8.0)
    assert all(0.02 < tape["s"].mean() < 0.98 for tape in tapes)


def test_a_chunk_that_fails_stops_the_others():
    """Chunks wait for their turn to add; a failed one never comes to an end of its own."""
    case = random_case(77, (("motif", 9, 3),), B=100)
    case.Y[:], case.Y[32:48] = 0, 1
    network = case.network(CpuBackend(threads=3))

    def loss(psc, labels):
        if labels.any():
            raise ArithmeticError("a chunk's own mistake")
        return PscLoss()(psc, labels, TAU_S)

    network.stack = dataclasses.replace(network.stack, loss=loss)
    with pytest.raises(ArithmeticError, match="a chunk's own mistake"):
        network.gradients(case.parameters(), case.events())
