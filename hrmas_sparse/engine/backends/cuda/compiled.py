"""What numba-cuda has compiled. The one place that knows what numba-cuda does not promise, and asks whether it is so.

That is where a kernel's code is found, and which parameters an array is to a kernel. Where another version of
numba-cuda has either otherwise, nothing is found, and kernels are launched as Numba launches them, which costs the host
more, and there are no CUDA graphs.
"""

import functools
from typing import Any, NamedTuple

from numba import types

ARRAY = "meminfo", "parent", "nitems", "itemsize", "data", "shape", "strides"   # parameters of an array


class Code(NamedTuple):
    """A kernel for arguments of some types."""

    kernel: Any     # cuda.core's
    name: str       # of its function
    binary: Any     # machine code, bytes


def launches(configured) -> bool:
    """Whether kernel[grid, block] is Numba's, not an emulator's."""
    return type(configured).__module__.startswith("numba.")


@functools.cache
def as_known() -> bool:
    """Whether arrays become the parameters that kept.py writes."""
    try:
        from numba.cuda import descriptor
        models = descriptor.cuda_target.target_context.data_model_manager
        return tuple(models.lookup(types.Array(types.float32, 2, "C"))._fields) == ARRAY
    except Exception:   # a version that has no such thing
        return False


def of(dispatcher, arguments) -> Code | None:
    """Return the code of a kernel that has been launched with some arguments; None where it is not found."""
    try:
        library = dispatcher.overloads[tuple(map(dispatcher.typeof_pyval, arguments))]._codelibrary
        found = Code(library.get_cufunc().kernel, library._entry_name, library.get_cubin().code)
        return found if as_known() and found.kernel.handle else None
    except Exception:   # a version that has them elsewhere; the launch itself has succeeded
        return None
