"""What a step on a GPU costs the host, as JSON; tests/engine/test_kept.py shows it.

Processor time of Python against a driver that does nothing, see stubbed.py. The network is small, for the host's part
does not depend on its size. CuPy's operations are NumPy's here, which cost less; products cost their memory alone.
"""

import json
import time
from types import SimpleNamespace
from unittest import mock

import stubbed

SIZES = (1, 2, 5, 10, 20)
STEPS = {"w step": ("motif", (2, 5), False), "HRMAS iteration": ("supernet", SIZES, True)}
REPEATS, TIMES = 20, 15


def prepared(kind, sizes, whole):
    """A function that takes a step on the stand-in; its kernels are compiled."""
    from hrmas_sparse.engine import backends
    from hrmas_sparse.engine.backends.cuda.backend import CudaBackend
    from runs.bench import ours
    from runs.bench import workloads as w

    workload = w.Workload("tiny", 5, 0.4, 20, 2, 4, sizes, {kind: 11})
    with mock.patch.object(w, "MOTIF", 5), mock.patch.object(backends, "get_backend", lambda *_: CudaBackend()):
        learning = ours.Learning(w.problem(workload, kind, samples=4), 1, whole, device="cuda")
    for _ in range(3):
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
    """In a process with the stand-in: {step: (ms, kernels launched)}."""
    stub, found = stubbed.install(assemble=False), {}
    stubbed.Array.data = SimpleNamespace(ptr=1 << 20)     # where an array lies is asked as quickly as of CuPy's
    for name, case in STEPS.items():
        step = prepared(*case)
        before = stub.stub_launches()
        step()
        launches = stub.stub_launches() - before
        found[name] = milliseconds(step), launches
    return found


if __name__ == "__main__":
    print(json.dumps(figures()))
