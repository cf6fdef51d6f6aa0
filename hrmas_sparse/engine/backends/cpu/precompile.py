"""Call one half of the kernels of training on a layer in which nothing happens, so that it is compiled and kept.

    python -m hrmas_sparse.engine.backends.cpu.precompile forward|backward

It ends when its standard input does.
"""

import functools
import sys

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.backends.base import Above, Chunk, Intrinsic, Neurons, Synapses, Tape
from hrmas_sparse.engine.backends.cpu import LANES, chunks, losses
from hrmas_sparse.engine.backends.cpu.ahead import DTYPE
from hrmas_sparse.engine.backends.cpu.layer import Layer
from hrmas_sparse.engine.backends.cpu.relaxation import Relaxation
from hrmas_sparse.engine.losses import PscLoss
from hrmas_sparse.engine.neuron import constants, plasticity_constants
from hrmas_sparse.engine.recurrence import Links
from hrmas_sparse.engine.relaxation import Tables
from hrmas_sparse.process import end_with_stdin


def _still():
    """A chunk without spikes, and a function (plastic or not) that makes a layer to receive it."""
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
                   layer.room_for_gradients())
    layer.effect_of_loss(Tape(*signals, None, None, None), np.zeros((1, chunk.steps, 1), DTYPE))
    psc = np.zeros((chunk.steps, 1, LANES), DTYPE).transpose(2, 0, 1)[:1]   # as lanes are seen from outside
    losses.judge(functools.partial(PscLoss(), tau_s=1.0), psc, chunk.labels, chunks.Buffers())
    relax()


def relax():
    """The relaxation of one link of one motif size, and its pullback."""
    ones, first = np.ones(1, DTYPE), np.zeros(1, np.int64)
    relaxation = Relaxation(Tables((1,), 1, [first], [first], [1], -1.0))
    parameters = {"w_exc": ones, "alpha_size": ones, "alpha_1": np.ones((1, 3), DTYPE)}
    relaxation.weights(parameters)
    relaxation.pullback(parameters, ones)


if __name__ == "__main__":
    end_with_stdin()
    {"forward": forward, "backward": backward}[sys.argv[1]]()
