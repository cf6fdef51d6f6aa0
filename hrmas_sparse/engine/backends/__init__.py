"""Where a network is simulated. ``get_backend`` is the one way in."""

from hrmas_sparse.storage.errors import InputError

NAMES = ("auto", "cpu", "cuda")


def get_backend(name="auto", threads=None):
    """Return a backend by name.

    Parameters
    ----------
    name : "auto", "cpu" or "cuda"; "auto" takes a GPU if there is one that can be used and has passed the self-test
        (``hrmas doctor --self-test``), else the CPU, and says so in the backend's ``notice``. "cuda" takes it
        untested, and says that
    threads : int, optional
        Worker threads of the CPU backend; default ``NUMBA_NUM_THREADS``, else all cores. Results do not
        depend on it.

    Raises
    ------
    InputError
        The name is unknown, or no GPU can be used for "cuda"; the reason is given.
    """
    check_usable(name)
    if name == "cpu":
        return _cpu(threads)
    from hrmas_sparse.engine.backends.cuda import probe
    gpu = probe()
    if gpu.reason or (name == "auto" and gpu.simulated):
        return _cpu(threads, gpu.reason or "the CUDA simulator is for tests")
    doubt = "" if gpu.simulated else _doubt(gpu)
    if name == "auto" and doubt:
        return _cpu(threads, doubt)
    from hrmas_sparse.engine.backends.cuda.backend import CudaBackend
    backend = CudaBackend()
    if not (doubt or gpu.simulated):
        backend.use_graphs()
    backend.notice = doubt or (f"using {gpu.device}, which has passed the self-test" if name == "auto" else "")
    return backend


def _doubt(gpu):
    """Why a GPU's results are not to be trusted; empty if it has passed the self-test."""
    from hrmas_sparse.engine.backends.cuda.verdict import verdict
    failed = verdict(gpu)
    if failed is None:
        return f"{gpu.device} has not passed the self-test yet: hrmas doctor --self-test"
    return f"{gpu.device} FAILS THE SELF-TEST: {'; '.join(failed)}" if failed else ""


def check_usable(name):
    """Refuse, as :func:`get_backend` does, a backend that is unknown or cannot be used; nothing is started."""
    if name not in NAMES:
        raise InputError(f"backend: expected one of {', '.join(NAMES)}, found {name!r}")
    if name == "cuda":
        from hrmas_sparse.engine.backends.cuda import probe
        reason = probe().reason
        if reason:
            raise InputError(f"backend cuda: {reason}. --backend cpu (BACKEND=cpu) needs no GPU")


def on_gpu(name):
    """Whether :func:`get_backend` would simulate on a GPU; asked without starting anything there."""
    if name != "auto":
        return name == "cuda"
    from hrmas_sparse.engine.backends.cuda import probe
    gpu = probe()
    return not (gpu.reason or gpu.simulated or _doubt(gpu))


def _cpu(threads, why=""):
    from hrmas_sparse.engine.backends.cpu.backend import CpuBackend
    backend = CpuBackend(threads)
    if why:
        backend.notice = "; ".join(filter(None, [f"using the CPU ({why})", backend.notice]))
    return backend
