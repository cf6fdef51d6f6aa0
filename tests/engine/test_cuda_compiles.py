"""Every CUDA kernel compiles for an H100, in both dtypes, without a GPU: needs numba-cuda and its compiler (cuda12)."""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hrmas_sparse.engine import neuron

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="NOT TESTED: numba-cuda is not installed "
                       "(extras cuda12, cuda13), kernels are not compiled for a GPU"),
    pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") == "1", reason="the simulator compiles nothing"),
]
HOPPER = (9, 0)


@pytest.fixture
def ptx(monkeypatch):
    """Compile a kernel for arguments of given types; its PTX."""
    from numba.cuda import compile as to_ptx, dispatcher

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=HOPPER))
    return lambda kernel, *types: to_ptx(kernel.py_func, types, cc=HOPPER, device=False, abi="numba")[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels(ptx, dtype):
    from numba import boolean, float32, float64, int32, int64, types, typeof, uint32

    from hrmas_sparse.engine.backends.cuda import smooth, step, synapses
    k = typeof(neuron.constants(dtype, 8, 80, 1, 0.2))
    p = typeof(neuron.plasticity_constants(dtype, 16, 16, 80, 0.02, 0.1))

    def array(kind, dimensions):
        return types.Array(kind, dimensions, "C")

    real = {"float32": float32, "float64": float64}[dtype]
    r1, r2, r3, r4 = (array(real, n) for n in (1, 2, 3, 4))
    i1, l1, bits = array(int32, 1), array(int64, 1), array(uint32, 3)
    links = array(int32, 2), array(int32, 3), r3
    found = {}
    for per in (1, 4):
        for recurrent in (True, False):
            found |= {
                f"forward {per} {recurrent}": ptx(step.forward(per, recurrent), k, r3, r3, *links, r3, bits, bits,
                                                  r3, boolean),
                f"plastic {per} {recurrent}": ptx(step.forward_plastic(per, recurrent), k, p, r3, *links, r3, bits,
                                                  bits, r4, boolean),
                f"backward {per} {recurrent}": ptx(step.backward(per, recurrent, recurrent), k, r3, r3, *links, r3,
                                                   bits, r3, r3, boolean)}
    found |= {
        "backward, errors in global memory": ptx(step.backward(2, True, False), k, r3, r3, *links, r3, bits, r3, r3,
                                                 boolean),
        "filter_back": ptx(step.filter_back, k, r3),
        "forward_smooth": ptx(smooth.forward(2), k, r3, r3, *links, r3, r3, r3, boolean),
        "backward_smooth": ptx(smooth.backward(2), k, r3, r3, *links, r3, r3, r3),
        "spread": ptx(synapses.spread, bits, r3),
        "feedforward": ptx(synapses.feedforward, l1, i1, r1, r3, r2),
        "feedforward_gradient": ptx(synapses.feedforward_gradient, l1, i1, r1, r2, r2),
        "links_gradient": ptx(synapses.links_gradient, i1, i1, i1, int64, bits, r3, r1),
        "smooth_links_gradient": ptx(synapses.smooth_links_gradient, i1, i1, i1, int64, r3, r3, r1),
        "sum_samples": ptx(synapses.sum_samples, r2, r2),
    }
    if dtype == "float32":  # nothing is promoted
        assert [name for name, text in found.items() if ".f64" in text] == []
    assert not [name for name, text in found.items() if "atom" in text and ".f" in text.split("atom")[1][:24]]
    assert np.all([f"sm_{HOPPER[0]}{HOPPER[1]}" in text for text in found.values()])


@pytest.mark.parametrize("given, expected", [(None, "0"), ("1", "1")])
def test_numba_does_not_wait_at_launches_whoever_imports_it_first(given, expected):
    code = ("import numba; from numba import config; import hrmas_sparse.engine.backends.cuda.compile; "
            "print(int(config.CUDA_ARRAY_INTERFACE_SYNC))")
    environment = {name: x for name, x in os.environ.items() if name != "NUMBA_CUDA_ARRAY_INTERFACE_SYNC"}
    environment |= {} if given is None else {"NUMBA_CUDA_ARRAY_INTERFACE_SYNC": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr
