"""Products of matrices by cuBLAS itself, as CuPy's matmul has them, for CuPy refuses to have them in a CUDA graph.

cuBLAS is called on the stream of what is being recorded, see started.py, with memory of its own that is always the
same: so a product has the same bits in a graph and outside. Where cuBLAS cannot be called, or gives other numbers than
CuPy for two small matrices, CuPy's matmul does it, and there are no graphs.

Shapes: M products of (m, k) and (k, n); all arrays C-contiguous.
"""

import ctypes
import functools

import numpy as np
from numba import config

from hrmas_sparse.engine.backends.cuda.arrays import xp
from hrmas_sparse.engine.backends.cuda.started import NOW

WORKSPACE = 32 << 20   # bytes that cuBLAS may use, what NVIDIA recommends for an H100
GEMM = {"f": ("cublasSgemmStridedBatched", ctypes.c_float), "d": ("cublasDgemmStridedBatched", ctypes.c_double)}


class CuBlas:
    """cuBLAS with a handle and memory of its own."""

    def __init__(self, library):
        self._library, self._handle = library, ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._memory, self._stream, self._gemm = xp.empty(WORKSPACE, np.uint8), None, {}
        for kind, (name, number) in GEMM.items():
            function = getattr(library, name)
            function.argtypes = [ctypes.c_void_p, *[ctypes.c_int] * 5, ctypes.c_void_p,
                                 *[ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong] * 2, ctypes.c_void_p,
                                 ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong, ctypes.c_int]
            self._gemm[kind] = function, *map(ctypes.pointer, (number(1), number(0)))
        self.on(0)

    def _call(self, name, *arguments):
        error = getattr(self._library, name)(*arguments)
        if error:
            raise RuntimeError(f"{name}: cuBLAS error {error}")

    def on(self, stream):
        """Start products on a stream of the driver from now on."""
        self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
        self._call("cublasSetWorkspace_v2", self._handle, ctypes.c_void_p(self._memory.data.ptr),
                   ctypes.c_size_t(WORKSPACE))

    def multiply(self, a, b, out, transpose_a, transpose_b):
        """out = a b, or of their transposes; all of one type."""
        if NOW.held is not None:
            NOW.held.append((a, b, out))
        batch, m, n = out.shape
        k = a.shape[1 if transpose_a else 2]
        gemm, one, zero = self._gemm[out.dtype.char]
        # To cuBLAS, which counts down columns first, our arrays are their own transposes: out' = b' a'.
        error = gemm(self._handle, transpose_b, transpose_a, n, m, k, one, b.data.ptr, b.shape[2], n * k, a.data.ptr,
                     a.shape[2], m * k, zero, out.data.ptr, n, m * n, batch)
        if error:
            raise RuntimeError(f"a product of matrices: cuBLAS error {error}")


def library():
    """The library of cuBLAS; None where there is none, or no device."""
    if config.ENABLE_CUDASIM:
        return None
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except Exception:   # none of the versions that we know of
        return None


@functools.cache
def direct():
    """cuBLAS to be called directly, or None."""
    found = library()
    if found is None:
        return None
    try:
        made = CuBlas(found)
        for dtype in (np.float32, np.float64):
            a, b = (xp.arange(24, dtype=dtype).reshape(2, 3, 4) for _ in range(2))
            out = xp.empty((2, 4, 4), dtype)
            made.multiply(a, b, out, True, False)
            if not (out == xp.matmul(a.transpose(0, 2, 1), b)).all():   # small whole numbers: exact in any order
                return None
        return made
    except Exception:   # whatever it is, CuPy's products are there
        return None


def product(a, b, transpose_a=False, transpose_b=False, out=None):
    """Return the products a b, (M, m, n), or those of the transposes of the matrices that are said to be transposed.

    a : (M, m, k), or transposed (M, k, m); b : (M, k, n), or transposed (M, n, k); out : where they go
    """
    blas = direct()
    if blas is None:
        a, b = a.transpose(0, 2, 1) if transpose_a else a, b.transpose(0, 2, 1) if transpose_b else b
        return xp.matmul(a, b, out=out)
    if out is None:
        out = xp.empty((len(a), a.shape[2 if transpose_a else 1], b.shape[1 if transpose_b else 2]), a.dtype)
    blas.multiply(a, b, out, transpose_a, transpose_b)
    return out
