"""The CUDA simulator without its polling, and stricter; and arrays as strict as CuPy's.

Numba's own waits for the threads of a block in a busy loop, which on a loaded machine takes the time the threads
need. Here they meet at a barrier, all of them: a thread that leaves before the others' barrier, which a GPU may hang
on and Numba's simulator lets pass, breaks it.
"""

import collections
import contextlib
import functools
import threading

import numpy as np
from numba.cuda.simulator import kernel

from hrmas_sparse.engine.backends.cuda import launch

PATIENCE = 600  # seconds a thread waits for the rest of its block


def one_thread_a_block(patch):
    """Launch blocks of one thread while a pytest.MonkeyPatch lasts: more are slow here, and tested elsewhere."""
    patch.setattr(launch, "THREADS", 1)
    patch.setattr(launch, "TILE", 1)


def run(manager, grid_point, *arguments):
    """Stands in for BlockManager.run: one block, every thread a Python thread; a block of one runs in ours."""
    if np.prod(manager._block_dim) == 1:
        alone(manager, grid_point, *arguments)
    else:
        together(manager, grid_point, *arguments)


def alone(manager, grid_point, *arguments):
    """A block of one thread."""
    thread = threading.current_thread()
    thread.blockIdx, thread.threadIdx = kernel.Dim3(*grid_point), kernel.Dim3(0, 0, 0)
    thread.syncthreads = lambda: None
    manager._f(*arguments)


def together(manager, grid_point, *arguments):
    """A block of several threads."""
    barrier = threading.Barrier(int(np.prod(manager._block_dim)))

    def work():
        try:
            manager._f(*arguments)
        except BaseException:
            barrier.abort()
            raise

    threads = [kernel.BlockThread(work, manager, grid_point, point, manager._debug)
               for point in np.ndindex(*manager._block_dim)]
    for thread in threads:
        thread.syncthreads = lambda: barrier.wait(PATIENCE)
        thread.start()
    for thread in threads:
        thread.join()
    failed = [thread.exception for thread in threads if thread.exception]
    if failed:
        first = next((e for e in failed if not isinstance(e[0], threading.BrokenBarrierError)), failed[0])
        raise first[0].with_traceback(first[1])


class Operations(collections.Counter):
    """What CuPy would launch, by name, while a ``with`` block runs; copies to the device are ``to the device``.

    What an operation does inside is its own matter: one is one, even where NumPy takes two.
    """

    counting, depth = None, 0
    FREE = {"empty", "empty_like", "reshape", "shape", "may_share_memory", "broadcast_to"}   # no launch
    CARRY = {"asarray", "ascontiguousarray", "array"}

    def __enter__(self):
        Operations.counting = self
        return self

    def __exit__(self, *_):
        Operations.counting = None

    @classmethod
    @contextlib.contextmanager
    def seen(cls, name, arguments=()):
        """Count an operation, not those inside it."""
        carried = name in cls.CARRY and not any(isinstance(x, DeviceArray) for x in arguments)
        if cls.counting is not None and not cls.depth and name not in cls.FREE | (cls.CARRY if not carried else set()):
            cls.counting["to the device" if carried else name] += 1
        cls.depth += 1
        try:
            yield
        finally:
            cls.depth -= 1


def _method(name):
    """A method of NumPy's array that is an operation of the device."""
    real = getattr(np.ndarray, name)

    def method(self, *arguments, **options):
        with Operations.seen(name):
            return real(self, *arguments, **options)

    return method


def _reduction(name):
    """A method that CuPy has, though it is made of a ufunc's method that it has not."""
    def method(self, *arguments, **options):
        with Operations.seen(name):
            return _wrapped(getattr(_plain(self), name)(*arguments, **options))

    return method


def _astype(self, dtype, *arguments, copy=True, **options):
    """As CuPy's, which launches nothing where nothing is to be done."""
    if not copy and self.dtype == dtype:
        return self
    with Operations.seen("astype"):
        return np.ndarray.astype(self, dtype, *arguments, copy=copy, **options)


def _chosen(index):
    """Whether an index is made of arrays, which is a launch, and not a view."""
    return isinstance(index, np.ndarray) or isinstance(index, tuple) and any(isinstance(x, np.ndarray) for x in index)


# What of NumPy CuPy 14 lacks, and what it has but not for ufuncs of every kind.
CONVERT = {name: getattr(np, name) for name in ("array", "asarray", "asanyarray", "ascontiguousarray")}
REDUCED = {("reduce", np.add), ("reduce", np.multiply)}
LACKING = {"block", "einsum_path", "histogram_bin_edges", "insert", "nanpercentile", "nanquantile", "unstack"}


