"""Where compiled kernels are kept on disk.

Numba notices when the file of a kernel changes, but not when a file it calls into does, such as neuron.py. So the
kernels have a folder whose name carries a checksum of all that is compiled, and of where it lies: Numba compiles
anew for every checkout, and the user is warned before that.
"""

import contextlib
import functools
import hashlib
import os
from pathlib import Path

from numba import config

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends import base


@functools.cache
def folder():
    """Return the folder for these very sources: below ``NUMBA_CACHE_DIR`` if set, else below the user's cache."""
    sources = [Path(neuron.__file__), Path(base.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    contents = b"".join(source.read_bytes() for source in sources)
    digest = hashlib.sha256(str(Path(__file__).resolve()).encode() + contents).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("NUMBA_CACHE_DIR") or os.path.join(home, "hrmas_sparse")) / digest


@contextlib.contextmanager
def used():
    """Let Numba keep kernels in :func:`folder` that are declared while the block runs; then as it was before."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder())
    try:
        yield
    finally:
        config.CACHE_DIR = before


def compiled(folder):
    """Whether a folder has compiled kernels of this backend; Numba makes folders for those declared, too."""
    return any(folder.glob("cpu_*/*.nbc"))
