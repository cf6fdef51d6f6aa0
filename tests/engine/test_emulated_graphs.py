"""Passes that are recorded and started again, with the emulator in the driver's place: what is recorded runs later.

Its memory is poisoned before each start, so a pass that needs what was there before, or that does anything of itself
while it is recorded, gives other numbers. test_emulator.py starts these tests.
"""

import functools

import conftest
import numpy as np
import pytest
from dense import assert_same_bits
from test_emulated_kernels import HIDDEN, PLASTICITY, batch, network
from test_gpu import of_graphs

from hrmas_sparse.engine import lockstep
from hrmas_sparse.engine.backends.cuda import graphs, products
from hrmas_sparse.engine.backends.cuda.backend import CudaBackend
from hrmas_sparse.engine.layers import Integrator
from hrmas_sparse.search import hrmas

DENSE = 0.4
TIMES = graphs.PLAIN + 3


class Recorder:
    """Stands in for graphs.Driver; counts how often a pass was recorded, and started."""

    def __init__(self):
        self.recordings, self.starts = 0, 0

    def recorded(self):
        self.recordings += 1
        return conftest.EMULATOR.recording(self)


@pytest.fixture
def recorder():
    conftest.EMULATOR.divergent = 0
    return Recorder()


def recording(recorder):
    backend = CudaBackend()
    backend._graphs = graphs.Graphs(backend, recorder)
    return backend


def numbers(out):
    return [out.loss, out.scores, out.rates, out.gradients]


@pytest.mark.parametrize("hidden, options", [
    ("supernet", {}), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("motif", {}), ("odd", dict(loss="cross_entropy")), ("two layers", dict(rule="surrogate"))))])
def test_a_recorded_pass_gives_what_it_gave(recorder, hidden, options):
    nets = [network(HIDDEN[hidden], backend, "float32", **options) for backend in (CudaBackend(), recording(recorder))]
    before = []
    for seed in range(TIMES):
        events = batch(3, 33, 40, 7, DENSE, seed)
        expected, found = (net.gradients(net.init(seed=seed), events) for net in nets)
        assert_same_bits(numbers(found), numbers(expected))
        before.append((found.gradients.copy(), found.gradients))
    assert (recorder.recordings, recorder.starts) == (1, TIMES - graphs.PLAIN)
    assert nets[1].backend._graphs.problem == ""
    for kept, gradients in before:    # nobody's results are written again
        assert_same_bits([gradients], [kept])


@pytest.mark.slow
def test_the_test_of_a_gpu_holds_here(recorder):
    of_graphs(CudaBackend(), recording(recorder), "float32", TIMES)
    assert (recorder.recordings, recorder.starts) == (1, TIMES - graphs.PLAIN)


def test_what_differs_has_a_graph_of_its_own(recorder):
    net = network(HIDDEN["motif"], recording(recorder), "float32")
    params = net.init(seed=0)
    for _ in range(TIMES):
        net.gradients(params, batch(3, 33, 40, 7, DENSE))
        net.gradients(params, batch(2, 33, 40, 7, DENSE))
        net.evaluate(params, batch(3, 33, 40, 7, DENSE))
    assert (recorder.recordings, recorder.starts) == (3, 3 * (TIMES - graphs.PLAIN))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["events", "plasticity", "record", "intrinsic", "integrator", "many samples"])
def test_what_has_no_graph(recorder, monkeypatch, what):
    net = network(HIDDEN["odd"], recording(recorder), "float32",
                  **(dict(readout=Integrator(2), loss="cross_entropy") if what == "integrator" else {}))
    if what == "many samples":
        monkeypatch.setattr(CudaBackend, "chunk", 2)
    for _ in range(graphs.PLAIN + 1):
        net.gradients(net.init(seed=0), batch(3, 10, 40, 7, 0.02 if what == "events" else DENSE),
                      PLASTICITY if what == "plasticity" else None, what == "record", what == "intrinsic")
    assert recorder.recordings == 0


def test_the_bi_level_gradient(recorder):
    """Three passes, of which two are networks side by side."""
    nets = [network(HIDDEN["supernet"], backend, "float32") for backend in (CudaBackend(), recording(recorder))]
    for seed in range(TIMES):
        params, batches = nets[0].init(seed=seed), [batch(3, 20, 40, 7, DENSE, n) for n in (seed, seed + 99)]
        expected, found = (hrmas.alpha_gradient(net, params, *batches, eta=0.1) for net in nets)
        assert_same_bits([found], [expected])
    assert recorder.recordings == 2


def test_seeds_in_lockstep(recorder):
    def gradients(backend, seed):
        net = network([HIDDEN["motif"][0].__class__(96, size=16, seed=seed)], backend, "float32")
        return [numbers(net.gradients(net.init(seed=seed + n), batch(2, 33, 40, 7, DENSE, seed + n)))
                for n in range(TIMES)]

    expected, found = (lockstep.run(backend, [functools.partial(gradients, seed=seed) for seed in range(3)])
                       for backend in (CudaBackend(), recording(recorder)))
    assert_same_bits(found, expected)
    assert (recorder.recordings, recorder.starts) == (1, TIMES - graphs.PLAIN)


def test_no_more_graphs_than_few(recorder, monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 2)
    net = network(HIDDEN["one neuron"], recording(recorder), "float32")
    for samples in (1, 2, 3, 1):
        for _ in range(graphs.PLAIN + 1):
            net.gradients(net.init(seed=0), batch(samples, 5, 40, 7, DENSE))
    assert recorder.recordings == 4 and len(net.backend._graphs._seen) == 2


def test_memory_that_is_short_is_left_alone(recorder, monkeypatch):
    monkeypatch.setattr(graphs, "memory_info", lambda: (100 << 10, 80 << 30))
    net = network(HIDDEN["motif"], recording(recorder), "float32")
    for _ in range(TIMES):
        net.gradients(net.init(seed=0), batch(3, 33, 40, 7, DENSE))
    assert recorder.recordings == 0


@pytest.mark.parametrize("what", ["other numbers", "the driver", "no cuBLAS"])
def test_where_something_goes_wrong_there_are_no_graphs(recorder, monkeypatch, capsys, what):
    if what == "other numbers":
        monkeypatch.setattr(graphs, "write", lambda there, array: there.fill(0))
    elif what == "the driver":
        def refused(self):
            raise RuntimeError("the driver: 900")
        monkeypatch.setattr(Recorder, "recorded", refused)
    else:
        monkeypatch.setattr(products, "direct", lambda: None)
    nets = [network(HIDDEN["motif"], backend, "float32") for backend in (CudaBackend(), recording(recorder))]
    for seed in range(TIMES):
        events = batch(3, 33, 40, 7, DENSE, seed)
        events.labels[:] = np.arange(3) + 1
        expected, found = (net.gradients(net.init(seed=seed), events) for net in nets)
        assert_same_bits(numbers(found), numbers(expected))
    said = capsys.readouterr().err
    assert said == ({"other numbers": "no CUDA graphs in this process: RuntimeError: it gives other numbers\n",
                     "the driver": "no CUDA graphs in this process: RuntimeError: the driver: 900\n"}.get(what, ""))
    assert nets[1].backend._graphs.problem and not nets[1].backend._graphs._seen
