"""The CUDA backend in the simulator, whole networks of odd sizes: against naive.py and the CPU backend.

The simulator runs one Python thread per CUDA thread, so everything here is tiny; test_simulator.py starts it.
"""

import numpy as np
import pytest
from conftest import SPARSE
from dense import assert_close, assert_same_bits, error, random_case
from test_intrinsic import check as check_own
from test_plasticity import SETTINGS, check_window, windows

from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.backends.cuda import chunks, launch, layer
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.engine.network import Plasticity
from runs.bench.launches import recorded as recorded_launches

TINY = dict(B=2, T=6, density=0.4)
STACKS = {
    "output only": (),
    "feedforward": (("feedforward", 5),),
    "free": (("free", 7),),
    "motif without inter": (("motif", 6, 3, False),),
    "supernet": (("supernet", 6, (2, 3)),),
    "feedforward, supernet, motif": (("feedforward", 5), ("supernet", 6, (3, 2), True, False), ("motif", 6, 2)),
}


@pytest.mark.parametrize("stack", STACKS)
def test_stacks(cuda, stack):
    random_case(1, STACKS[stack], **TINY).check(cuda, busy=False)


@pytest.mark.parametrize("stack", ["free", "feedforward, supernet, motif"])
def test_float32(cuda, stack):
    random_case(2, STACKS[stack], **TINY).check(cuda, "float32", busy=False)


@pytest.mark.parametrize("settings", [dict(period=2), dict(loss="cross_entropy", scale=0.3)], ids=["psc", "entropy"])
@pytest.mark.parametrize("stack", ["output only", "feedforward, supernet, motif"])
def test_an_output_layer_of_which_nothing_is_recorded(cuda, stack, settings):
    """Forward, loss and back are one launch then, and give what four give."""
    case = random_case(13, STACKS[stack], **TINY, **settings)
    recorded, _ = case.check(cuda, busy=False)
    net, given = case.network(cuda), (case.parameters(), case.events())
    with recorded_launches() as launches:
        found = net.gradients(*given)
    names = [launch.name for launch in launches]
    assert names.count("output") == 1 and "judging" not in names and "filter_back" not in names
    assert_same_bits([found.loss, found.scores, found.rates, found.gradients],
                     [recorded.loss, recorded.scores, recorded.rates, recorded.gradients])
    assert any(x.any() for _, x in found.gradients.items())
    forward = net.evaluate(*given)
    assert_same_bits([forward.loss, forward.scores, forward.rates], [found.loss, found.scores, found.rates])


def test_surrogate_gradient_through_time(cuda):
    for R, tau in (("neuron", "neuron"), ("step", "sample")):
        case = random_case(12, STACKS["feedforward, supernet, motif"], R=R, tau=tau, rule="surrogate", **TINY)
        case.check(cuda, busy=False)


@pytest.mark.parametrize("options", [{}, dict(rule="surrogate"), dict(smooth=True), dict(windows=2)], ids=str)
def test_gradients_of_R_and_tau(cuda, options):
    own = dict(R="neuron", tau="neuron", **options)
    check_own(random_case(14, STACKS["feedforward, supernet, motif"], **own, **TINY), cuda)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("windows", [1, 3])
def test_integrators(cuda, windows, smooth):
    case = random_case(9, STACKS["feedforward, supernet, motif"], windows=windows, smooth=smooth, **TINY)
    case.check(cuda, busy=False)


@pytest.mark.parametrize("real", [False, True], ids=["binary", "real"])
@pytest.mark.parametrize("density", [0.03, 0.6], ids=["events", "dense"])
def test_input_of_every_form(cuda, density, real):
    case = random_case(3, (("free", 5),), B=3, T=6, C=21, density=density, real=real)
    form = type(cuda.pack(case.events(), np.dtype("float64"))[0].spikes)
    assert form is (chunks.EventRows if density < SPARSE else chunks.Values)
    case.check(cuda, busy=False)


