"""A process whose driver is stub_driver.c, and arrays that pass for CuPy's: what a launch is, without a GPU.

    python -m stubbed     launches some kernels both ways; prints what the driver got, and what it cost, as JSON

tests/engine/test_kept.py starts it, with the stub's folder first in LD_LIBRARY_PATH.
"""

import ctypes
import json
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np


class Array:
    """Stands in for CuPy's array, as quick to ask as that is; its memory is the host's, which nobody reads."""

    def __init__(self, shape, dtype):
        self.memory = np.zeros(shape, dtype)
        self.dtype, self.shape, self.ndim = self.memory.dtype, self.memory.shape, self.memory.ndim
        self.size, self.itemsize = self.memory.size, self.memory.itemsize
        self.data, self.flags = SimpleNamespace(ptr=self.memory.ctypes.data), SimpleNamespace(c_contiguous=True)
        self._interface = {"shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "strides": None,
                           "data": (self.data.ptr, False), "version": 3, "stream": 1}

    @property
    def __cuda_array_interface__(self):
        return self._interface


def install():
    """Stand in for CuPy and for the assembler; returns the stub."""
    sys.modules["cupy"] = ModuleType("cupy")
    from hrmas_sparse.engine.backends.cuda import compile  # noqa: F401  (sets Numba's options first)
    from cuda.core import ObjectCode
    from numba.cuda import codegen

    def cubin(self, cc=None):
        self.get_asm_str(cc=(9, 0))
        return ObjectCode.from_cubin(b"\x7fELF" + bytes(300))

    codegen.CUDACodeLibrary.get_cubin = cubin
    stub = ctypes.CDLL("libcuda.so.1")
    stub.stub_geometry.restype, stub.stub_parameters.restype = ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(
        ctypes.c_uint64)
    return stub


def cases():
    """name: kernel, arguments, other arguments of the same types, bytes of each parameter.

    No axis has one element: the stride of such a one is never used, and Numba's is another.
    """
    from hrmas_sparse.engine import learning as formulas
    from hrmas_sparse.engine.backends.cuda import learning, links, step, synapses

    from hrmas_sparse.engine import neuron

    def arrays(*shapes, dtype=np.float32):
        return tuple(Array(shape, dtype) for shape in shapes)

    def adam(count, rate):
        k = formulas.adam_constants("float32", (0.9, 0.999), 1e-8, 1, rate, 0.0)
        return (k, *(arrays((5 + count,), (3,), (1,)) for _ in range(4)), Array((3, 16), np.float64), np.float64(0.5),
                np.int32(2))

    k = neuron.constants("float64", 8, 80, 1, 0.2)
    return {
        "arrays": (synapses.spread, *((Array((s, 4, 80), np.uint32), Array((s, 100, 80), np.float32)) for s in (2, 3)),
                   [8] * 22),
        "constants": (step.filter_back, *((k, Array((s, 7, 26), np.float64)) for s in (2, 5)), [8] * (len(k) + 11)),
        "tuples, singles and numbers": (learning.update, adam(0, 0.1), adam(4, 0.7),
                                        [4] * 8 + [8] * 7 * 12 + [8] * 9 + [8, 4]),
        "tuples of one": (links.columns, *((arrays((n,)), Array((2, 9), np.int64), Array((2, 9), np.int64),
                                            *arrays((2, 9), (2, 9))) for n in (4, 6)), [8] * (7 + 4 * 9)),
    }


def microseconds(kernel, over, arguments, count=400):
    """Processor time of a launch, the least of some."""
    times = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            kernel[over](*arguments)
        times.append((time.process_time() - began) / count * 1e6)
    return min(times)


def main():
    stub, found, over = install(), {}, ((3, 2), 64, 0, 512)

    def got(kernel, arguments, sizes):
        before = stub.stub_launches()
        stub.stub_expect(len(sizes))
        kernel[over](*arguments)
        stub.stub_expect(0)
        masks = [(1 << 8 * size) - 1 for size in sizes]
        return (stub.stub_launches() - before, stub.stub_geometry()[:7],
                [int(x) & mask for x, mask in zip(stub.stub_parameters()[:len(sizes)], masks)])

    for name, (kernel, first, other, sizes) in cases().items():
        kernel[over](*first)
        numba = kernel._dispatcher
        same = [got(kernel, given, sizes) == got(numba, given, sizes) for given in (first, other, first)]
        found[name] = {"kept": len(kernel._kept), "same": same, "us": microseconds(kernel, over, first),
                       "numba": microseconds(numba, over, first, 100), "last": got(kernel, other, sizes)[:2]}
        stub.stub_refuse(201)
        found[name]["new thread"] = got(kernel, first, sizes) == got(numba, first, sizes)
        stub.stub_refuse(2)
        try:
            kernel[over](*first)
        except RuntimeError as error:
            found[name]["refused"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
