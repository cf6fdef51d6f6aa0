"""On a real GPU: the CPU's numbers, golden numbers, the same bits again, large layers, too little memory.

``make test-gpu`` runs these and every other test that takes a backend, and fails where there is no GPU.
"""

import functools
from pathlib import Path

import numpy as np
import pytest
import toys
from conftest import SPARSE
from dense import assert_close, assert_same_bits, random_case

from hrmas_sparse.engine import lockstep
from hrmas_sparse.engine.architecture import Architecture, table_rows
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.backends.cuda import probe
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.gradcheck import golden
from hrmas_sparse.engine.layers import LIF, Motifs
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.data.events import Events


pytestmark = pytest.mark.gpu
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# Of the largest number of an array, in samples whose spikes are all where the CPU has them. In float32, where v is
# within rounding of the threshold, a spike may move and with it all that its neurons do later: of such samples there
# may be MOVED, a share. Chosen; the emulator, which multiplies and adds as a CPU does, moves none.
CLOSE = {"float64": 1e-9, "float32": 1e-4}
MOVED = {"float64": 0, "float32": 0.2}
SCALE = 10.5   # of the input weights: the bench's W1, whose neurons spike in 3 to 4 % of the steps


@pytest.fixture(scope="module")
def gpu():
    found = probe()
    assert not found.reason, f"these tests need a GPU: {found.reason}"
    assert not found.simulated, "these tests need a GPU, NUMBA_ENABLE_CUDASIM is set"
    backend = get_backend("cuda")
    backend.dense = SPARSE
    return backend


def motif_network(backend, neurons, steps=100, inputs=78, samples=50, size=16, density=0.1, dtype="float32", seed=0):
    """A layer of motifs of random types, its parameters and a random batch: the bench's workloads."""
    rng = np.random.default_rng(seed)
    types = rng.choice(3, table_rows(neurons, size, True, True), p=(0.3, 0.3, 0.4)).astype(np.int8)
    layer = Motifs(neurons, architecture=Architecture(neurons, size, True, types))
    network = Network(inputs, 26, [layer], LIF(16.0, 8.0, v_th=10.0, v_th_out=1.0), backend=backend, dtype=dtype)
    on = rng.random((samples, steps, inputs)) < density
    sample, step, channel = np.nonzero(on)
    events = Events(np.searchsorted(sample, np.arange(samples + 1)).astype(np.int64), step.astype(np.uint16),
                    channel.astype(np.uint16), np.ones(step.size, np.uint8), rng.integers(0, 26, samples), steps,
                    inputs)
    params = network.init(rng)
    params.layers[0].w *= params.layers[0].w.dtype.type(SCALE * (0.1 / density) ** 0.5)
    return network, params, events


