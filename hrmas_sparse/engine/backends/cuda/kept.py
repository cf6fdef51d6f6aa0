"""Launches that keep what Numba would work out again each time: the kernel's handle, and its arguments in memory.

Numba's own way to a launch takes the host 36 to 162 us, about 13 us an array. Here the first launch with arguments of
some types is Numba's, unless the code is on disk, see binaries.py; from then on the memory that the driver reads
arguments from is kept, and of arrays only the addresses are written anew, and the shapes where they have changed. A
:class:`Kernel` wraps a compiled function and is launched as Numba's are, ``kernel[grid, block, stream, shared](...)``.

A kernel's parameters, in Numba's order: of an array a pointer to its owner and one to its parent, both 0, the numbers
of its elements and of the bytes of one, its address, its shape, its strides; of a tuple those of its parts; of a number
itself. Each has 8 bytes here, of which the driver reads as many as the parameter has.
"""

import ctypes
import functools
import math

import numpy as np
from cuda.bindings.driver import cuLaunchKernel
from numba import cuda

from hrmas_sparse.engine.backends.cuda import binaries, compiled
from hrmas_sparse.engine.backends.cuda.started import NOW

NO_CONTEXT = 201   # CUDA_ERROR_INVALID_CONTEXT
WORDS = 5   # of an array before its shape
NUMBERS = {bool: ctypes.c_bool, int: ctypes.c_int64, float: ctypes.c_double, np.int32: ctypes.c_int32,
           np.uint32: ctypes.c_uint32, np.int64: ctypes.c_int64, np.float32: ctypes.c_float,
           np.float64: ctypes.c_double}


class Kernel:
    """A function that ``numba.cuda.jit`` has taken, launched from kept arguments."""

    def __init__(self, dispatcher):
        functools.update_wrapper(self, dispatcher.py_func)
        self.py_func, self.targetoptions = dispatcher.py_func, dispatcher.targetoptions
        self._dispatcher, self._kept = dispatcher, []    # for arguments of some types each

    def __getitem__(self, configuration):
        return functools.partial(self._launch, configuration)

    def _launch(self, configuration, *arguments):
        if NOW.held is not None:
            NOW.held.append(arguments)
        for kept in self._kept:
            if kept.take(arguments):
                kept.launch(configuration)
                return
        self._first(configuration, arguments)

    def _first(self, configuration, arguments):
        """Launch what was kept on disk; or let Numba compile and launch, and keep what it has made if it can be."""
        configured, kinds = self._dispatcher[configuration], tuple([_kind(x) for x in arguments])
        if not compiled.launches(configured) or None in kinds:   # in an emulator; or types unknown here
            configured(*arguments)
            return
        if NOW.stream:
            raise RuntimeError(f"{self.__qualname__} is not compiled for these arguments yet")
        cuda.current_context()
        kernel = binaries.load(self, kinds) if compiled.as_known() else None
        if kernel is not None:
            self._keep(kernel, arguments).launch(configuration)
            return
        configured(*arguments)
        code = compiled.of(self._dispatcher, arguments)
        if code is not None:
            self._keep(code.kernel, arguments)
            binaries.keep(self, kinds, code)

    def _keep(self, kernel, arguments):
        kept = Arguments(self.__qualname__, kernel, arguments)
        kept.take(arguments)
        self._kept.append(kept)
        return kept


@functools.cache
def _on_device(kind):
    """Whether a type is that of arrays on a device, CuPy's; asked of the type, for an array would have to answer."""
    return hasattr(kind, "__cuda_array_interface__")


def _kind(x):
    """What the types of a kernel's parameters depend on; None for what is left to Numba."""
    kind = type(x)
    if _on_device(kind):
        return (x.dtype.char, x.ndim) if x.flags.c_contiguous else None
    if kind is tuple:
        kinds = tuple([_kind(part) for part in x])
        return None if None in kinds else kinds
    return (kind, type(x[0])) if isinstance(x, tuple) else kind if kind in NUMBERS else None


