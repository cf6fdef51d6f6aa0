"""Some kernels launched both ways, ours and Numba's: what the driver gets, and what it costs, as JSON.

tests/engine/test_kept.py starts it, see stubbed.py.
"""

import json
import sys
import time
from unittest import mock

import numpy as np
from stubbed import empty, install


def cases():
    """name: kernel, arguments, other arguments of the same types, bytes of each parameter.

    No axis has one element: the stride of such a one is never used, and Numba's is another.
    """
    from hrmas_sparse.engine import learning as formulas
    from hrmas_sparse.engine.backends.cuda import learning, links, step, synapses

    from hrmas_sparse.engine import neuron

    def arrays(*shapes, dtype=np.float32):
        return tuple(empty(shape, dtype) for shape in shapes)

    def adam(count, rate):
        k = formulas.adam_constants("float32", (0.9, 0.999), 1e-8, 1, rate, 0.0)
        return (k, *(arrays((5 + count,), (3,), (1,)) for _ in range(4)), empty((3, 16), np.float64), np.float64(0.5),
                np.int32(2))

    k = neuron.constants("float64", 8, 80, 1, 0.2)
    return {
        "arrays": (synapses.spread, *((empty((s, 4, 80), np.uint32), empty((s, 100, 80), np.float32)) for s in (2, 3)),
                   [8] * 22),
        "constants": (step.filter_back, *((k, empty((s, 7, 26), np.float64)) for s in (2, 5)), [8] * (len(k) + 11)),
        "tuples, singles and numbers": (learning.update, adam(0, 0.1), adam(4, 0.7),
                                        [4] * 8 + [8] * 7 * 12 + [8] * 9 + [8, 4]),
        "tuples of one": (links.columns, *((arrays((n,)), empty((2, 9), np.int64), empty((2, 9), np.int64),
                                            *arrays((2, 9), (2, 9))) for n in (4, 6)), [8] * (7 + 4 * 9)),
    }


def closures():
    """As :func:`cases`, without the bytes: kernels made by functions of what they are to be, which the files must tell
    apart."""
    from hrmas_sparse.engine import neuron
    from hrmas_sparse.engine.backends.cuda import losses, output

    k = neuron.constants("float32", 8, 80, 1, 0.2)
    flat, deep, sent = empty(3, np.float32), empty((2, 7, 3), np.float32), empty((2, 3), np.int32)
    given = (k, flat, flat, empty(2, np.int64), np.float64(0.5), np.int64(1), (sent, sent), deep, deep,
             empty((2, 6), np.float64), deep)
    return {f"{of.__name__}, {back}": (output.output(of, back), given)
            for of in (losses.of_psc, losses.of_cross_entropy) for back in (True, False)}


def installed():
    """The driver. With "nowhere" no kernel is kept on disk, as where nothing can be written."""
    stub = install(assemble=False)
    from hrmas_sparse.engine.backends.cuda import binaries
    if "nowhere" in sys.argv:
        binaries.folder = lambda capability: None
    return stub


def compiled():
    """Launch kernels of both kinds; returns what Numba has compiled for it, and what the driver got."""
    stub, found = installed(), []
    from numba.cuda.dispatcher import CUDADispatcher

    real = CUDADispatcher.compile
    CUDADispatcher.compile = lambda self, signature: found.append(self.py_func.__qualname__) or real(self, signature)
    before = stub.stub_launches()
    got = {}
    for name, (kernel, *given) in (cases() | closures()).items():
        kernel[(3, 2), 64, 0, 512](*given[0])
        got[name] = kernel.py_func.__qualname__, stub.stub_launches() - before, stub.stub_geometry()[:7]
    return {"compiled": found, "got": got}


def other():
    """Launch a kernel twice, with a numba-cuda that has something elsewhere; returns what the driver got, and what was
    kept."""
    stub, found = installed(), {}
    from hrmas_sparse.engine.backends.cuda import compiled
    from numba.cuda import descriptor
    from numba.cuda.dispatcher import CUDADispatcher as Dispatcher

    lacking = {"no such name": mock.patch.object(Dispatcher, "typeof_pyval", property()),
               "no models": mock.patch.object(descriptor, "cuda_target", None),
               "other parameters": mock.patch.object(compiled, "ARRAY", compiled.ARRAY[2:])}
    for (name, patch), (kernel, *given) in zip(lacking.items(), cases().values()):
        before = stub.stub_launches()
        kernel[(3, 2), 64, 0, 512](*given[0])     # Numba needs its own names to compile
        kernel._kept.clear()
        compiled.as_known.cache_clear()
        with patch:
            for arguments in given[:2]:
                kernel[(3, 2), 64, 0, 512](*arguments)
        found[name] = stub.stub_launches() - before, len(kernel._kept), stub.stub_geometry()[:7]
    return found


def microseconds(kernel, over, arguments, count=400):
    """Processor time of a launch, the least of some."""
    times = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            kernel[over](*arguments)
        times.append((time.process_time() - began) / count * 1e6)
    return min(times)


def both():
    """Launch kernels our way and Numba's."""
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
    return found


if __name__ == "__main__":
    print(json.dumps({"both": both, "compiled": compiled, "other": other}[sys.argv[1]]()))
