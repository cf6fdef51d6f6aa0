"""Launches that keep what Numba would work out again each time: the kernel's handle, and its arguments in memory.

Numba's own way to a launch takes the host 36 to 162 us, about 13 us an array. Here the first launch with arguments of
some types is Numba's; from then on the memory that the driver reads arguments from is kept, and of arrays only the
addresses are written anew, and the shapes where they have changed. One :class:`Kernel` wraps one compiled function and
is launched as Numba's are, ``kernel[grid, block, stream, shared](...)``.

A kernel's parameters, in Numba's order: of an array a pointer to its owner and one to its parent, both 0, the numbers
of its elements and of the bytes of one, its address, its shape, its strides; of a tuple those of its parts; of a number
itself. Each has 8 bytes here, of which the driver reads as many as the parameter has.
"""

import ctypes
import functools
import math

import numpy as np
from numba.cuda.dispatcher import _LaunchConfiguration

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
        self._dispatcher, self._kept = dispatcher, {}

    def __getitem__(self, configuration):
        return functools.partial(self._launch, configuration)

    def _launch(self, configuration, *arguments):
        key = tuple([_kind(x) for x in arguments])
        kept = self._kept.get(key)
        if kept is None:
            self._first(key, configuration, arguments)
        elif kept.launch(configuration, arguments) == NO_CONTEXT:   # a new thread; Numba gives it one
            self._dispatcher[configuration](*arguments)

    def _first(self, key, configuration, arguments):
        """Let Numba compile and launch; keep what it has made if the next ones can be launched here."""
        configured = self._dispatcher[configuration]
        configured(*arguments)
        if isinstance(configured, _LaunchConfiguration) and None not in key:   # not in an emulator
            try:
                made = self._dispatcher.overloads[tuple(map(self._dispatcher.typeof_pyval, arguments))]
                function = made._codelibrary.get_cufunc().kernel.handle
            except AttributeError:   # another version of numba-cuda names them otherwise: it launches
                return
            self._kept[key] = Arguments(self.__qualname__, function, arguments)


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

    def __init__(self, name, function, arguments):
        from cuda.bindings import driver
        self._name, self._function, self._start = name, function, driver.cuLaunchKernel
        length = sum(map(_length, arguments))
        self.words = (ctypes.c_uint64 * length)()
        address = ctypes.addressof(self.words)
        self._parameters = (ctypes.c_void_p * length)(*range(address, address + 8 * length, 8))
        self._at = ctypes.addressof(self._parameters)
        self._slots, first = [], 0
        for x in arguments:
            self._slots.append(_slot(self.words, first, x))
            first += _length(x)

    def launch(self, configuration, arguments):
        """Write the arguments and start the kernel; returns 0, or ``NO_CONTEXT``."""
        for write, x in zip(self._slots, arguments):
            write(x)
        grid, block, stream, shared = (*configuration, 0, 0)[:4]
        x, y = grid if type(grid) is tuple else (grid, 1)
        error, = self._start(self._function, x, y, 1, block, 1, 1, shared, stream, self._at, 0)
        if error and error != NO_CONTEXT:
            raise RuntimeError(f"the kernel {self._name} could not be started: {error!r}")
        return error


def _length(x):
    """Words of an argument."""
    if _on_device(type(x)):
        return WORDS + 2 * x.ndim
    return sum(map(_length, x)) if isinstance(x, tuple) else 1


def _slot(words, first, x):
    """A function that writes an argument like x to ``words``, from one of them on."""
    if _on_device(type(x)):
        return _array(words, first)
    if isinstance(x, tuple):
        starts = [first + sum(map(_length, x[:n])) for n in range(len(x))]
        return _tuple([_slot(words, start, part) for start, part in zip(starts, x)], type(x) is tuple)
    return _number(NUMBERS[type(x)].from_buffer(words, 8 * first))


def _number(cell):
    """As :func:`_slot`, for numbers."""
    def write(x):
        cell.value = x
    return write


def _array(words, first):
    """As :func:`_slot`, for arrays; those before the shape are written once, as is the shape while it is the same."""
    shape_before = None

    def write(x):
        nonlocal shape_before
        words[first + 4] = x.data.ptr
        shape = x.shape
        if shape != shape_before:
            shape_before = shape
            words[first + 2], words[first + 3] = math.prod(shape), x.itemsize
            for n, number in enumerate((*shape, *_strides(shape, x.itemsize)), first + WORDS):
                words[n] = number
    return write


def _strides(shape, itemsize):
    """Strides in bytes of a contiguous array."""
    return [itemsize * math.prod(shape[n + 1:]) for n in range(len(shape))]


def _tuple(slots, changes):
    """As :func:`_slot`, for tuples; the same constants are written once."""
    before = None

    def write(x):
        nonlocal before
        if changes or x is not before:
            for slot, part in zip(slots, x):
                slot(part)
            before = None if changes else x
    return write
