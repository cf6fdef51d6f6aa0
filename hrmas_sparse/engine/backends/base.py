"""The interface every backend offers, and its full documentation.

A backend simulates *chunks*: a few samples that run through the network together. How many is the
backend's choice and depends on the problem alone, never on the number of threads, so that sums over
chunks, always taken in the same order, give the same bits whatever the machine's load or threads.

The network (one floor up) strings these calls together, layer by layer. Nothing above this folder knows
how a backend lays out its arrays: what :meth:`Backend.pack` gives and what the calls return is opaque
until :meth:`Backend.unpack`.

A backend may also simulate several networks of the same layers in one chunk, if :meth:`Backend.together` says so:
their samples lie one network's after the other's, and what differs between them has a leading axis of networks.

Shapes: b samples of a chunk, B of a batch, T steps, C senders, N neurons of a layer, nnz links, M networks.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from hrmas_sparse.engine.neuron import Constants, PlasticityConstants
from hrmas_sparse.engine.recurrence import Links

EVALUATION_BATCH = 256   # samples scored together, on every backend


class Chunk(NamedTuple):
    """Samples that are simulated together."""

    spikes: Any            # opaque, what the samples send into the first layer
    labels: Any            # (b,) int64, where the backend computes
    first: int             # index of its first sample in the batch
    steps: int             # T


class Synapses(NamedTuple):
    """The weights of one layer; of several networks w (M, C, N) and a list of links, which may be others in each."""

    w: np.ndarray          # (C, N) feedforward
    links: Links           # recurrent; empty for a layer without recurrence


class Intrinsic(NamedTuple):
    """Intrinsic parameters of one layer, prepared by :meth:`Backend.intrinsic`; opaque arrays."""

    inv_tau: Any
    gain: Any


class Tape(NamedTuple):
    """What forward leaves for backward, one per layer and chunk; opaque.

    Valid until the same slot is used again by the same worker.
    """

    received: Any          # spikes the layer received
    spikes: Any            # spikes it sent
    v: Any                 # membrane potential before reset
    silent: Any            # who had been silent lately
    psc: Any               # filtered spikes, if kept


class Above(NamedTuple):
    """Where a layer's errors come from: the layer above, or, with an empty w, the loss."""

    w: np.ndarray          # (N, P) weights into the layer above
    errors: Any            # its E, or A of the output layer; opaque


class Gradients(NamedTuple):
    """What a chunk's weight gradients are added to; dlinks of several networks lie one after the other."""

    dw: Any                # where the backend computes: as w, or (0, N) where it is not wanted
    dlinks: Any            # (nnz,)


class Plastic(NamedTuple):
    """What intrinsic plasticity left of one layer and chunk."""

    R_sum: Any             # as R was, where the backend computes: sum over each network's samples of R at the end
    tau_sum: Any           # as tau was
    trajectory: Any        # the R and tau each step used, if kept: opaque, unpack gives (2, b, T, N)


