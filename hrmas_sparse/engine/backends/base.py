"""The interface every backend offers, and its full documentation.

A backend simulates *chunks*: a few samples that run through the network together. How many is the backend's choice
and depends on the problem alone, never on the number of threads, so that sums over chunks, always taken in the same
order, give the same bits whatever the machine's load or threads.

A pass (one floor up) binds a layer's weights and neurons to the backend, :meth:`Backend.layer`, and strings the
:class:`Layer` objects together. Nothing above this folder knows how a backend lays out its arrays: what
:meth:`Backend.pack` and the layers return is opaque until :meth:`Backend.unpack`.

A backend may also simulate several networks of the same layers in one chunk, if ``together`` says so: their samples
lie one network's after the other's, and what differs between them has a leading axis of networks.

Shapes: b samples of a chunk, B of a batch, T steps, C senders, N neurons of a layer, nnz links, M networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from hrmas_sparse.data.events import Events, joined
from hrmas_sparse.engine import learning
from hrmas_sparse.engine.neuron import Constants, PlasticityConstants
from hrmas_sparse.engine.recurrence import Links
from hrmas_sparse.engine.relaxation import Relaxation, Selection

EVALUATION_BATCH = 256  # samples scored together; it decides the order of sums, so it is the same on every backend


class Chunk(NamedTuple):
    """Samples that are simulated together."""

    spikes: Any            # opaque, what the samples send into the first layer
    labels: Any            # (b,) int64, where the backend computes
    first: int             # index of its first sample in the batch
    steps: int             # T

    @property
    def size(self) -> int:
        """Samples."""
        return len(self.labels)


class Neurons(NamedTuple):
    """How the neurons of a layer behave."""

    k: Constants
    p: PlasticityConstants | None = None   # SpiKL-IP runs during the pass (mathematics 8)
    smooth: bool = False                   # the smooth variant (mathematics 12a), float64, for gradient checks
    through_time: bool = False             # going back by surrogate gradient through time, not TSSL-BP


class Intrinsic(NamedTuple):
    """R and tau of a layer: (N,), (T, N) or (B, T, N); of several networks (M, 1 or T, N) or (B, T, N)."""

    R: Any
    tau: Any


class Synapses(NamedTuple):
    """The weights of one layer; of several networks w (M, C, N) and a list of links, which may be others in each."""

    w: Any                 # (C, N) feedforward
    links: Links           # recurrent; empty for a layer without recurrence


class Membrane(NamedTuple):
    """What the membrane equation takes of R and tau; opaque arrays."""

    inv_tau: Any           # 1/tau
    gain: Any              # R/tau


class Plastic(NamedTuple):
    """What intrinsic plasticity left of one layer and chunk."""

    R_sum: Any             # as R was, where the backend computes: sum over each network's samples of R at the end
    tau_sum: Any           # as tau was
    trajectory: Any        # the R and tau each step used, if kept: opaque, unpack gives (2, b, T, N)


class Tape(NamedTuple):
    """What forward leaves for backward, one per layer and chunk; opaque but for ``count`` and the sums of ``plastic``.

    Valid until the same worker runs a layer of the same slot again.
    """

    received: Any          # spikes the layer received
    spikes: Any            # spikes it sent
    v: Any                 # membrane potential before reset
    silent: Any            # who had been silent lately
    psc: Any               # filtered spikes, if kept
    membrane: Membrane | None   # 1/tau and R/tau; None after a pass with plasticity, whose trajectory has them
    plastic: Plastic | None
    count: Any             # (b or 1, ...) spikes of each sample, or of all together; to be summed over the rest


class Above(NamedTuple):
    """Where a layer's errors come from: the layer above, or, with an empty w, the loss."""

    w: Any                 # (N, P) weights into the layer above
    errors: Any            # its E, or A of the output layer; opaque


class Gradients(NamedTuple):
    """Where a chunk's weight gradients go; dlinks of several networks lie one after the other."""

    dw: Any                # where the backend computes: as w, or (0, N) where it is not wanted
    dlinks: Any            # (nnz,)