def compare(gpu, neurons, dtype="float32", **options):
    """Both backends find the same spikes, and, where they do, the same numbers."""
    found = []
    for backend in (gpu, get_backend("cpu")):
        network, params, events = motif_network(backend, neurons, dtype=dtype, **options)
        found.append((network, network.gradients(params, events, record=True)))
    one, other = (out for _, out in found)
    assert other.rates[0] > 0.01 and other.rates[-1] > 0.001, "next to nothing spikes: nothing is tested"
    moved = np.any([(a != b).any(axis=(1, 2)) for a, b in zip(one.spikes, other.spikes)], axis=0)
    assert moved.mean() <= MOVED[dtype], f"spikes moved in {moved.sum()} of {moved.size} samples"
    if moved.any():
        one, other = (network.gradients(params, events[np.flatnonzero(~moved)]) for network, _ in found)
    assert abs(one.loss - other.loss) <= CLOSE[dtype] * other.loss
    assert_close(one.gradients.flatten(), other.gradients.flatten(), CLOSE[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("density", [0.02, 0.3], ids=["events", "dense"])
@pytest.mark.parametrize("neurons", [400, 800, 3200])
def test_the_cpu_finds_the_same(gpu, neurons, density, dtype):
    compare(gpu, neurons, dtype, density=density, samples=20)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_links_too_far_for_a_byte(gpu, dtype):
    compare(gpu, 400, dtype, size=200, samples=20)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_numbers(gpu, dtype):
    lines = [line for line in golden.run_golden(GOLDEN, dtype, "cuda") if line.ok is not None]
    assert len(lines) > 50 and all(line.ok for line in lines), [line for line in lines if not line.ok]


def of_graphs(backend, recording, dtype, times=5):
    """Passes of both backends, with other parameters, input and labels each time: the same bits."""
    (one, params, _), (other, *_) = (motif_network(x, 400, samples=4, dtype=dtype) for x in (backend, recording))
    for seed in range(times):
        *_, events = motif_network(backend, 400, samples=4, seed=seed)
        given = params.map(functools.partial(np.multiply, params.layers[0].w.dtype.type(1 + seed / 50)))
        found, expected = (network.gradients(given, events) for network in (other, one))
        assert_same_bits([found.loss, found.gradients], [expected.loss, expected.gradients])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_pass_as_a_cuda_graph_gives_the_same_bits(gpu, dtype):
    backend = type(gpu)()
    backend.use_graphs()
    of_graphs(gpu, backend, dtype)
    assert backend._graphs.problem == "" and all(graph for _, graph, _ in backend._graphs._seen.values())


def test_twenty_runs_give_the_same_bits(gpu):
    network, *given = motif_network(gpu, 800)
    first = network.gradients(*given)
    plastic = network.adapt(*given, Plasticity(16.0, 0.02, 0.1)).intrinsic
    for _ in range(19):
        again = network.gradients(*given)
        assert_same_bits([again.loss, again.gradients, again.rates], [first.loss, first.gradients, first.rates])
        assert_same_bits(network.adapt(*given, Plasticity(16.0, 0.02, 0.1)).intrinsic, plastic)


@pytest.mark.parametrize("density", [0.02, 0.3], ids=["events", "dense"])
def test_seeds_together_are_what_they_are_alone(gpu, density):
    """Close, not the same bits: cuBLAS may take another way through five products than through one."""
    def gradients(backend, seed):
        network, *given = motif_network(backend, 400, density=density, seed=seed)
        return network.gradients(*given)

    alone = [gradients(gpu, seed) for seed in range(5)]
    for _ in range(2):
        found = lockstep.run(gpu, [functools.partial(gradients, seed=seed) for seed in range(5)])
        for one, other in zip(found, alone):
            assert abs(one.loss - other.loss) <= CLOSE["float32"] * other.loss
            assert_close(one.gradients, other.gradients, CLOSE["float32"])


def test_batches_prefetched(gpu):
    """Many, and each used while the next is on its way."""
    from hrmas_sparse.engine.backends.cuda.loader import CarryingLoader
    *_, events = motif_network(gpu, 400, samples=300)
    there, rng = CarryingLoader(events), np.random.default_rng(0)
    batches = [rng.integers(0, 300, rng.integers(1, 200)) for _ in range(50)]
    for index, following in zip(batches, [*batches[1:], batches[0]]):
        there.prefetch(following)
        batch, expected = there[index], events[index]
        for name in ("step", "channel", "value", "labels", "indptr"):
            assert_same_bits(gpu.to_host(getattr(batch, name)), getattr(expected, name))


@pytest.mark.parametrize("neurons", [6400, 12800])
def test_large_layers(gpu, neurons):
    """More neurons than threads, and than a block's shared memory has room for errors (12,288 in float32)."""
    compare(gpu, neurons, steps=40, samples=8)


def test_too_little_memory_is_said_with_what_is_needed(gpu):
    network, *given = motif_network(gpu, 51200, steps=8000, inputs=4, samples=250, density=0.01)
    with pytest.raises(InputError, match=r"the GPU's memory is full: .* needs about [\d.]+ GiB"):
        network.gradients(*given)
    random_case(1).check(gpu)  # and the backend goes on


@pytest.mark.parametrize("which", toys.JOBS)
def test_a_whole_job(gpu, tmp_path, which):
    toys.check_job(gpu, tmp_path, which)


def test_a_job_killed_and_resumed_has_the_same_bits(gpu, tmp_path):
    """With CUDA graphs, which begin anew with every network."""
    events, own, graphs = toys.cache(tmp_path / "cache.h5"), toys.settings(), type(gpu)()
    graphs.use_graphs()
    whole, (parts, stops) = (toys.run(tmp_path / "whole", own, events, backend=graphs),
                             toys.killed_every(5, tmp_path / "parts", own, events, backend=graphs))
    assert graphs._graphs.problem == "" and any(graph for _, graph, _ in graphs._graphs._seen.values())
    assert stops > 2 and [line["loss"] for line in parts.metrics()] == [line["loss"] for line in whole.metrics()]
    assert parts.result()["test"] == whole.result()["test"]