class Backend(Protocol):
    """A way to simulate. ``slot`` numbers the layer, so that buffers can be reused."""

    name: str
    notice: str    # for the user, before the first step; may be empty
    threads: int   # workers that simulate chunks at a time

    def to_device(self, array):
        """A NumPy array where the backend computes; what is there already stays. On the CPU the array itself.

        Such arrays understand NumPy's functions (NEP 13, 18 and 35: ``np.sqrt(x)``, ``np.asarray(y, like=x)``), and do
        not mix with NumPy's own.
        """

    def to_host(self, array) -> np.ndarray:
        """The NumPy array of a device array; waits for the device. On the CPU the array itself."""

    def fetch(self, arrays: list) -> list:
        """Arrays from where the backend computes as NumPy's, float64; one copy for all, for which the host waits."""

    def together(self, samples):
        """Networks in one chunk at most, each with a batch of so many samples; 1 where that is not done."""

    def row_sums(self, rows, count):
        """A function values -> (count,) float64, the sum of the values of each row, in their order; rows (n,) ints."""

    def free_memory(self):
        """Bytes that are free where the backend computes; None where that is the machine's own memory."""

    def resident(self, events):
        """Events kept where the backend computes, or as near as they fit; a batch taken of them lasts for one step."""

    def ahead(self, events, index):
        """Say that a batch of what :meth:`resident` gave will be taken soon, so that it may be carried meanwhile."""

    def map(self, function, items: list) -> list:
        """Apply a function to every item, several at once where it pays; results in order."""

    def form(self, events):
        """What must be the same of batches, beside their sizes, that several networks run in one chunk."""

    def pack(self, events, dtype, networks=1) -> list[Chunk]:
        """Cut a batch (:class:`hrmas_sparse.data.events.Events`) into chunks; of several networks into one."""

    def unpack(self, array, size: int) -> np.ndarray:
        """Turn an opaque (..., T, N) array of a chunk into (..., b, T, N), as a copy."""

    def psc(self, tape: Tape, size: int):
        """The filtered spikes of the output layer, (b, T, O), where the backend computes."""

    def unpack_spikes(self, spikes, size: int) -> np.ndarray:
        """Turn opaque spikes into a float array (b, T, N)."""

    def count(self, spikes, size: int, networks=1):
        """Spikes of a chunk, all samples, steps and neurons of each network together, (networks,)."""

    def intrinsic(self, R, tau, chunk: Chunk) -> Intrinsic:
        """Prepare R and tau for a chunk: (N,), (T, N) or (B, T, N), of several networks (M, 1 or T, N) or (B, T, N)."""

    def forward(self, k: Constants, synapses: Synapses, intrinsic: Intrinsic, received, slot: int,
                keep_psc=False) -> Tape:
        """Run one layer through all steps (mathematics 1)."""

    def forward_plastic(self, k: Constants, p: PlasticityConstants, synapses: Synapses, R, tau, received,
                        slot: int, size: int, keep_trajectory=False) -> tuple[Tape, Plastic]:
        """Run one layer while SpiKL-IP adapts each sample's own copy of R and tau (mathematics 8).

        R, tau : (N,), of several networks (M, 1, N)
        """

    def trajectory(self, plastic: Plastic) -> Intrinsic:
        """Intrinsic parameters along a kept trajectory, for backward [27, 28]."""

    def effect_of_output(self, k: Constants, tape: Tape, psc_gradient, slot: int) -> Above:
        """A of the output layer from g = dL/da, (b, T, N) (mathematics 6)."""

    def effect_below(self, w, errors, slot: int):
        """A of the layer below through the feedforward weights: sum_p w_rp E_p[t]."""

    def backward(self, k: Constants, synapses: Synapses, intrinsic: Intrinsic, tape: Tape, above: Above,
                 gradients: Gradients, slot: int, keep_errors=True, keep_delta=False):
        """TSSL-BP of one layer and its weight gradients (mathematics 5, 6).

        Returns (E, delta), both opaque; None unless kept. The errors of an ``above`` without w are consumed.
        """

    def zero_gradients(self, synapses: Synapses, slot: int, feedforward=True) -> Gradients:
        """Zeros to add a chunk's weight gradients to, valid until the worker asks for the slot's again."""

    def weight_gradients(self, tape: Tape, synapses: Synapses, errors, gradients: Gradients, slot: int) -> None:
        """Add a chunk's gradients of w and of the links' weights, given E (mathematics 6)."""

    def forward_smooth(self, k: Constants, synapses: Synapses, intrinsic: Intrinsic, received, slot: int,
                       keep_psc=False) -> Tape:
        """The smooth variant of forward (mathematics 12a), float64, for gradient checks."""

    def backward_smooth(self, k: Constants, synapses: Synapses, intrinsic: Intrinsic, tape: Tape, above: Above,
                        gradients: Gradients, slot: int, keep_errors=True, keep_delta=False):
        """The exact derivative of the smooth variant. Returns (E, None)."""
