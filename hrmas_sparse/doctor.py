"""What this installation has, what it lacks and how to install that: `hrmas doctor`."""

import platform
import re
from pathlib import Path

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.engine.backends.cuda.probe import probe
from hrmas_sparse.engine.backends.cuda.verdict import verdict
from hrmas_sparse.environment import install, version
from hrmas_sparse.storage import files, memory
from hrmas_sparse.storage.errors import InputError

PACKAGES = ("numpy", "numba", "scipy", "h5py", "tqdm")
WIDEST = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sse4.2", "SSE4.2"), ("sve", "SVE"),
          ("neon", "NEON"))


def report():
    """Look at everything.

    Returns
    -------
    (lines, whether the program works on the CPU)
    """
    lacking = [name for name in PACKAGES if version(name) is None]
    packages = ", ".join(f"{name} {version(name) or 'is missing'}" for name in PACKAGES)
    lines = [f"Python  {platform.python_version()}; {packages}"]
    if lacking:
        return [*lines, f"        {install()}"], False
    cpu, works = _cpu()
    return [*lines, *cpu, *_plots(), *_gpu(probe()), *_checkout()], works


def require_gpu():
    """Refuse a machine without a usable GPU.

    Raises
    ------
    InputError
        With the reason, and the command that installs what is missing.
    """
    gpu = probe()
    if gpu.simulated:
        raise InputError("GPU: NUMBA_ENABLE_CUDASIM is set, so kernels are simulated; unset it")
    if gpu.reason:
        instead = (". Without one, make test runs the kernels in a simulator, and make bench measures the CPU"
                   if environment.checkout() else "")
        raise InputError(f"GPU: {gpu.reason}{instead}")


def self_test():
    """Test the GPU against the CPU, keep the verdict, and return it: lines, and whether all is well.

    Raises
    ------
    InputError
        There is no usable GPU.
    """
    require_gpu()
    from hrmas_sparse.engine import selftest
    from hrmas_sparse.engine.backends import get_backend
    gpu = probe()
    failed = selftest.examine(gpu, get_backend("cuda"))
    if failed:
        return [f"{gpu.device} FAILS, --backend auto does not take it:", *(f"  {line}" for line in failed)], False
    return [f"{gpu.device}: the self-test is passed ({', '.join(selftest.CASES)}, golden numbers)"], True


def kernels_work():
    """Whether Numba compiles one of our formulas as the CPU backend does, and what it computes is right."""
    from numba import njit

    from hrmas_sparse.engine import neuron
    from hrmas_sparse.engine.backends.cpu.compile import OPTIONS
    k = neuron.constants(np.dtype(np.float32), 2.0, 1.0, 1.0, 1.0)
    return njit(**OPTIONS)(neuron.filtered)(k, k.one, k.one) == 1.5


def _cpu():
    """Lines about cores, instructions, memory and the folder of compiled kernels; and whether a kernel runs."""
    from hrmas_sparse.engine.backends.cpu.compile import KERNELS
    name, instructions = instruction_set()
    works = kernels_work()
    return [f"CPU     {environment.cores()} cores, {environment.threads()} threads, {memory.text(memory.available())} "
            f"of memory free; kernels are compiled for {name}, {instructions}" + ("" if works else
                                                                                  "; THEY DO NOT WORK"),
            f"        {_kept(KERNELS)}"], works


def _kept(kernels):
    folder, problem = kernels.place
    if folder is None:
        return (f"kernels are compiled at every start, half a minute: {problem}, so they are not kept; "
                "NUMBA_CACHE_DIR=folder names a folder for them")
    state = "kernels are there" if kernels.compiled else "the first run compiles the kernels, half a minute"
    return f"{folder}: {state}" + (f"; a temporary folder, for {problem}; NUMBA_CACHE_DIR=folder names another"
                                  if problem else "")


def instruction_set():
    """The processor kernels are compiled for, as LLVM and as people call it."""
    from llvmlite import binding
    from numba import config
    name = config.CPU_NAME or binding.get_host_cpu_name()
    features = config.CPU_FEATURES
    if features is None:
        features = "" if name == "generic" else binding.get_host_cpu_features().flatten()
    on = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    return name, next((text for feature, text in WIDEST if feature in on), "no vector instructions")


def driver(path=Path("/proc/driver/nvidia/version")):
    """The version of the NVIDIA driver and a blank, or nothing where it is not told."""
    try:
        match = re.search(r"\s(\d+\.[\d.]+)\s", files.read_system(path))
    except OSError:
        match = None
    return f"{match[1]} " if match else ""


def _plots():
    installed = version("matplotlib")
    return [f"plots   matplotlib {installed}" if installed else f"plots   matplotlib is missing: {install('plots')}"]


def _gpu(gpu):
    """Lines about the GPU."""
    if gpu.simulated:
        return ["GPU     NUMBA_ENABLE_CUDASIM is set: kernels for a GPU run in Python's simulator, slowly"]
    if gpu.device is None:
        have = [f"{name} {number}" for name, number in (("numba-cuda", gpu.numba_cuda), ("CuPy", gpu.cupy))
                if number]
        return [f"GPU     none: {gpu.reason}; everything runs on the CPU",
                *([f"        installed, without use here: {', '.join(have)}"] if have else [])]
    cuda, capability = (".".join(map(str, pair)) for pair in (gpu.driver, gpu.capability))
    lines = [f"GPU     {gpu.device}, {memory.text(gpu.memory)}, compute capability {capability}; driver "
             f"{driver()}for CUDA up to {cuda}; numba-cuda {gpu.numba_cuda or 'is missing'}, "
             f"CuPy {gpu.cupy or 'is missing'}"]
    if gpu.reason:
        return [*lines, f"        not used: {gpu.reason}"]
    failed = verdict(gpu)
    said = ("has passed the self-test" if failed == [] else f"FAILS THE SELF-TEST: {'; '.join(failed)}" if failed else
            "has not been tested yet: hrmas doctor --self-test, or the first search with --backend auto")
    return [*lines, f"        {said}"]


def _checkout():
    """A line where git does not say which version of the program runs."""
    _, problem = environment.commit()
    return [f"git     runs do not note their commit: {problem}"] if problem else []
