"""How this backend compiles: one set of Numba options, the formulas of neuron.py, and exponentials.

fastmath is chosen here alone. ``contract`` lets a multiply and an add become one instruction; nothing
is allowed that reorders sums (determinism) or assumes away NaN and Inf (they must stop a run).
"""

import math
from pathlib import Path

import numpy as np
from numba import types
from numba.extending import overload

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends import base
from hrmas_sparse.storage.kernels import Kernels

# Without Numba's run time (_nrt) kernels cannot make arrays, and do not count references to those they are given:
# a slice would cost two atomic operations.
OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True, "_nrt": False}
SOURCES: list[str | Path] = [neuron.__file__, base.__file__, *sorted(Path(__file__).parent.glob("*.py"))]
KERNELS = Kernels(SOURCES, **OPTIONS)
jit = KERNELS.jit
exact = Kernels(SOURCES, **OPTIONS | {"fastmath": False}).jit  # rounds where NumPy does


filtered = jit(neuron.filtered)
membrane = jit(neuron.membrane)
fires = jit(neuron.fires)
after_reset = jit(neuron.after_reset)
timing_error = jit(neuron.timing_error)
surrogate_error = jit(neuron.surrogate_error)
through_time_error = jit(neuron.through_time_error)
by_resistance = jit(neuron.by_resistance)
by_time_constant = jit(neuron.by_time_constant)
smooth_error = jit(neuron.smooth_error)
calcium = jit(neuron.calcium)
plastic_resistance = jit(neuron.plastic_resistance)
plastic_time_constant = jit(neuron.plastic_time_constant)


def logistic(x):
    """The logistic function, exact; used by the smooth variant only."""
    return 1 / (1 + math.exp(-x))


logistic = jit(logistic)

# exp(-z) on [0, 1/2] to 1e-8: (that of z = y/16)^16 is exp(-y) on [0, 8] to 2e-6. Numba's wheels have no
# vector math library, so math.exp would keep the loop around it scalar.
_E0, _E1, _E2, _E3, _E4, _E5 = (np.float32(c) for c in np.polynomial.Chebyshev.interpolate(
    lambda z: np.exp(-z), 5, domain=[0, 0.5]).convert(kind=np.polynomial.Polynomial).coef)
_ZERO32, _ONE32, _EIGHT32, _SIXTEENTH = (np.float32(c) for c in (0, 1, 8, 1 / 16))


def logistic_slope(x):
    """Derivative of the logistic function, its argument clipped to [-8, 8] (mathematics 5)."""
    e = math.exp(-min(abs(x), 8.0))
    return e / ((1 + e) * (1 + e))


@overload(logistic_slope, jit_options=OPTIONS)
def _logistic_slope(x):
    if x is not types.float32:
        return logistic_slope

    def polynomial(x):
        z = min(abs(x), _EIGHT32) * _SIXTEENTH
        e = ((((_E5 * z + _E4) * z + _E3) * z + _E2) * z + _E1) * z + _E0
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        return e / ((_ONE32 + e) * (_ONE32 + e))

    return polynomial


# expm1(x)/x on [0, 1.6] by its series, to 4e-8: SpiKL-IP asks for it at 1/(tau y) < 1/0.64 only.
_S = tuple(np.float32(1 / math.factorial(n + 1)) for n in range(13))
_REACH = np.float32(1.6)


def expm1_small(x):
    """exp(x) - 1; in float32 only for 0 <= x <= 1.6 (larger x are taken as 1.6)."""
    return math.expm1(x)


@overload(expm1_small, jit_options=OPTIONS)
def _expm1_small(x):
    if x is not types.float32:
        return expm1_small

    def series(x):
        x = min(x, _REACH)
        r = _S[12]
        r = r * x + _S[11]
        r = r * x + _S[10]
        r = r * x + _S[9]
        r = r * x + _S[8]
        r = r * x + _S[7]
        r = r * x + _S[6]
        r = r * x + _S[5]
        r = r * x + _S[4]
        r = r * x + _S[3]
        r = r * x + _S[2]
        r = r * x + _S[1]
        r = r * x + _S[0]
        return r * x

    return series
