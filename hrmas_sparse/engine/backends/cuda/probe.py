"""Is there a GPU this program can use, and if not, why not. Asks the driver itself, needs no package."""

import ctypes
import os
import re
from typing import NamedTuple

from hrmas_sparse.environment import install, version

DRIVER = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute, CUDA driver API
NEWEST, TOO_NEW = (0, 30, 4), (2, 5)         # numba-cuda up to this one compiles nothing beside NumPy from this one on


class Probe(NamedTuple):
    """What was found of the first GPU; what is not known is None."""

    driver: tuple | None      # newest CUDA version the driver can run, (12, 4)
    device: str | None        # its name
    memory: int | None        # bytes, all of it
    capability: tuple | None  # compute capability, (9, 0)
    numba_cuda: str | None    # versions of the packages
    cupy: str | None
    reason: str               # why no GPU can be used, for the user; empty if one can
    simulated: bool = False   # NUMBA_ENABLE_CUDASIM is set: kernels run as Python, slowly, without a GPU

    @property
    def extra(self):
        """The extra of setup.cfg that fits the driver."""
        return "cuda13" if self.driver and self.driver[0] >= 13 else "cuda12"


class _DriverError(Exception):
    pass


def probe():
    """Return a :class:`Probe` of this machine."""
    numba_cuda, (cupy, wheel) = version("numba-cuda"), _cupy()
    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    if simulated:
        return Probe(None, "the CUDA simulator", None, None, numba_cuda, cupy, "", True)
    try:
        gpu = Probe(*_driver(), numba_cuda, cupy, "")
    except _DriverError as error:
        return Probe(None, None, None, None, numba_cuda, cupy, str(error))
    return gpu._replace(reason=_missing(gpu, wheel))


def _missing(gpu, wheel):
    """What the packages lack for the GPU that is there."""
    runs = f"{gpu.driver[0]}.{gpu.driver[1]}"
    if gpu.driver[0] < 12:
        return f"the NVIDIA driver runs CUDA {runs} at most, 12.0 is needed: update it"
    lacking = [name for name, have in (("numba-cuda", gpu.numba_cuda), ("CuPy", gpu.cupy)) if have is None]
    if lacking:
        return f"{' and '.join(lacking)} missing: {install(gpu.extra)}"
    numpy = version("numpy")
    if _numbers(gpu.numba_cuda) <= NEWEST and _numbers(numpy) >= TOO_NEW:
        return f"numba-cuda {gpu.numba_cuda} does not work with NumPy {numpy}: {install(gpu.extra)}"
    compiler = _compiler()
    if compiler and compiler > gpu.driver[0]:
        return (f"numba-cuda compiles for CUDA {compiler} (cuda-bindings {version('cuda-bindings')}), but the NVIDIA "
                f"driver runs CUDA {runs} at most: {install(gpu.extra)}")
    if wheel and wheel > gpu.driver[0]:
        return (f"CuPy is installed for CUDA {wheel}, but the NVIDIA driver runs CUDA {runs} at most: uninstall "
                f"cupy-cuda{wheel}x, then {install(gpu.extra)}")
    return ""


def _numbers(text):
    """The numbers that a version begins with."""
    found = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(map(int, found[0].split("."))) if found else ()


def _compiler():
    """The CUDA major of what numba-cuda compiles and loads with; None if it is not known."""
    return next(iter(_numbers(version("cuda-bindings"))), None)


def _cupy():
    """CuPy's version and the CUDA major its wheel is made for (None: built here)."""
    for name, wheel in (("cupy-cuda13x", 13), ("cupy-cuda12x", 12), ("cupy", None)):
        if installed := version(name):
            return installed, wheel
    return None, None


def _driver():
    """CUDA version, name, memory and compute capability of the first GPU."""
    try:
        library = ctypes.CDLL(DRIVER)
    except OSError:
        raise _DriverError(f"no NVIDIA driver: {DRIVER} was not found") from None

    def call(name, *arguments):
        code = getattr(library, name)(*arguments)
        if code:
            raise _DriverError(f"the NVIDIA driver refuses: {name} gives error {code}")

    def number(name, *arguments, kind=ctypes.c_int):
        value = kind()
        call(name, ctypes.byref(value), *arguments)
        return value.value

    call("cuInit", 0)
    version = number("cuDriverGetVersion")
    if not number("cuDeviceGetCount"):
        raise _DriverError("the NVIDIA driver finds no GPU")
    device, name = number("cuDeviceGet", 0), ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), device)
    memory = number("cuDeviceTotalMem_v2", device, kind=ctypes.c_size_t)
    capability = tuple(number("cuDeviceGetAttribute", which, device) for which in (CAPABILITY_MAJOR, CAPABILITY_MINOR))
    return (version // 1000, version % 1000 // 10), name.value.decode(errors="replace"), memory, capability
