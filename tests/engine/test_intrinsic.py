"""Gradients of hidden neurons' own R and tau: against naive_neuron.py, against finite differences, and their bits."""

import numpy as np
import pytest
from dense import TOLERANCE, assert_close, assert_same_bits, random_case
from naive_neuron import LOG_R, LOG_TAU, gradients

import hrmas_sparse as hs
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.network import Plasticity
from hrmas_sparse.gradcheck.problems import central_differences

OWN = dict(R="neuron", tau="neuron")
STACKS = {
    "feedforward": (("feedforward", 7),),
    "free": (("free", 8),),
    "supernet": (("supernet", 12, (2, 3)),),
    "two layers": (("motif", 12, 3), ("feedforward", 5)),
}


def expected(case):
    """naive's gradients of every hidden layer's R and tau, by the names of files."""
    found, wanted = case.reference(), {}
    for n, layer in enumerate(case.layers[:-1], start=1):
        own = gradients(found["tapes"][n - 1], found["delta"][n - 1], layer["tau"])
        wanted |= {f"R{n}": own[LOG_R] / len(case.X), f"tau{n}": own[LOG_TAU] / len(case.X)}
    return wanted


def check(case, backend, dtype="float64"):
    """Gradients of R and tau are naive's, and those of all else what they are when nobody asks; returns them all."""
    network, params, events = case.network(backend, dtype), case.parameters(dtype), case.events()
    found, plain = (network.gradients(params, events, intrinsic=wanted).gradients for wanted in (True, False))
    assert_close(found.intrinsic(), expected(case), TOLERANCE[dtype])
    assert_same_bits([found.trained()], [plain])
    assert all(x.dtype == dtype and (x != 0).any() for _, x in found.intrinsic().items())
    return found


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rule", ["tssl-bp", "surrogate"])
def test_against_the_reference(backend, stack, rule):
    check(random_case(40, STACKS[stack], rule=rule, **OWN), backend)


@pytest.mark.parametrize("B", [1, 16, 17, 33])
def test_batches_of_any_size(backend, B):
    check(random_case(41, (("free", 6),), B=B, T=15, density=0.3, **OWN), backend)


@pytest.mark.parametrize("density, T", [(0.03, 33), (0.9, 2), (0.9, 1)])
def test_samples_of_any_length_and_input(backend, density, T):
    check(random_case(42, STACKS["two layers"], B=4, T=T, C=30, density=density, **OWN), backend)


def test_single_precision_and_integrators(backend):
    check(random_case(43, STACKS["two layers"], **OWN), backend, "float32")
    check(random_case(44, STACKS["free"], windows=3, **OWN), backend)


@pytest.mark.parametrize("stack", STACKS)
def test_smooth_gradients_are_the_derivative(backend, stack):
    case = random_case(45, STACKS[stack], B=3, T=12, smooth=True, **OWN)
    found = check(case, backend)
    network, params, events = case.network(backend), case.parameters(), case.events()
    for (n, name), gradient in found.intrinsic().items():
        value = params.layers[n][name]
        slope = value * central_differences(lambda: network.loss(params, events), value, 1e-3)
        assert abs(gradient - slope).max() <= 1e-7 * abs(slope).max(), (n, name)


def test_threads_do_not_change_a_bit():
    """Of a batch of several chunks, in float32."""
    case = random_case(46, STACKS["two layers"], B=50, T=25, **OWN)
    one, four = (case.network(get_backend("cpu", threads), "float32").gradients(
        case.parameters("float32"), case.events(), intrinsic=True).gradients for threads in (1, 4))
    assert_same_bits([one], [four])


def test_records_and_gradients_of_recurrent_weights_alone(backend):
    case = random_case(47, STACKS["free"], **OWN)
    network, params, events = case.network(backend), case.parameters(), case.events()
    whole = network.gradients(params, events, record=True, intrinsic=True)
    np.testing.assert_array_equal(whole.records[0]["delta"], network.gradients(params, events, record=True).records[0][
        "delta"])
    part, = network.passes([params], events, backward=True, feedforward=False, intrinsic=True)
    assert part.gradients.flatten().keys() == {"rec1.w_rec", "R1", "tau1"}
    assert_same_bits([part.gradients.intrinsic()], [whole.gradients.intrinsic()])


def test_refusals(backend):
    case = random_case(48, STACKS["free"], R="neuron", tau="step")
    given = case.network(backend), case.parameters(), case.events()
    with pytest.raises(hs.InputError, match=r"intrinsic: expected False where layer 0, tau, is a trajectory \(20, 8\)"):
        hs.Network.gradients(*given, intrinsic=True)
    with pytest.raises(hs.InputError, match="intrinsic: expected False where plasticity moves R and tau"):
        hs.Network.gradients(*given, Plasticity(16.0, 0.02, 0.1), intrinsic=True)
    with pytest.raises(hs.InputError, match="parameters: expected hrmas_sparse.Parameters, found int"):
        given[0].gradients(5, given[2], intrinsic=True)
    given[1].layers[0].tau = given[1].layers[0].tau.tolist()
    with pytest.raises(hs.InputError, match="parameters: layer 0, tau: expected float64 .* found list"):
        given[0].gradients(*given[1:], intrinsic=True)