def test_counts_and_samples_without_events(cuda):
    case = random_case(4, (("motif", 6, 3),), B=3, T=5, C=30, density=0.06)
    case.X = np.ceil(2 * case.X)
    case.X[1] = 0
    assert case.X.max() > 1
    case.check(cuda, busy=False)
    case.X[:] = 0
    case.check(cuda, busy=False)


@pytest.mark.parametrize("R, tau", [("step", "neuron"), ("sample", "step"), ("neuron", "sample")])
def test_intrinsic_parameters_of_every_shape(cuda, R, tau):
    random_case(5, (("free", 5), ("motif", 4, 2)), R=R, tau=tau, **TINY).check(cuda, busy=False)


@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 65])
def test_words_of_spikes(cuda, T):
    """A spike is a bit of a word of 32 steps."""
    random_case(6, (("free", 3),), B=1, T=T, C=2, O=2, density=0.5).check(cuda, busy=False)


def test_more_neurons_than_bits_in_a_word(cuda, monkeypatch):
    """Forward, spikes of the step before are bits of words of 32 neurons."""
    monkeypatch.setattr(launch, "THREADS", 3)
    random_case(7, (("free", 67),), B=1, T=4, C=3, density=0.8).check(cuda)


def test_blocks_of_every_size_and_errors_outside_shared_memory(cuda, monkeypatch):
    """How neurons are dealt out to threads, and where they meet, changes no bit."""
    case = random_case(8, (("supernet", 10, (2, 5)), ("feedforward", 7)), B=2, T=6, density=0.5)
    found = []
    for threads, shared in ((1, 0), (1, 1 << 15), (3, 0), (3, 1 << 15), (16, 1 << 15)):
        monkeypatch.setattr(launch, "THREADS", threads)
        monkeypatch.setattr(launch, "TILE", threads)
        monkeypatch.setattr(launch, "SHARED", shared)
        outcome = case.run(cuda)
        found.append([outcome.loss, outcome.gradients, outcome.records])
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_chunks(cuda, monkeypatch):
    """A batch too large for one launch is cut; its gradients are the sum, each sample's numbers the same bits."""
    case = random_case(9, (("free", 6),), B=5, T=5, R="sample", tau="sample", density=0.4)
    whole = case.run(cuda)
    monkeypatch.setattr(cuda, "chunk", 2)
    assert len(cuda.pack(case.events(), np.dtype("float64"))) == 3
    parts, _ = case.check(cuda, busy=False)
    assert_same_bits(parts.records, whole.records)


def test_the_cpu_finds_the_same(cuda):
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):
        case = random_case(10, (("supernet", 8, (2, 4)), ("motif", 6, 3)), **TINY)
        one, other = case.run(cuda, dtype), case.run(get_backend("cpu", 1), dtype)
        assert_close(one.gradients, other.gradients, tolerance)
        assert_same_bits([one.predicted, [x["spikes"] for x in one.records]],
                         [other.predicted, [x["spikes"] for x in other.records]])
        assert one.rates == other.rates and abs(one.loss - other.loss) <= tolerance * other.loss


def test_the_same_bits_again_and_without_what_is_not_asked_for(cuda):
    case = random_case(11, (("supernet", 6, (2, 3)), ("feedforward", 4)), **TINY)
    network, parameters, full, again = case.network(cuda), case.parameters(), case.run(cuda), case.run(cuda)
    part, = network.passes([parameters], case.events(), backward=True, feedforward=False)
    assert_same_bits([full.loss, full.gradients, full.records], [again.loss, again.gradients, again.records])
    assert_same_bits(part.gradients, {key: x for key, x in full.gradients.flatten().items() if key.startswith("rec")})
    bare = network.gradients(parameters, case.events())
    assert bare.records is None
    assert_same_bits([bare.loss, bare.gradients, bare.rates], [full.loss, full.gradients, full.rates])
    scored = network.evaluate(parameters, case.events())
    assert scored.gradients is None and scored.loss == full.loss


