"""Compile the kernels of training in two processes, while the one that needs them reads its recordings.

Numba compiles one kernel at a time in a process, and a first run needs two that are large, forward and backward. A
process of precompile.py for each leaves it in the folder of kernels, where it lies when it is wanted.
"""

import subprocess
import sys

import numpy as np

from hrmas_sparse.engine.backends.cpu.compile import KERNELS

PARTS = "forward", "backward"
PROGRAM = "hrmas_sparse.engine.backends.cpu.precompile"
DTYPE = np.dtype(np.float32)   # of runs
PATIENCE = 900                 # seconds, of a busy machine; then the one that waits compiles for itself
_running: dict[str, subprocess.Popen] = {}


def start():
    """Start what is not compiled yet, where it can be kept; it ends with the pipe that this process holds."""
    folder = KERNELS.place.folder
    for part in PARTS if folder else ():
        if part not in _running and not any(folder.glob(f"*/blocks.{part}-*.nbc")):
            try:
                _running[part] = subprocess.Popen([sys.executable, "-m", PROGRAM, part], stdin=subprocess.PIPE,
                                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                                  start_new_session=True)  # it hears no Ctrl-C
            except OSError:  # no process more is allowed, say: whoever calls a kernel compiles it
                return


def wait(part, dtype):
    """Wait until a part is compiled, if that has been started; if it fails, whoever calls a kernel compiles it."""
    process = _running.get(part) if dtype == DTYPE else None
    if process is not None:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        _running.pop(part, None)