class DeviceArray(np.ndarray):
    """Stands in for CuPy's array, of what is used of it: refuses what that refuses, and counts what the host waits for.

    It does not mix with NumPy's own, nor becomes one of those unless it is asked to. Not noticed are copies into one of
    NumPy's, ``host[...] = there``, which CuPy refuses.
    """

    waits = 0
    copy, repeat, argmax, take, fill = map(_method, ("copy", "repeat", "argmax", "take", "fill"))
    max, min, any, all = map(_reduction, ("max", "min", "any", "all"))
    astype = _astype

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        with Operations.seen(ufunc.__name__):
            return self._applied(ufunc, method, inputs, out, options)

    def _applied(self, ufunc, method, inputs, out, options):
        if method != "__call__" and (method, ufunc) not in REDUCED:
            raise NotImplementedError(f"`cupy_{ufunc.__name__}.{method}` is not supported yet")
        if out:
            options["out"] = tuple(_plain(x) for x in out)
        found = getattr(ufunc, method)(*(_plain(x) for x in inputs), **options)
        return out[0] if out else _wrapped(found)

    def __array_function__(self, function, types, arguments, options):
        with Operations.seen(function.__name__, arguments):
            return self._called(function, arguments, options)

    def _called(self, function, arguments, options):
        if function.__name__ in LACKING:
            raise TypeError(f"CuPy has no {function.__name__}")
        options.pop("like", None)
        carries = function.__name__ in ("asarray", "arange")   # with like=, which is how NumPy's own get here
        return _wrapped(function(*(x if carries else _plain(x) for x in arguments),
                                 **{key: _plain(x) for key, x in options.items()}))

    def __getitem__(self, index):
        with Operations.seen("gather") if _chosen(index) else contextlib.nullcontext():
            return _wrapped(_plain(self)[_plain(index)])

    def __setitem__(self, index, value):
        with Operations.seen("scatter" if _chosen(index) else "fill"):
            _plain(self)[_plain(index)] = _plain(value)

    @classmethod
    def waited(cls):
        """How often the host has waited since it was last asked."""
        found, cls.waits = cls.waits, 0
        return found

    def __float__(self):
        DeviceArray.waits += 1
        return float(_plain(self))

    def __bool__(self):
        DeviceArray.waits += 1
        return bool(_plain(self))


def _plain(x):
    """The array behind; refuses a NumPy array where the device's are meant."""
    if isinstance(x, DeviceArray):
        return x.view(np.ndarray)
    if isinstance(x, np.ndarray) and x.ndim:
        raise TypeError("an array of the host met one of the device")
    return type(x)(_plain(y) for y in x) if type(x) in (tuple, list) else x


def _wrapped(found):
    """What CuPy gives back: arrays of the device, of no dimension where NumPy has numbers."""
    if isinstance(found, tuple):
        return tuple(_wrapped(x) for x in found)
    return CONVERT["asarray"](found).view(DeviceArray) if isinstance(found, (np.ndarray, np.generic)) else found


class DeviceModule:
    """Stands in for the module cupy."""

    def __getattr__(self, name):
        found = CONVERT.get(name) or getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found
        carries = name in ("asarray", "ascontiguousarray")

        def function(*arguments, **options):
            with Operations.seen(name, arguments):
                plain = (x if carries else _plain(x) for x in arguments)
                return _wrapped(found(*plain, **{key: _plain(x) for key, x in options.items()}))

        setattr(self, name, function)  # the same one next time, as a module's is
        return function


def checked(call):
    """A kernel's call with the arrays behind those of the device; refuses NumPy's own, which would travel."""
    def launched(self, *arguments):
        if self._device or kernel._kernel_context is not None:  # a function of the device, called by a kernel
            return call(self, *arguments)
        return call(self, *(_plain(x) if isinstance(x, (np.ndarray, tuple)) else x for x in arguments))

    return launched


def _has_any(values):
    """Whether an array of the device is among values, or in a list or tuple there."""
    return any(isinstance(x, DeviceArray) or isinstance(x, (list, tuple)) and _has_any(x) for x in values)


def explicit(convert):
    """A function of NumPy that makes an array of anything, but not of one of the device: CuPy refuses that.

    With ``subok=False`` it is asked for, as CuPy's ``get`` is.
    """
    @functools.wraps(convert)
    def converted(*arguments, **options):
        if "subok" not in options and "like" not in options and _has_any((*arguments, *options.values())):
            raise TypeError("implicit conversion of an array of the device to one of NumPy's")
        return convert(*arguments, **options)

    return converted


def install():
    """Use all of it; before the backend is loaded."""
    for name, convert in CONVERT.items():
        setattr(np, name, explicit(convert))
    kernel.BlockManager.run = run
    kernel.FakeCUDAKernel.__call__ = checked(kernel.FakeCUDAKernel.__call__)
    from hrmas_sparse.engine.backends.cuda import arrays
    arrays.xp = DeviceModule()
