"""Where a network is simulated. ``get_backend`` is the one way in."""

from hrmas_sparse.errors import InputError

NAMES = ("auto", "cpu")


def get_backend(name="auto", threads=None):
    """Return a backend by name.

    Parameters
    ----------
    name : "auto" or "cpu"
    threads : int, optional
        Worker threads of the CPU backend; default ``NUMBA_NUM_THREADS``, else all cores. Results do not
        depend on it.

    Raises
    ------
    InputError
        The name is unknown.
    """
    if name in ("auto", "cpu"):
        from hrmas_sparse.backends.cpu import CpuBackend
        return CpuBackend(threads)
    raise InputError(f"backend: expected one of {', '.join(NAMES)}, found {name!r}")
