"""How this backend compiles: the formulas of neuron.py and exponentials as device functions, kernels on first use.

Literals in device code are float32 that float64 holds exactly, or the constants k: they promote nothing. Fused
multiply-adds are on (CUDA's default), fastmath is off: NaN and Inf must stop a run.
"""

import math
import os
from types import SimpleNamespace

import numpy as np
from numba import config, cuda

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends.cuda.footprint import REGISTERS

# CuPy and Numba share the default stream here; without the first Numba would wait for the GPU at every launch. Fewer
# samples than multiprocessors, of which Numba warns, is our case. Set where Numba looks, for it has read its
# environment already; what a user has set there stays.
for option in ("CUDA_ARRAY_INTERFACE_SYNC", "CUDA_LOW_OCCUPANCY_WARNINGS"):
    if f"NUMBA_{option}" not in os.environ:
        os.environ[f"NUMBA_{option}"] = "0"    # Numba reads it again when another of its variables has changed
        setattr(config, option, 0)


def jit(function, registers=REGISTERS):
    """Compile a kernel, on first use; a block of 1,024 threads fits only if none takes more than 64 registers."""
    if config.ENABLE_CUDASIM:
        return cuda.jit(function)
    from hrmas_sparse.engine.backends.cuda.kept import Kernel
    return Kernel(cuda.jit(max_registers=registers)(function))


def device(function):
    """Compile a function that kernels call."""
    return cuda.jit(device=True)(function)


def ptx(kernel, types, capability):
    """Return the PTX of a kernel for the types of its arguments and a compute capability; needs no GPU."""
    from numba.cuda import compile as compiled
    from numba.cuda import dispatcher
    before = dispatcher.get_current_device   # asked for the capability that functions of the device are compiled for
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        return compiled(kernel.py_func, types, cc=capability, device=False, abi="numba")[0]
    finally:
        dispatcher.get_current_device = before


filtered = device(neuron.filtered)
membrane = device(neuron.membrane)
fires = device(neuron.fires)
after_reset = device(neuron.after_reset)
timing_error = device(neuron.timing_error)
surrogate_error = device(neuron.surrogate_error)
through_time_error = device(neuron.through_time_error)
by_resistance = device(neuron.by_resistance)
by_time_constant = device(neuron.by_time_constant)
smooth_error = device(neuron.smooth_error)
calcium = device(neuron.calcium)
plastic_resistance = device(neuron.plastic_resistance)
plastic_time_constant = device(neuron.plastic_time_constant)

_EIGHT = np.float32(8)


@device
def logistic(k, x):
    """The logistic function; used by the smooth variant only."""
    return k.one / (k.one + math.exp(-x))


@device
def logistic_slope(k, x):
    """Derivative of the logistic function, its argument clipped to [-8, 8] (mathematics 5)."""
    size = abs(x)
    e = k.one * math.exp(-(_EIGHT if size > _EIGHT else size))  # not min: on a GPU it would turn a NaN into the bound
    return e / ((k.one + e) * (k.one + e))


@device
def slope_at(k, v):
    """The surrogate's slope at a membrane potential, without its height."""
    return logistic_slope(k, (v - k.v_th) * k.inv_width)


@device
def expm1_small(x):
    """exp(x) - 1."""
    return math.expm1(x)
