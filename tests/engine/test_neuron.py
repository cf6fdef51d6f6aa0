"""The scalar formulas, as written and as the CPU backend compiles them, and the fast exponentials around them."""

import ast
import inspect
import math
import warnings
from pathlib import Path

import naive
import numpy as np
import pytest
from dense import TAU_M, TAU_S
from numba import from_dtype, njit

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends.cpu import compile as compiled

TYPES = (np.float32, np.float64)
CAP, WIDTH, V_TH = 8.0, 0.2, 9.5
SETTINGS = dict(tau_cal=16.0, gamma=2.0, mu=0.2)
FORMULAS = ("filtered", "membrane", "fires", "after_reset", "timing_error", "surrogate_error", "smooth_error",
            "calcium", "plastic_resistance", "plastic_time_constant", "through_time_error", "by_resistance",
            "by_time_constant")


def constants(real=np.float64, v_th=V_TH):
    return neuron.constants(real, TAU_S, v_th, CAP, WIDTH)


def plastic(real=np.float64, **settings):
    s = {**SETTINGS, **settings}
    return neuron.plasticity_constants(real, TAU_M, s["tau_cal"], V_TH, s["gamma"], s["mu"])


@njit
def each_slope(x):
    return np.array([compiled.logistic_slope(value) for value in x])


@njit
def each_expm1(x):
    return np.array([compiled.expm1_small(value) for value in x])


# ---- every formula: the type it computes in, the same compiled as written ---------------------------


@pytest.mark.parametrize("real", TYPES)
def test_constants(real):
    for found in (constants(real), plastic(real)):
        assert all(type(x) is real for x in found)
    k, p = constants(real), plastic(real)
    assert (k.zero, k.one, k.decay_s, k.v_th) == (0, 1, 0.875, 9.5)
    assert k.cap == real(8 / 9.5) and k.inv_width == real(1 / (0.2 * 9.5))
    assert (p.low, p.high, p.decay_cal, p.drift) == (8, 128, 0.9375, real(0.2))