class Layer(Protocol):
    """One layer during one pass. Several threads may run it at once, each on chunks of its own."""

    def forward(self, chunk: Chunk, received, keep_psc=False, keep_trajectory=False) -> Tape:
        """Run a chunk through all steps (mathematics 1, 8, 12a): what it receives is opaque, see :class:`Tape`."""

    def backward(self, tape: Tape, above: Above, gradients: Gradients, keep_errors=True, keep_delta=False):
        """Run TSSL-BP back through all steps and leave the weight gradients (mathematics 5, 6, 12a).

        Returns what the layer below has above it, and delta, opaque; each None unless kept. The errors of an ``above``
        without w are consumed. With plasticity the tape must hold the trajectory [27, 28].
        """

    def intrinsic_gradients(self, tape: Tape, delta):
        """Return a chunk's gradients of ln R and of ln tau, (M, 2, N), where the backend computes (mathematics 5).

        Of a hidden layer whose R and tau are the same in every step, and that ran without plasticity.
        """

    def psc(self, tape: Tape, chunk: Chunk):
        """Return the filtered spikes that a tape kept, (b, T, N), where the backend computes."""

    def room_for_gradients(self, feedforward=True) -> Gradients:
        """Return where a chunk's gradients go, valid until this worker asks for the slot's again."""

    # ---- the linear pieces of backward ----

    def effect_of_loss(self, tape: Tape, psc_gradient) -> Above:
        """A of the output layer from g = dL/da, (b, T, N), where the backend computes (mathematics 6)."""

    def effect_below(self, errors):
        """A of the layer below through the feedforward weights, sum_p w_rp E_p[t]; opaque."""

    def weight_gradients(self, tape: Tape, errors, gradients: Gradients) -> None:
        """Leave a chunk's gradients of w and of the links' weights, given E (mathematics 6)."""


class Loader:
    """Events from which batches are taken; this one's are where the backend computes already."""

    def __init__(self, events: Events):
        self._events = events

    def __getitem__(self, index) -> Events:
        """Return a batch of the samples ``index``, (B,) integers, good for one step."""
        return self._events[index]

    def prefetch(self, index) -> None:
        """Say that a batch will be taken soon, so that it may be carried meanwhile."""


