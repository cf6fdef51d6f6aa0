"""The network: layers strung together, forward -> tapes, backward -> gradients, loss and decision.

Hidden layers (SC-ML or plain LIF) are connected by feedforward weights and followed by a feedforward
LIF output layer. Its parameters are those of parameters.py. They may be NumPy's or lie where the backend
computes; gradients and R, tau after plasticity come back in kind.
A batch is cut into chunks by the backend, each goes through all layers by itself: see passes.py.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine import lockstep as together
from hrmas_sparse.engine.backends.base import Synapses
from hrmas_sparse.engine.parameters import INTRINSIC, Entry, Parameters
from hrmas_sparse.engine.passes import Asked, run
from hrmas_sparse.engine.recurrence import Links


@dataclass(frozen=True)
class Layer:
    """One layer: neurons, threshold (unit of psc), recurrence (see topology.py) or None."""

    size: int
    v_th: float
    recurrence: Any = None


@dataclass(frozen=True)
class Neurons:
    """Constants all layers share; see :func:`neuron.constants`. smooth: the variant of mathematics 12a."""

    tau_m: float
    tau_s: float
    slope_cap: float
    surrogate_width: float
    smooth: bool = False


@dataclass(frozen=True)
class Plasticity:
    """SpiKL-IP settings; see :func:`neuron.plasticity_constants`."""

    tau_cal: float
    gamma: float
    mu: float


@dataclass(frozen=True)
class Outcome:
    """What one pass over a batch of B samples gives; L layers, the output layer last.

    Attributes
    ----------
    loss : float, mean over the batch
    scores : (B, classes) float64, the summed output psc; the largest decides
    predicted : (B,) int64, the decided class; the lower one of a tie
    rates : list of L floats, mean spikes per neuron and step
    gradients : Parameters without R and tau, of the mean loss; None after a forward pass
    intrinsic : Parameters of R and tau after SpiKL-IP, or None
    records : list of L dicts of arrays, or None
    """

    loss: float
    scores: np.ndarray
    predicted: np.ndarray
    rates: list
    gradients: Parameters | None = None
    intrinsic: Parameters | None = None
    records: list | None = None

    @property
    def spikes(self):
        """Spikes of every layer, each (B, T, N) float64; None unless recorded."""
        return self._recorded("spikes")

    @property
    def v(self):
        """Membrane potentials before the reset, each (B, T, N); None unless recorded."""
        return self._recorded("v")

    @property
    def psc(self):
        """Filtered spikes, each (B, T, N); None unless recorded."""
        return self._recorded("psc")

    def _recorded(self, key):
        return None if self.records is None else [record.get(key) for record in self.records]


class Network:
    """A network on a backend.

    Parameters
    ----------
    inputs : channels of the input
    hidden : list of :class:`Layer`
    output : :class:`Layer` without recurrence, one neuron a class
    neurons : :class:`Neurons`
    loss : see :mod:`hrmas_sparse.engine.losses`
    backend : see :mod:`hrmas_sparse.engine.backends`
    dtype : "float32" or "float64"
    """

    def __init__(self, inputs, hidden, output, neurons, loss, backend, dtype="float32"):
        self.inputs, self.output = inputs, output
        self.hidden = [layer if layer.recurrence is None else replace(layer, recurrence=layer.recurrence.on(backend))
                       for layer in hidden]
        self.neurons, self.backend, self.dtype = neurons, backend, np.dtype(dtype)
        self.criterion = functools.partial(loss, tau_s=neurons.tau_s)
        self.layers = [*self.hidden, output]
        self.constants = [neuron.constants(self.dtype, neurons.tau_s, layer.v_th, neurons.slope_cap,
                                           neurons.surrogate_width) for layer in self.layers]

    # ---- parameters ----------------------------------------------------------------------------------

    def init(self, seed=0):
        """Return fresh parameters (paper 3.1.3), NumPy's.

        Feedforward weights are He normal, recurrence as its kind starts, R = tau = tau_m.

        Parameters
        ----------
        seed : int, sequence of ints, or numpy Generator
        """
        rng, layers, senders = np.random.default_rng(seed), [], self.inputs
        for layer in self.layers:
            weights = rng.standard_normal((senders, layer.size)) * np.sqrt(2 / senders)
            own = {} if layer.recurrence is None else layer.recurrence.initial(self.dtype, rng)
            layers.append({"w": weights.astype(self.dtype), **own})
            senders = layer.size
        return Parameters(layers).replaced(self.initial_intrinsic())

    def initial_intrinsic(self):
        """R = tau = tau_m for every hidden neuron, as a part of the parameters."""
        hidden = [{name: np.full(layer.size, self.neurons.tau_m, self.dtype) for name in INTRINSIC}
                  for layer in self.hidden]
        return Parameters([*hidden, {}])

    @property
    def alpha_names(self) -> list[Entry]:
        """Which parameters are the architecture's: (layer, name)."""
        return [(n, name) for n, layer in enumerate(self.layers) if layer.recurrence is not None
                for name in layer.recurrence.alpha_names]

    @property
    def weight_names(self) -> list[Entry]:
        """Which parameters are trained weights: (layer, name), feedforward first."""
        return [*((n, "w") for n in range(len(self.layers))),
                *((n, name) for n, layer in enumerate(self.layers) if layer.recurrence is not None
                  for name in layer.recurrence.weight_names)]

    def synapses(self, parameters):
        """What the backend needs of the parameters: weights and links of every layer."""
        return [Synapses(own.w, self._no_links(layer) if layer.recurrence is None else layer.recurrence.links(own))
                for layer, own in zip(self.layers, parameters.layers)]

    def _no_links(self, layer):
        return Links(np.zeros(layer.size + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, self.dtype))

    # ---- passes over a batch -------------------------------------------------------------------------

    def evaluate(self, parameters, events, record=False):
        """Forward only: an :class:`Outcome` without gradients."""
        return self._outcome(parameters, events, record=record)

    def gradients(self, parameters, events, plasticity=None, record=False):
        """Forward and backward. With ``plasticity``, SpiKL-IP runs during the pass (online mode, [27, 28])."""
        return self._outcome(parameters, events, backward=True, plasticity=plasticity, record=record)

    def adapt(self, parameters, events, plasticity, record=False):
        """The IP window (mathematics 8): forward only, SpiKL-IP running in every recurrent layer."""
        return self._outcome(parameters, events, plasticity=plasticity, record=record)

    def _outcome(self, parameters, events, **options):
        passed = self.passes([parameters], events, **options)
        return self.outcomes(passed, events)[0][0]

    def passes(self, points, events, backward=False, plasticity=None, record=False, feedforward=True):
        """Run passes over one batch, one for each set of parameters, side by side; their numbers are not fetched.

        The CPU has more chunks at hand; a GPU runs the samples of all sets in the same launches.

        Parameters
        ----------
        points : list of Parameters
        events : the batch
        backward : make gradients, of recurrent parameters only without ``feedforward``
        plasticity : :class:`Plasticity` that runs during the pass, or None
        record : keep everything

        Returns
        -------
        list of :class:`passes.Found`
        """
        for parameters in points:
            self._check(parameters, events)
        given, points = self._moved(points)
        asked = [Asked(self, parameters, events, backward, plasticity, record, feedforward) for parameters in points]
        return [found._replace(gradients=given(found.gradients), intrinsic=given(found.intrinsic))
                for found in together.ask(run, asked, asked[0].kind)]

    def outcomes(self, passed, events, *arrays):
        """Fetch the numbers of passes over one batch, and further float64 arrays, in one copy.

        Returns
        -------
        list of :class:`Outcome`, list of arrays
        """
        fetched = together.ask(self.backend.fetch, [*arrays, *(found.numbers for found in passed)], "fetch")
        samples, classes = len(events), self.output.size
        outcomes = []
        for found, numbers in zip(passed, fetched[len(arrays):]):
            losses, scores, spikes = np.split(numbers, [samples, samples * (1 + classes)])
            scores = scores.reshape(samples, classes)
            rates = [count / (samples * events.steps * layer.size)
                     for count, layer in zip(spikes.tolist(), self.layers)]
            outcomes.append(Outcome(float(losses.sum()) / samples, scores, scores.argmax(axis=1), rates,
                                    found.gradients, found.intrinsic, found.records))
        return outcomes, fetched[:len(arrays)]

    def _moved(self, points):
        """Parameters where the backend computes, and what takes such ones, or None, back where the first lay."""
        there = type(points[0].layers[-1].w) is not np.ndarray

        def given(parameters):
            return parameters if there or parameters is None else parameters.map(self.backend.to_host)

        return given, [parameters.map(self.backend.to_device) for parameters in points]

    def shapes(self):
        """Shape of every parameter but R and tau, as one dict a layer."""
        senders = [self.inputs, *(layer.size for layer in self.layers)]
        return [{"w": (count, layer.size), **(layer.recurrence.shapes() if layer.recurrence is not None else {})}
                for count, layer in zip(senders, self.layers)]

    def _check(self, parameters, events):
        """Refuse what does not fit before a kernel, which checks nothing, reads beyond an array."""
        samples, steps, classes = len(events), events.steps, self.output.size
        if samples == 0:
            raise ValueError("an empty batch has no mean")
        if events.channels != self.inputs:
            raise ValueError(f"events of {events.channels} channels for a network of {self.inputs} inputs")
        if events.labels.min() < 0 or events.labels.max() >= classes:
            raise ValueError(f"labels {events.labels.min()} to {events.labels.max()} for {classes} classes")
        for n, (own, shapes) in enumerate(zip(parameters.layers, self.shapes(), strict=True), start=1):
            for name, shape in shapes.items():
                if own[name].shape != shape or own[name].dtype != self.dtype:
                    raise ValueError(f"layer {n}, {name}: expected {self.dtype} {shape}, found {own[name].dtype} "
                                     f"{own[name].shape}")
        for n, (own, layer) in enumerate(zip(parameters.layers, self.hidden), start=1):
            allowed = [(layer.size,), (steps, layer.size), (samples, steps, layer.size)]
            for name in INTRINSIC:
                if own[name].shape not in allowed or own[name].dtype != self.dtype:
                    raise ValueError(f"layer {n}, {name}: expected {self.dtype} and one of {allowed}, "
                                     f"found {own[name].dtype} {own[name].shape}")
