"""Output neurons that integrate: against naive.py, against finite differences, and what is refused."""

import numpy as np
import pytest
from dense import assert_same_bits, random_case

import hrmas_sparse as hs
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.layers import Integrator

STACKS = {
    "feedforward": (("feedforward", 7),),
    "free": (("free", 8),),
    "supernet": (("supernet", 12, (2, 3)),),
    "two layers": (("motif", 12, 3), ("feedforward", 5)),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("windows", [1, 3, 20, 31])
def test_against_the_reference(backend, stack, windows):
    """Windows of one and of different lengths, and more of them than steps."""
    random_case(1, STACKS[stack], B=3, T=20, windows=windows).check(backend)


@pytest.mark.parametrize("B", [1, 16, 17, 33])
def test_batches_of_any_size(backend, B):
    random_case(2, (("free", 6),), B=B, T=15, windows=4, density=0.3).check(backend)


@pytest.mark.parametrize("T", [1, 2, 33])
def test_samples_of_any_length(backend, T):
    random_case(3, (("free", 6),), T=T, windows=2, density=0.9).check(backend, busy=False)


def test_single_precision(backend):
    random_case(4, STACKS["supernet"], windows=5).check(backend, "float32")


def test_silent_samples(backend):
    case = random_case(5, STACKS["free"], windows=3)
    case.X[:] = 0
    found, _ = case.check(backend, busy=False)
    assert not found.scores.any() and found.rates == [0, 0]


def test_trajectories_of_R_and_tau(backend):
    random_case(6, STACKS["free"], R="step", tau="sample", windows=3).check(backend)


@pytest.mark.parametrize("stack", STACKS)
def test_smooth_gradients_are_the_derivative(backend, stack):
    case = random_case(7, STACKS[stack], windows=4, smooth=True)
    case.check(backend)
    network, params, events = case.network(backend), case.parameters(), case.events()
    gradients, rng = network.gradients(params, events).gradients, np.random.default_rng(0)
    for (n, name), gradient in gradients.items():
        direction, h = rng.normal(size=gradient.shape), 1e-5

        def moved(step, n=n, name=name, direction=direction):
            other = params.copy()
            other.layers[n][name] += step * direction
            return network.loss(other, events)

        slope = (moved(h) - moved(-h)) / (2 * h)
        assert abs(slope - (gradient * direction).sum()) <= 1e-7 * max(1e-3, abs(slope)), name


def test_threads_do_not_change_a_bit():
    case = random_case(8, STACKS["supernet"], B=50, T=25, windows=5)
    one, four = (case.run(get_backend("cpu", threads), "float32") for threads in (1, 4))
    assert_same_bits([one.gradients, one.scores], [four.gradients, four.scores])


@pytest.mark.parametrize("options, said", [
    (dict(readout=Integrator(), loss="psc"), "loss: expected cross_entropy"),
    (dict(readout=5), "readout: expected hrmas_sparse.Integrator"),
    (dict(readout=Integrator(), hidden=[]), "expected hrmas_sparse.Integrator above at least one hidden layer"),
])
def test_refusals(options, said):
    with pytest.raises(hs.InputError, match=said):
        hs.Network(**{"channels": 3, "classes": 2, "hidden": [hs.Feedforward(4)], "loss": "cross_entropy", **options})


@pytest.mark.parametrize("windows", [0, -1, 2.5, True, "x", 10**9])
def test_bad_windows(windows):
    with pytest.raises(hs.InputError, match="readout: windows: expected"):
        Integrator(windows)
