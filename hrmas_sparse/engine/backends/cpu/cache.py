"""Where compiled kernels are kept on disk.

Numba notices when the file of a kernel changes, but not when a file it calls into does, such as
neuron.py. So the folder's name carries a checksum of everything that is compiled, and of where it lies: Numba
compiles anew for every checkout, and who waits for that is to be told.
"""

import hashlib
import os
from pathlib import Path

from numba import config

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends import base


def use_own_folder():
    """Point Numba's cache at a folder for these very sources; return whether kernels are there already.

    The folder is made below ``NUMBA_CACHE_DIR`` if that is set, else below the user's cache.
    """
    sources = [Path(neuron.__file__), Path(base.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    contents = b"".join(source.read_bytes() for source in sources)
    digest = hashlib.sha256(str(Path(__file__).resolve()).encode() + contents).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or os.path.join(home, "hrmas_sparse")) / digest
    config.CACHE_DIR = str(folder)
    return compiled(folder)


def compiled(folder):
    """Whether a folder has compiled kernels of this backend; Numba makes folders for those declared, too."""
    return any(folder.glob("cpu_*/*.nbc"))