def test_all_formulas_are_here():
    public = [name for name, x in inspect.getmembers(neuron, inspect.isfunction)
              if x.__module__ == neuron.__name__ and not name.endswith("constants")]
    assert sorted(public) == sorted(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("real", TYPES)
def test_compiled_as_written_in_the_runs_type(name, real):
    """No formula promotes float32 work to float64, compiled or not, and both give the same but for a fused step."""
    formula, kernel = getattr(neuron, name), getattr(compiled, name)
    rng = np.random.default_rng(FORMULAS.index(name))
    tuples = {"k": constants(real), "p": plastic(real)}
    wanted = inspect.signature(formula).parameters
    for _ in range(200):
        given = [tuples.get(parameter, real(rng.uniform(0.1, 20))) for parameter in wanted]
        found, expected = kernel(*given), formula(*given)
        if name == "fires":
            assert found == expected
            continue
        assert type(expected) is real
        assert found == pytest.approx(expected, rel=2e-5 if real is np.float32 else 1e-12, abs=1e-4)
    returned = {str(s.return_type) for s in kernel.nopython_signatures if s.args[-1] == from_dtype(np.dtype(real))}
    assert returned == {"bool" if name == "fires" else np.dtype(real).name}


# ---- forward ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("v_th", [8.0, 0.1, 1e-3, 77.7])
def test_fires_above_the_threshold_only(real, v_th):
    k = constants(real, v_th)
    for fires in (neuron.fires, compiled.fires):
        assert not fires(k, k.v_th)
        assert fires(k, np.nextafter(k.v_th, real(np.inf)))
        assert not fires(k, real(np.nan)) and not fires(k, real(-np.inf)) and fires(k, real(np.inf))


@pytest.mark.parametrize("real", TYPES)
def test_below_silent_is_the_last_number_under_a_quarter(real):
    k = constants(real)
    assert k.below_silent < real(0.25) and np.nextafter(k.below_silent, real(1)) == real(0.25)


def test_forward_by_hand():
    k = constants()
    assert neuron.filtered(k, 8.0, 1.0) == 8.0
    assert neuron.membrane(k, 1 / 16, 1.5, 8.0, 2.0) == 7.5 + 3.0
    assert neuron.after_reset(k, 12.0, 1.0) == 0.0 and neuron.after_reset(k, 5.0, 0.0) == 5.0


# ---- backward ----------------------------------------------------------------------------------------------


def test_through_time_by_hand():
    k = constants()
    of_the_spike = 2.0 * 0.25 / (0.2 * 9.5)
    assert neuron.through_time_error(k, 12.0, 2.0, 0.25, 1 / 16, 3.0) == pytest.approx(of_the_spike)
    assert neuron.through_time_error(k, 5.0, 2.0, 0.25, 1 / 16, 3.0) == pytest.approx(of_the_spike + 3.0 * 15 / 16)


def one_step(v_before, v, tau_next, smooth):
    """naive's p and f of delta0[t] = p A[t] + f delta0[t+1] for a single neuron with a step before."""
    potential = np.array([[[v_before], [v]]])
    spikes = naive.logistic((potential - V_TH) / (WIDTH * V_TH)) if smooth else (potential > V_TH).astype(float)
    tape = dict(v=potential, s=spikes, u=potential * (1 - spikes))
    p, f = naive.slope_and_carry(tape, 1, tau_next, V_TH, CAP, WIDTH, smooth)
    return p.item(), f.item(), tape["u"][0, 0, 0], spikes[0, 1, 0]


def test_timing_error():
    rng, branches = np.random.default_rng(0), set()
    for _ in range(500):
        v_before, v, tau_next = rng.uniform(-5, 14), rng.uniform(-5, 14), rng.uniform(2, 40)
        effect, later = rng.normal(size=2)
        p, f, u_before, spike = one_step(v_before, v, tau_next, smooth=False)
        found = neuron.timing_error(constants(), v, u_before, 1 / tau_next, effect, later)
        assert found == pytest.approx(p * effect + f * later, rel=1e-12, abs=1e-14)
        branches.add((bool(spike), v - u_before < V_TH / CAP))
    assert branches == {(True, True), (True, False), (False, True), (False, False)}


@pytest.mark.parametrize("compute", [neuron.timing_error, compiled.timing_error], ids=["written", "compiled"])
def test_timing_error_where_the_potential_did_not_move(compute):
    """1/dv meets zero for a neuron that does not spike: it must not reach the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)        # NumPy's own scalars warn of 1/0 outside kernels
        for real in TYPES:
            found = compute(constants(real), real(3), real(3), real(0.25), real(1), real(2))
            assert found == 1.5


def test_what_R_and_tau_do_by_hand():
    """v = u - u/tau + R c / tau, with u = 8, tau = 16 and R c = 24."""
    k, v = constants(), 8 - 0.5 + 1.5
    assert neuron.by_resistance(k, 1 / 16, 8.0, v, 2.0) == 2 * 1.5
    assert neuron.by_time_constant(8.0, v, 2.0) == 2 * (0.5 - 1.5)


def test_smooth_error():
    rng = np.random.default_rng(1)
    for _ in range(200):
        v, tau_next = rng.uniform(-5, 25), rng.uniform(2, 40)
        effect, later = rng.normal(size=2)
        p, f, _, spike = one_step(0.0, v, tau_next, smooth=True)
        found = neuron.smooth_error(constants(), v, spike, 1 / tau_next, effect, later)
        assert found == pytest.approx(p * effect + f * later, rel=1e-12, abs=1e-14)


def test_surrogate_error():
    """With the compiled slope: the logistic's derivative over h, its argument clipped."""
    k = constants()
    for v in np.linspace(-30, 40, 400):
        slope = compiled.logistic_slope((v - k.v_th) * k.inv_width)
        expected = 1.7 * naive.surrogate(np.array([v]), V_TH, WIDTH)[0]
        assert neuron.surrogate_error(k, 1.7, slope) == pytest.approx(expected, rel=1e-12)


# ---- SpiKL-IP --------------------------------------------------------------------------------------------------


def step(p, R, tau, y):
    """Both updates from the old values, as the kernel composes them."""
    excess = V_TH / math.expm1(1 / max(tau * y, 0.64))
    return neuron.plastic_resistance(p, R, tau, y, excess), neuron.plastic_time_constant(p, tau, y)


@pytest.mark.parametrize("settings", [dict(), dict(gamma=0.02, mu=0.1), dict(gamma=300.0), dict(mu=0.9)], ids=str)
def test_plastic_step(settings):
    p, s = plastic(**settings), {**SETTINGS, **settings}
    rng = np.random.default_rng(2)
    for _ in range(1000):
        R, tau = rng.uniform(8, 128, 2)
        y = rng.uniform(0, 1) ** 2
        expected = naive.spikl_ip_update(R, tau, y, V_TH, TAU_M, s["gamma"], s["mu"])
        assert step(p, R, tau, y) == pytest.approx(expected, rel=1e-12)


def test_plastic_step_at_the_floor():
    """y tau = 0.64 exactly still counts as nearly silent; the next number does not."""
    p = plastic()
    y = 0.64 / 16
    assert y * 16 == 0.64
    assert step(p, 20.0, 16.0, y) == (20.0 + p.drift, 16.0 - p.drift)
    above = step(p, 20.0, 16.0, np.nextafter(y, 1))
    assert above == pytest.approx(naive.spikl_ip_update(20.0, 16.0, np.nextafter(y, 1), V_TH, TAU_M, 2.0, 0.2))
    assert above[0] != 20.0 + p.drift and above[1] != 16.0 - p.drift


@pytest.mark.parametrize("real", TYPES)
def test_plastic_bounds(real):
    """[1/2, 8] times tau_m, reached exactly from either side and left again."""
    p, silent, busy = plastic(real), real(0), real(1)
    excess = real(V_TH / math.expm1(1 / (8 * 0.9)))
    assert neuron.plastic_resistance(p, real(127.9), real(10), silent, excess) == 128
    assert neuron.plastic_time_constant(p, real(8.1), silent) == 8
    assert neuron.plastic_time_constant(p, real(127.99), busy) == 128
    wild = plastic(real, gamma=1e6)
    assert neuron.plastic_resistance(wild, real(20), real(16), busy, excess) in (8, 128)
    assert neuron.plastic_time_constant(wild, real(20), real(0.1)) == 8
    assert neuron.plastic_time_constant(p, real(8), busy) > 8
    assert neuron.plastic_time_constant(p, real(128), silent) < 128


# ---- exponentials -----------------------------------------------------------------------------------------------


def exact_slope(x):
    e = np.exp(-np.minimum(np.abs(np.asarray(x, np.longdouble)), 8))
    return e / (1 + e) ** 2


@pytest.mark.parametrize("real, tolerance", [(np.float32, 3e-6), (np.float64, 1e-15)])
def test_logistic_slope(real, tolerance):
    """Over its whole range, at its clip and far beyond, both signs."""
    x = np.concatenate([np.linspace(0, 8, 200_001), np.geomspace(1e-30, 8, 1000), np.linspace(8, 9, 1000),
                        [1e3, 1e30, np.inf]]).astype(real)
    found = each_slope(x)
    assert found.dtype == real
    assert np.abs(found / exact_slope(x) - 1).max() < tolerance
    np.testing.assert_array_equal(each_slope(-x), found)
    assert (found[x >= 8] == found[x == 8][0]).all() and found[0] == pytest.approx(0.25, rel=tolerance)


@pytest.mark.parametrize("real, tolerance", [(np.float32, 2.5e-7), (np.float64, 1e-15)])
def test_expm1_small(real, tolerance):
    """Over all SpiKL-IP asks for, 1/(tau y) from nearly 0 to 1/0.64."""
    x = np.concatenate([np.linspace(0, 1 / 0.64, 200_001), np.geomspace(1e-30, 1.6, 1000)])[1:].astype(real)
    found = each_expm1(x)
    assert found.dtype == real
    assert np.abs(found / np.expm1(x.astype(np.longdouble)) - 1).max() < tolerance
    assert each_expm1(np.zeros(1, real))[0] == 0


@pytest.mark.parametrize("real", TYPES)
def test_exponentials_pass_not_a_number_on(real):
    """It has to stop a run, so a clip may not turn it into a number."""
    nan = np.array([np.nan], real)
    assert np.isnan(each_slope(nan)).all() and np.isnan(each_expm1(nan)).all()


# ---- nothing is masked ----------------------------------------------------------------------------------------------


def test_what_is_no_number_survives_every_bound():
    """R, tau and the rate of a spike's time are bounded; a NaN among them must reach the loss or a checkpoint."""
    nan = float("nan")
    p, k = neuron.plasticity_constants("float64", TAU_M, 16.0, V_TH, 0.02, 0.1), constants()
    for y in (0.0, 0.5):
        assert np.isnan(neuron.plastic_resistance(p, nan, 16.0, y, 1.0))
        assert np.isnan(neuron.plastic_time_constant(p, nan, y))
    assert np.isnan(neuron.plastic_resistance(p, 16.0, 16.0, 0.5, nan))
    assert np.isnan(neuron.timing_error(k, 100.0, nan, 0.1, 1.0, 0.0))


@pytest.mark.parametrize("path", ["neuron.py", "backends/cuda/compile.py"])
def test_no_bound_is_a_min_or_max(path):
    """CUDA's take the other operand where one is NaN: max(nan, low) is low. The simulator does not know that."""
    tree = ast.parse((Path(neuron.__file__).parent / path).read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called and not called & {"min", "max"}