@pytest.mark.parametrize("density", [0.03, 0.6], ids=["events", "dense"])
@pytest.mark.parametrize("shape", ["neuron", "sample"])
def test_several_networks_in_one_launch(cuda, density, shape, monkeypatch):
    case = random_case(16, (("supernet", 6, (2, 3)), ("feedforward", 4)), B=2, T=6, C=20, density=density, R=shape,
                       tau=shape)
    network, batch = case.network(cuda), case.events()
    rng = np.random.default_rng(17)
    points = [case.parameters().trained().map(lambda x: x + 0.1 * rng.normal(size=x.shape)) for _ in range(3)]
    points = [case.parameters().replaced(point) for point in points]
    alone = [network.gradients(point, batch).gradients for point in points]
    packed = []
    monkeypatch.setattr(cuda, "pack", lambda *given: packed.append(type(cuda).pack(cuda, *given)) or packed[-1])
    for found, expected in zip(network.passes(points, batch, backward=True), alone, strict=True):
        assert_close(found.gradients, expected, 1e-12)
    (chunk,), = packed
    assert len(chunk.labels) == 6
    monkeypatch.setattr(cuda, "together", 0)  # each by itself
    for found, expected in zip(network.passes(points, batch, backward=True), alone, strict=True):
        assert_same_bits(found.gradients, expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_plasticity_window(cuda, dtype):
    case = random_case(12, (("motif", 6, 3), ("free", 5)), B=3, T=7, R="fixed", tau="fixed", density=0.6)
    outcome = case.run(cuda, dtype, "adapt", plasticity=Plasticity(**SETTINGS))
    check_window(outcome, windows(case), case.parameters(dtype).intrinsic(), dtype)


def test_plasticity_online(cuda):
    case = random_case(13, (("supernet", 6, (2, 3)), ("feedforward", 4)), R="fixed", tau="fixed", **TINY)
    one, other = (case.run(b, plasticity=Plasticity(**SETTINGS)) for b in (cuda, get_backend("cpu", 1)))
    assert_close(one.gradients, other.gradients, 1e-12)
    assert_close(one.intrinsic, other.intrinsic, 1e-12)


def test_smooth_variant(cuda):
    for seed, stack in enumerate([(("free", 6),), (("supernet", 6, (2, 3)), ("feedforward", 5))]):
        random_case(seed, stack, R="step", tau="sample", smooth=True, **TINY).check(cuda)


def test_an_infinite_weight_is_not_masked(cuda):
    """Padding of short columns of links is never touched: only what follows from the infinite weight is not finite."""
    case = random_case(14, (("free", 6),), **TINY)
    network, parameters = case.network(cuda), case.parameters()
    parameters.layers[-1].w[:, 0] = np.nan
    outcome = network.gradients(parameters, case.events())
    assert not np.isfinite(outcome.gradients.layers[0].w).all()
    assert error(outcome.rates[0], case.run(cuda).rates[0]) == 0


@pytest.mark.parametrize("trouble", [MemoryError("out"), RuntimeError("[2] Call gives CUDA_ERROR_OUT_OF_MEMORY")])
def test_too_little_memory_is_said_with_what_is_needed(cuda, monkeypatch, trouble):
    case = random_case(15, (("free", 6),), **TINY)

    def fail(*arguments):
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(layer.Layer, "_feedforward_gradient", fail)
        with pytest.raises(InputError, match="2 samples and 6 steps needs about .* MiB .* 6 and 3 neurons"):
            case.run(cuda)
    case.check(cuda)


def test_grids_fit_the_device(monkeypatch):
    """2^31 - 1 blocks along the first axis, 65,535 along the second; all links of 12,800 neurons, 51,200 neurons."""
    monkeypatch.setattr(launch, "TILE", 256)
    blocks, threads = launch.flat(12800**2)
    assert blocks * threads >= 12800**2 and blocks < 2**31
    (rows, tiles), threads = launch.over(256 * 400, 51200)
    assert rows == 256 * 400 and tiles * threads >= 51200 and tiles < 2**16
