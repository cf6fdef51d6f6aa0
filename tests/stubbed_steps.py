"""What a step on a GPU costs the host, as JSON; tests/engine/test_kept.py shows it.

Processor time of Python against a driver that does nothing, see stubbed.py. The network is small, for the host's part
does not depend on its size. CuPy's operations are NumPy's here, which cost less; products are not computed.
"""

import itertools
import json
import time
from types import SimpleNamespace
from unittest import mock

import stubbed

SIZES = (1, 2, 5, 10, 20)
STEPS = {"w step": ("motif", (2, 5), False), "HRMAS iteration": ("supernet", SIZES, True)}
REPEATS, TIMES = 20, 15


def prepared(kind, sizes, whole, graphs, steps=4):
    """A function that takes a step on the stand-in; its kernels are compiled, its passes recorded if they are to be."""
    from hrmas_sparse.engine import backends
    from hrmas_sparse.engine.backends.cuda.backend import CudaBackend
    from runs.bench import ours
    from runs.bench import workloads as w

    backend = CudaBackend()
    if graphs:
        backend.use_graphs()
    workload = w.Workload("tiny", 5, 0.4, 20, 2, 4, sizes, {kind: 11})
    with mock.patch.object(w, "MOTIF", 5), mock.patch.object(backends, "get_backend", lambda *_: backend):
        learning = ours.Learning(w.problem(workload, kind, samples=4), 1, whole, device="cuda")
    for _ in range(steps):
        learning.step()
    return learning.step


def milliseconds(step):
    """Processor time of a step: the least mean of some."""
    times = []
    for _ in range(TIMES):
        began = time.process_time()
        for _ in range(REPEATS):
            step()
        times.append((time.process_time() - began) / REPEATS * 1e3)
    return min(times)


def figures():
    """In a process with the stand-in: {step: (ms, kernels and graphs launched)}."""
    stub, found = stubbed.install(assemble=False), {}
    from hrmas_sparse.engine.backends.cuda import products
    assert products.direct() is not None     # by two small products, which are computed
    stub.stub_compute(0)
    stubbed.Array.data = SimpleNamespace(ptr=1 << 20)     # where an array lies is asked as quickly as of CuPy's
    for name, graphs in itertools.product(STEPS, (False, True)):
        step = prepared(*STEPS[name], graphs)
        stub.stub_forget()
        step()
        launches = sum(map(stub.stub_calls().count, (b"K", b"L")))
        found[f"{name}{', graphs' if graphs else ''}"] = milliseconds(step), launches
    return found


if __name__ == "__main__":
    print(json.dumps(figures()))