class Backend:
    """A way to simulate. What is written here serves one that computes in the host's memory, on one thread."""

    name: str
    notice: str = ""       # for the user, before the first step
    threads: int = 1       # chunks simulated at once
    chunk: int             # samples of one network in a chunk at most
    together: int = 0      # samples of several networks in a chunk at most; 0 where a chunk has one network
    dense: float           # share of non-zero input above which all of it is multiplied, not visited event by event
    learning: Any = learning       # the arithmetic of learning where the backend computes: a module
    relaxation: Any = Relaxation   # the supernet's weights and gradients, there too: a class
    selection: Any = Selection     # those of links of which some are trained: a class

    def networks(self, samples: int) -> int:
        """Return how many networks one chunk takes at most, each with a batch of so many samples."""
        return max(1, self.together // samples) if samples <= self.chunk else 1

    # ---- layers ----

    def layer(self, slot: int, neurons: Neurons, synapses: Synapses, intrinsic: Intrinsic) -> Layer:
        """Bind a layer for one pass; ``slot`` numbers it from 0, so that buffers can be used again."""
        raise NotImplementedError

    def integrator(self, slot: int, neurons: Neurons, windows: int, steps: int, w) -> Layer:
        """Bind the integrator readout for one pass over samples of T steps (mathematics 4); w (K N, O), K windows.

        Its neurons never spike; their "psc" is the potential at the end, (b, 1, O).
        """
        raise NotImplementedError

    def pack(self, batch: Events, dtype, networks=1) -> list[Chunk]:
        """Cut a batch into chunks; of several networks, whose batches follow each other, into one."""
        raise NotImplementedError

    def chunks(self, batches: list[Events], dtype) -> list[Chunk]:
        """Cut the batches of several networks, or of one, into chunks, see :meth:`pack`."""
        return self.pack(joined(batches), dtype, len(batches))

    def unpack(self, opaque, size: int) -> np.ndarray:
        """Turn spikes of a chunk of so many samples, or an opaque (..., T, N), into a NumPy array (..., b, T, N)."""
        raise NotImplementedError

    def output(self, top: Layer, loss: Callable, chunk: Chunk, received, tapes: list[Tape], backward: bool,
               record: bool) -> tuple:
        """Run the output layer over a chunk, and judge what it says.

        Parameters
        ----------
        top : the output layer
        loss : see :meth:`judge`
        chunk, received : as for :meth:`Layer.forward`
        tapes : of the layers below
        backward : whether gradients will be wanted
        record : whether everything will be looked at

        Returns
        -------
        tape : of the output layer
        numbers : see :meth:`judge`
        gradient : opaque, for :meth:`Layer.effect_of_loss`
        """
        tape = top.forward(chunk, received, keep_psc=True, keep_trajectory=record or backward)
        return tape, *self.judge(loss, top.psc(tape, chunk), chunk.labels, [*tapes, tape])

    def judge(self, loss: Callable, psc, labels, tapes: list[Tape]) -> tuple:
        """Return what a pass is judged by, and the gradient of its loss.

        Parameters
        ----------
        loss : (psc, labels) -> loss of each sample, gradient; see losses.py
        psc, labels : of a chunk, where the backend computes
        tapes : of all layers

        Returns
        -------
        numbers : (b, 1 + O + layers) float64: the loss of each sample; its scores, the summed psc, the largest of which
            decides; the spikes of each layer, where those of a chunk may stand beside one of its samples
        gradient : with respect to psc
        """
        losses, gradient = loss(psc, labels)
        counts = np.zeros_like(losses, shape=(len(losses), len(tapes)))
        for n, tape in enumerate(tapes):
            counts[:len(tape.count), n] = tape.count.reshape(len(tape.count), -1).sum(axis=1)
        return np.concatenate([losses[:, None], psc.sum(axis=1, dtype=np.float64), counts], axis=1), gradient

    def kept(self, array):
        """Return an array that stays what it is when layers run again."""
        return array.copy()

    def repeated(self, function: Callable, requests: list) -> list:
        """Return function(requests), the results of passes that may run as one; it may be remembered what they do."""
        return function(requests)

    def map(self, function: Callable, items: list) -> list:
        """Apply a function to every item, several at once where it pays; results in order."""
        return [function(item) for item in items]

    # ---- arrays ----

    def to_device(self, array):
        """Return a NumPy array where the backend computes; what is there already stays.

        Such arrays understand NumPy's functions (NEP 13, 18 and 35: ``np.sqrt(x)``, ``np.asarray(y, like=x)``), and do
        not mix with NumPy's own.
        """
        return array

    def to_host(self, array) -> np.ndarray:
        """Return the NumPy array of a device array; waits for the device."""
        return array

    def rows(self, arrays: list):
        """Return arrays (rows, ...) of one type below each other, where the backend computes."""
        return np.concatenate(arrays)

    def loader(self, events: Events) -> Loader:
        """Keep events where the backend computes, or as near as they fit."""
        return Loader(events)

    def free_memory(self) -> int | None:
        """Return the bytes that are free where the backend computes; None where that is the host's memory."""
        return None

    # ---- where jobs that run in lockstep meet, see engine/lockstep.py ----

    def run(self, function: Callable, requests: list, kind) -> list:
        """Return function(requests): a result for each. Requests of one kind may be answered together."""
        return function(requests)

    def fetch(self, arrays: list) -> list:
        """Return arrays from where the backend computes as NumPy's, float64: one copy, for which the host waits."""
        return arrays


def is_dense(batch: Events, share: float) -> bool:
    """Whether more than this share of a batch's input is not zero."""
    return int(batch.indptr[-1]) > share * len(batch) * batch.steps * batch.channels
