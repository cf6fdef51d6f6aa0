"""Compile the kernels of training in two processes, while the one that needs them reads its recordings.

Numba compiles one kernel at a time in a process, and a first run needs two that are large, forward and backward. Here
each is called on a layer in which nothing happens, so that it lies in the folder of kernels when it is wanted.
"""

import atexit
import subprocess
import sys

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.backends.base import Above, Chunk, Intrinsic, Neurons, Synapses, Tape
from hrmas_sparse.engine.backends.cpu import LANES, chunks
from hrmas_sparse.engine.backends.cpu.compile import KERNELS
from hrmas_sparse.engine.neuron import constants, plasticity_constants
from hrmas_sparse.engine.recurrence import Links

DTYPE = np.dtype(np.float32)   # of runs
PATIENCE = 120                 # seconds; then the one that waits compiles for itself
_running: dict[str, subprocess.Popen] = {}


def start():
    """Start what is not compiled yet, where it can be kept; a process that ends takes them with it."""
    folder = KERNELS.place.folder
    for part in PARTS if folder else ():
        if part not in _running and not any(folder.glob(f"*/blocks.{part}-*.nbc")):
            _running[part] = subprocess.Popen([sys.executable, "-m", __name__, part], stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                              start_new_session=True)  # it hears no Ctrl-C
            atexit.register(_running[part].kill)


def wait(part, dtype):
    """Wait until a part is compiled, if that has been started; if it fails, whoever calls a kernel compiles it."""
    process = _running.get(part) if dtype == DTYPE else None
    if process is not None:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        _running.pop(part, None)


def _still():
    """A chunk without spikes, a layer that receives it, and what it would do with R and tau."""
    from hrmas_sparse.engine.backends.cpu.layer import Layer
    ones = np.ones(1, DTYPE)
    events = Events.from_dense(np.zeros((1, 2, 1), bool), [0])
    chunk = Chunk(chunks.pack(events, 0, 1, DTYPE), events.labels, 0, events.steps)
    link = Links(np.array([0, 1]), np.zeros(1, np.uint32), ones)
    synapses = Synapses(np.ones((1, 1), DTYPE), link)
    k, p = constants(DTYPE, 8, 1, 1, 1), plasticity_constants(DTYPE, 16, 16, 1, 1, 1)

    def layer(plastic):
        return Layer(chunks.Buffers(), 0, Neurons(k, p if plastic else None), synapses, Intrinsic(ones, ones))

    return chunk, layer


def forward():
    """Forward, with intrinsic plasticity and without."""
    chunk, layer = _still()
    for plastic in (False, True):
        layer(plastic).forward(chunk, chunk.spikes)


def backward():
    """Backward, over a tape that no forward pass has made."""
    chunk, layer = _still()
    layer = layer(False)
    signals = layer._signals(chunk.spikes, chunk.steps, False)
    for array in signals.spikes.mask, signals.v, signals.silent:
        array[...] = 0
    errors = np.zeros((chunk.steps, 1, LANES), DTYPE)
    layer.backward(Tape(*signals, layer._membrane, None, None), Above(np.ones((1, 1), DTYPE), errors),
                   layer.zero_gradients())
    layer.effect_of_loss(Tape(*signals, None, None, None), np.zeros((1, chunk.steps, 1), DTYPE))


PARTS = {"forward": forward, "backward": backward}

if __name__ == "__main__":
    PARTS[sys.argv[1]]()
