"""Files that are written whole or not at all, locks and memory."""

import os

from hrmas_sparse.environment import UNSUPPORTED

if os.name != "posix":
    raise ImportError(UNSUPPORTED)
