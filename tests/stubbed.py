"""A driver that does nothing and NumPy in place of CuPy: what the host does of a step on a GPU, without a GPU.

:func:`started` runs a module in a process with that driver, whose first call is :func:`install`. Kernels are compiled
as far as Numba itself goes, and never run.
"""

import ctypes
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

CC = os.environ.get("CC", "cc")
CAPABILITY = (9, 0)
CUBIN = b"\x7fELF" + bytes(300)


def missing():
    """What cannot be found, as a word; empty if all is there."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda"
    return "" if shutil.which(CC) else "a C compiler"


def started(module, *words, variables=()):
    """Run ``python -m module words`` with the driver; returns what its last line says, JSON."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        driver = Path(folder) / "libcuda.so.1"
        subprocess.run([CC, "-shared", "-fPIC", "-o", driver, here / "stub_driver.c"], check=True)
        paths = {name: os.pathsep.join(filter(None, [str(first), os.environ.get(name)]))
                 for name, first in (("LD_LIBRARY_PATH", folder), ("PYTHONPATH", here.parent))}
        environment = {name: x for name, x in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
        done = subprocess.run([sys.executable, "-m", module, *words], cwd=here, capture_output=True, text=True,
                              env=environment | paths | dict(variables))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


class Array(np.ndarray):
    """Stands in for CuPy's array."""

    __numba_array_subtype_dispatch__, __dlpack__ = True, None   # Numba is not to see NumPy's array in it

    @functools.cached_property
    def data(self):
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "strides": None,
                "data": (self.data.ptr, False), "version": 3, "stream": 1}


def empty(shape, dtype=float):
    """An array of zeros."""
    return np.zeros(shape, dtype).view(Array)


def install(assemble=True):
    """Stand in for CuPy and for the assembler, or for the compiler too; returns the driver."""
    sys.modules["cupy"] = _numpy_as_cupy()
    from hrmas_sparse.engine.backends.cuda import products
    from cuda.core import ObjectCode
    from numba.cuda import codegen
    from numba.cuda.typing.typeof import typeof_impl

    def cubin(self, cc=None):
        if assemble:
            self.get_asm_str(cc=CAPABILITY)
        return ObjectCode.from_cubin(CUBIN)

    codegen.CUDACodeLibrary.get_cubin = cubin
    typeof_impl.register(Array)(typeof_impl.dispatch(object))    # as of CuPy's, Numba asks for the interface
    stub = ctypes.CDLL("libcuda.so.1")
    stub.stub_calls.restype = ctypes.c_char_p
    products.library = lambda: stub
    stub.stub_geometry.restype, stub.stub_parameters.restype = ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(
        ctypes.c_uint64)
    return stub


def _numpy_as_cupy():
    """A module that passes for CuPy."""
    module = ModuleType("cupy")

    def of(function):
        def wrapped(*arguments, **options):
            found = function(*arguments, **options)
            return found.view(Array) if isinstance(found, np.ndarray) else found
        return wrapped

    vars(module).update({name: x if isinstance(x, type) or not callable(x) else of(x)
                         for name, x in ((name, getattr(np, name)) for name in dir(np) if name[0] != "_")})
    at_once = SimpleNamespace(wait_event=lambda event: None, synchronize=lambda: None, ptr=0)
    at_once.record = lambda: at_once
    module.empty, module.asnumpy = empty, lambda array: np.array(array, subok=False)
    module.empty_like = lambda like: empty(like.shape, like.dtype)
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (60 << 30, 80 << 30)),
                                  get_current_stream=lambda: at_once, Stream=lambda **options: at_once)
    module.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 0)
    return module
