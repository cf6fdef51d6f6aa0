"""How much the host starts on a GPU in a step: kernels, products, CuPy's operations, copies; in the simulator.

A step's time has the host's in it, some microseconds for each of these, whatever the size of the network.
"""

import collections

import numpy as np
import pytest
import simulator

from hrmas_sparse.engine.backends.cuda import backend as module
from runs.bench import ours
from runs.bench import workloads as w
from runs.bench.launches import recorded

SIZES = (1, 2, 5, 10, 20)


@pytest.fixture
def started(monkeypatch):
    """Counts of one w step, or of an HRMAS iteration: of what is launched, to the device, to the host."""
    def started(kind, sizes, whole, inputs=5, density=0.4):
        simulator.one_thread_a_block(monkeypatch)
        monkeypatch.setattr(w, "MOTIF", 5)
        workload = w.Workload("tiny", inputs, density, 20, 2, 4, sizes, {kind: 11})
        learning = ours.Learning(w.problem(workload, kind, samples=1), 1, whole, device="cuda")
        learning.step()
        copies, real = [], module.to_host
        monkeypatch.setattr(module, "to_host", lambda array: copies.append(1) or real(array))
        with simulator.Operations() as operations, recorded() as launches:
            learning.step()
        kernels = collections.Counter(launch.name for launch in launches if launch.name != "GEMM")
        there = operations.pop("to the device", 0)
        return kernels + operations, there, len(copies)
    return started


@pytest.mark.parametrize("kind, sizes, whole, most, copies", [
    ("motif", (2, 5), False, 20, (5, 1)),
    ("supernet", SIZES, True, 103, (20, 2)),
], ids=["w step", "iteration"])
def test_what_a_step_starts(started, kind, sizes, whole, most, copies, show):
    launched, there, here = started(kind, sizes, whole)
    show(f"{launched.total()} launches, {there} copies to the device, {here} to the host: {dict(launched)}")
    assert (there, here) == copies and np.less_equal(launched.total(), most)