class Arguments:
    """The memory of a kernel's arguments, for arguments of some types."""

    def __init__(self, name, kernel, arguments):
        self._name, self._kernel, self._function = name, kernel, kernel.handle   # the code lives as long as its kernel
        length = sum(map(_length, arguments))
        self.words = (ctypes.c_uint64 * length)()
        address = ctypes.addressof(self.words)
        self._parameters = (ctypes.c_void_p * length)(*range(address, address + 8 * length, 8))
        self._at = ctypes.addressof(self._parameters)
        self._slots, first = [], 0
        for x in arguments:
            self._slots.append(_slot(self.words, first, x))
            first += _length(x)

    def take(self, arguments):
        """Write the arguments; returns whether they are of these types, for else what is written is of no use."""
        for write, x in zip(self._slots, arguments):
            if not write(x):
                return False
        return True

    def launch(self, configuration):
        """Start the kernel with what was taken."""
        grid, block, _, shared = (*configuration, 0, 0)[:4]
        x, y = grid if type(grid) is tuple else (grid, 1)
        given = self._function, x, y, 1, block, 1, 1, shared, NOW.stream, self._at, 0
        error, = cuLaunchKernel(*given)
        if error == NO_CONTEXT:   # a new thread
            cuda.current_context()
            error, = cuLaunchKernel(*given)
        if error:
            raise RuntimeError(f"the kernel {self._name} could not be started: {error!r}")


def _length(x):
    """Words of an argument."""
    if _on_device(type(x)):
        return WORDS + 2 * x.ndim
    return sum(map(_length, x)) if isinstance(x, tuple) else 1


def _slot(words, first, x):
    """A function that writes an argument to ``words``, from one of them on, if it is of x's type; returns whether."""
    if _on_device(type(x)):
        return _array(words, first, x)
    if isinstance(x, tuple):
        starts = [first + sum(map(_length, x[:n])) for n in range(len(x))]
        slots = [_slot(words, start, part) for start, part in zip(starts, x)]
        return _tuple(slots) if type(x) is tuple else _constants(slots, type(x), type(x[0]))
    return _number(NUMBERS[type(x)].from_buffer(words, 8 * first), type(x))


def _number(cell, kind):
    """As :func:`_slot`, for numbers."""
    def write(x):
        if type(x) is not kind:
            return False
        cell.value = x
        return True
    return write


def _array(words, first, like):
    """As :func:`_slot`, for arrays; those before the shape are written once, as is the shape while it is the same."""
    kind, dtype, ndim, itemsize, shape_before = type(like), like.dtype, like.ndim, like.itemsize, None

    def write(x):
        nonlocal shape_before
        if type(x) is not kind or x.dtype != dtype or not x.flags.c_contiguous:
            return False
        shape = x.shape
        if shape != shape_before:
            if len(shape) != ndim:
                return False
            shape_before = shape
            words[first + 2], words[first + 3] = math.prod(shape), itemsize
            for n, number in enumerate((*shape, *_strides(shape, itemsize)), first + WORDS):
                words[n] = number
        words[first + 4] = x.data.ptr
        return True
    return write


def _strides(shape, itemsize):
    """Strides in bytes of a contiguous array."""
    return [itemsize * math.prod(shape[n + 1:]) for n in range(len(shape))]


def _tuple(slots):
    """As :func:`_slot`, for tuples of arrays."""
    def write(x):
        if type(x) is not tuple or len(x) != len(slots):
            return False
        for slot, part in zip(slots, x):
            if not slot(part):
                return False
        return True
    return write


def _constants(slots, kind, of):
    """As :func:`_slot`, for named tuples of numbers of a type; the same ones are written once."""
    before = None

    def write(x):
        nonlocal before
        if x is before:
            return True
        if type(x) is not kind or type(x[0]) is not of:
            return False
        before = x if all([slot(part) for slot, part in zip(slots, x)]) else None
        return before is not None
    return write
