"""Kernels as machine code on disk, so that they are compiled once and not at every start: some 20 seconds.

They lie in a folder as the CPU's do, see :mod:`hrmas_sparse.storage.kernels`: its name is a checksum of the sources, of
whatever compiles them, of the driver and of the device's compute capability. A file is a kernel for arguments of some
types: a checksum of what follows, the name of the kernel, the code, with line breaks between them. One that is
missing, or not whole, is compiled anew.
"""

import functools
import hashlib
import os
from pathlib import Path

from cuda.bindings import driver
from cuda.core import ObjectCode
from numba import config, cuda

from hrmas_sparse.environment import version
from hrmas_sparse.storage import files
from hrmas_sparse.storage.atomic import write_bytes
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.kernels import Kernels

COMPILERS = ("numba-cuda", "numba", "llvmlite", "cuda-core", "cuda-bindings", *(
    f"nvidia-{name}{of}" for name in ("cuda-nvcc", "nvvm", "nvjitlink", "cuda-nvrtc") for of in ("", "-cu12", "-cu13")))
CALLED = "neuron.py", "learning.py", "architecture.py"   # of the engine, by kernels


@functools.cache
def folder(capability):
    """Where the code for a compute capability lies; None where nothing can be kept."""
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), *(here.parents[1] / name for name in CALLED)]
    versions = [capability, driver.cuDriverGetVersion()[1], config.OPT, *map(version, COMPILERS),
                *map(os.environ.get, ("CUDA_HOME", "CUDA_PATH"))]
    return Kernels(sources, repr(versions)).place.folder


def _path(kernel, kinds):
    """The file of a kernel; None where there can be none, or where what it is made of has no name."""
    function, capability = kernel.py_func, tuple(cuda.get_current_device().compute_capability)
    made_of = [_text(cell.cell_contents) for cell in function.__closure__ or ()]
    above = folder(capability)
    if above is None or None in made_of:
        return None
    name = repr((function.__module__, kernel.__qualname__, made_of, str(kernel.targetoptions), _text(kinds)))
    return above / f"{function.__module__.rpartition('.')[2]}-{hashlib.sha256(name.encode()).hexdigest()[:24]}.cubin"


def _text(x):
    """A type, a number, a function of the device, or a tuple of such, as text that is the same in every process."""
    if isinstance(x, tuple):
        parts = [_text(part) for part in x]
        return None if None in parts else f"({', '.join(parts)})"
    if isinstance(x, type) or hasattr(x, "py_func"):
        x = getattr(x, "py_func", x)
        return f"{x.__module__}.{x.__qualname__}" if not getattr(x, "__closure__", None) else None
    return repr(x) if isinstance(x, (bool, int, str)) else None


def load(kernel, kinds):
    """Return the kernel of cuda.core that was kept for arguments of some kinds, or None."""
    path = _path(kernel, kinds)
    try:
        if path is None or not path.is_file():
            return None
        checksum, _, rest = files.read(path).partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != checksum:
            return None
        name, _, code = rest.partition(b"\n")
        return ObjectCode.from_cubin(code).get_kernel(name.decode())
    except Exception:   # a file that cannot be read, code that the driver refuses: Numba compiles it again
        return None


def keep(kernel, kinds, code):
    """Keep what Numba has compiled, a :class:`compiled.Code`, where that can be."""
    path = _path(kernel, kinds)
    if path is not None and isinstance(code.binary, bytes):
        rest = code.name.encode() + b"\n" + code.binary
        try:
            write_bytes(path, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        except (OSError, InputError):   # no room: the next process compiles
            pass
