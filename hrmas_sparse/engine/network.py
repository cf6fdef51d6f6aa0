"""The network: layers strung together, forward -> tapes, backward -> gradients, loss and decision.

Hidden layers (SC-ML or plain LIF) are connected by feedforward weights and followed by a feedforward
LIF output layer. Parameters are one flat dict of arrays:

    w1, w2, ..., w_out          feedforward weights into each layer, (C, N): row = sender
    rec1.w_exc, rec1.alpha_5    parameters of a layer's recurrence, named by its kind (topology.py)

and intrinsic parameters another, R1, tau1, R2, ..., each (N,) (or a trajectory (T, N), (B, T, N)).
They may be NumPy's or lie where the backend computes; gradients and R, tau after plasticity come back in kind.
A batch is cut into chunks by the backend, each goes through all layers by itself: see passes.py.
"""

import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine import lockstep as together
from hrmas_sparse.engine.backends.base import Synapses
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


class Outcome:
    """What one pass over a batch gives.

    loss : float, mean over the batch; predicted : (B,) int64; rates : mean spikes per neuron and step of each layer;
    gradients : dict like the parameters, or None; intrinsic : dict R1, tau1, ... after SpiKL-IP, or None;
    records : one dict of arrays per layer (output last), or None;
    norms : of the gradients of each layer's weights, once a step of w has taken them.

    The first look at loss, predicted or rates makes the host wait for them, see :meth:`Network.fetch`.
    """

    def __init__(self, network, found, samples, steps):
        self.gradients, self.intrinsic, self.records = found.gradients, found.intrinsic, found.records
        self.numbers, self.norms = found.numbers, None
        self._network, self._samples, self._steps = network, samples, steps
        network.unseen.add(self)

    def _part(self, which):
        if self in self._network.unseen:
            self._network.fetch()
        return np.split(self.numbers, [self._samples, 2 * self._samples])[which]

    @property
    def loss(self):
        return float(self._part(0).sum()) / self._samples

    @property
    def predicted(self):
        return self._part(1).astype(np.int64)

    @property
    def rates(self):
        return [count / (self._samples * self._steps * layer.size)
                for count, layer in zip(self._part(2).tolist(), self._network.layers)]


def psc_loss(psc, labels, tau_s, period=1):
    """The paper's loss of each sample [29, 30]: squared distance to the psc of the desired spike train.

    Parameters
    ----------
    psc : (b, T, O) output psc; labels : (b,) int, both where the backend computes; tau_s : steps
    period : the true class should spike at steps period-1, 2 period-1, ...

    Returns
    -------
    loss (b,), its gradient with respect to psc (b, T, O)
    """
    steps = psc.shape[1]
    desired, trace = np.zeros(steps), 0.0
    for t in range(steps):
        trace = (1 - 1 / tau_s) * trace + ((t + 1) % period == 0)
        desired[t] = trace
    error = psc.astype(np.float64) - np.asarray(desired, like=psc)[:, None] * _true(labels, psc)[:, None]
    return 0.5 * (error**2).sum(axis=(1, 2)), error


def cross_entropy_loss(psc, labels, scale=0.02, smoothing=0.0):
    """Cross entropy of each sample on softmax(scale * sum_t psc); arguments and result as :func:`psc_loss`.

    ``smoothing`` is the share of the target that is spread over all classes alike.
    """
    logits = scale * psc.sum(axis=1, dtype=np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = smoothing / psc.shape[2] + (1 - smoothing) * _true(labels, psc)
    error = np.exp(log_probability) - target
    return -(target * log_probability).sum(axis=1), np.repeat(scale * error[:, None], psc.shape[1], axis=1)


def _true(labels, psc):
    """1 for the class of each sample, 0 for the others, (b, O); beside psc."""
    return (labels[:, None] == np.arange(psc.shape[2], like=psc)).astype(np.float64)


class Network:
    """A network on a backend.

    Parameters
    ----------
    inputs : channels of the input
    hidden : list of :class:`Layer`
    output : :class:`Layer` without recurrence, one neuron a class
    neurons : :class:`Neurons`
    loss : function (psc, labels) -> (loss, gradient), see :func:`psc_loss`
    backend : see :mod:`hrmas_sparse.engine.backends`
    dtype : "float32" or "float64"
    """

    def __init__(self, inputs, hidden, output, neurons, loss, backend, dtype="float32"):
        self.inputs, self.output = inputs, output
        self.hidden = [layer if layer.recurrence is None else replace(layer, recurrence=layer.recurrence.on(backend))
                       for layer in hidden]
        self.neurons, self.loss, self.backend, self.dtype = neurons, loss, backend, np.dtype(dtype)
        self.layers = [*self.hidden, output]
        self.unseen = weakref.WeakSet()  # outcomes whose numbers nobody has looked at
        self.names = [f"w{n}" for n in range(1, len(self.layers))] + ["w_out"]
        self.constants = [neuron.constants(self.dtype, neurons.tau_s, layer.v_th, neurons.slope_cap,
                                           neurons.surrogate_width) for layer in self.layers]

    # ---- parameters ----------------------------------------------------------------------------------

    def initial_parameters(self, rng):
        """Fresh parameters: feedforward He normal, recurrence as its kind starts (paper 3.1.3)."""
        parameters, senders = {}, self.inputs
        for n, (name, layer) in enumerate(zip(self.names, self.layers), start=1):
            weights = rng.standard_normal((senders, layer.size)) * np.sqrt(2 / senders)
            parameters[name] = weights.astype(self.dtype)
            if layer.recurrence is not None:
                own = layer.recurrence.initial(self.dtype, rng)
                parameters.update({f"rec{n}.{key}": value for key, value in own.items()})
            senders = layer.size
        return parameters

    def initial_intrinsic(self):
        """R = tau = tau_m for every hidden neuron."""
        return {f"{key}{n}": np.full(layer.size, self.neurons.tau_m, self.dtype)
                for n, layer in enumerate(self.hidden, start=1) for key in ("R", "tau")}

    def alpha_names(self):
        """Names of the architecture parameters."""
        return [f"rec{n}.{key}" for n, layer in enumerate(self.layers, start=1)
                if layer.recurrence is not None for key in layer.recurrence.alpha_names]

    def weight_names(self):
        """Names of the trained weights, in a fixed order."""
        recurrent = [f"rec{n}.{key}" for n, layer in enumerate(self.layers, start=1)
                     if layer.recurrence is not None for key in layer.recurrence.weight_names]
        return [*self.names, *recurrent]

    def own(self, values, n):
        """The part of a flat dict that belongs to the recurrence of hidden layer n (from 1)."""
        prefix = f"rec{n}."
        return {key[len(prefix):]: value for key, value in values.items() if key.startswith(prefix)}

    def synapses(self, parameters):
        """What the backend needs of the parameters: weights and links of every layer."""
        found = []
        for n, (name, layer) in enumerate(zip(self.names, self.layers), start=1):
            if layer.recurrence is not None:
                links = layer.recurrence.links(self.own(parameters, n))
            else:
                links = Links(np.zeros(layer.size + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, self.dtype))
            found.append(Synapses(parameters[name], links))
        return found

    # ---- passes over a batch -------------------------------------------------------------------------

    def evaluate(self, parameters, intrinsic, events, record=False):
        """Forward only: an :class:`Outcome` without gradients."""
        return self._run(parameters, intrinsic, events, False, None, record)

    def gradients(self, parameters, intrinsic, events, plasticity=None, record=False, feedforward=True):
        """Forward and backward. With ``plasticity``, SpiKL-IP runs during the pass (online mode, [27, 28]).

        Without ``feedforward`` only the gradients of recurrent parameters are made.
        """
        return self._run(parameters, intrinsic, events, True, plasticity, record, feedforward)

    def adapt(self, parameters, intrinsic, events, plasticity, record=False):
        """The IP window (mathematics 8): forward only, SpiKL-IP running in every recurrent layer."""
        return self._run(parameters, intrinsic, events, False, plasticity, record)

    def gradients_at(self, points, intrinsic, events, plasticity=None, feedforward=True):
        """The gradients of several sets of parameters on one batch, side by side: a list of what each alone gives.

        The CPU has more chunks at hand; a GPU runs the samples of all sets in the same launches.
        """
        found = self._passes(points, intrinsic, events, True, plasticity, False, feedforward)
        return [own.gradients for own in found]

    def fetch(self, *arrays):
        """Arrays of float64 from where the backend computes as NumPy's.

        In one copy, and with the numbers of all outcomes that nobody has looked at yet.
        """
        outcomes = list(self.unseen)
        self.unseen.clear()
        found = together.ask(self.backend.fetch, [*arrays, *(own.numbers for own in outcomes)], "fetch")
        for outcome, numbers in zip(outcomes, found[len(arrays):]):
            outcome.numbers = numbers
        return found[:len(arrays)]

    def _run(self, parameters, intrinsic, events, *options):
        found, = self._passes([parameters], intrinsic, events, *options)
        return Outcome(self, found, len(events), events.steps)

    def _passes(self, points, intrinsic, events, *options):
        """What passes over one batch find, one for each set of parameters; options as in :class:`passes.Asked`."""
        for parameters in points:
            self._check(parameters, intrinsic, events)
        given, (*points, intrinsic) = self._moved(*points, intrinsic)
        asked = [Asked(self, parameters, intrinsic, events, *options) for parameters in points]
        return [found._replace(gradients=given(found.gradients), intrinsic=given(found.intrinsic))
                for found in together.ask(run, asked, asked[0].kind)]

    def _moved(self, *groups):
        """Dicts of arrays where the backend computes, and what takes such a dict, or None, back where the first lay."""
        there = type(groups[0]["w_out"]) is not np.ndarray

        def all_of(move, arrays):
            return {name: move(array) for name, array in arrays.items()}

        def given(arrays):
            return arrays if there or arrays is None else all_of(self.backend.to_host, arrays)

        return given, [all_of(self.backend.to_device, arrays) for arrays in groups]

    def shapes(self):
        """Shape of every parameter."""
        found, senders = {}, self.inputs
        for n, (name, layer) in enumerate(zip(self.names, self.layers), start=1):
            found[name] = (senders, layer.size)
            if layer.recurrence is not None:
                found |= {f"rec{n}.{key}": shape for key, shape in layer.recurrence.shapes().items()}
            senders = layer.size
        return found

    def _check(self, parameters, intrinsic, events):
        """Refuse what does not fit before a kernel, which checks nothing, reads beyond an array."""
        samples, steps, classes = len(events), events.steps, self.output.size
        if samples == 0:
            raise ValueError("an empty batch has no mean")
        if events.channels != self.inputs:
            raise ValueError(f"events of {events.channels} channels for a network of {self.inputs} inputs")
        if events.labels.min() < 0 or events.labels.max() >= classes:
            raise ValueError(f"labels {events.labels.min()} to {events.labels.max()} for {classes} classes")
        for name, shape in self.shapes().items():
            if parameters[name].shape != shape or parameters[name].dtype != self.dtype:
                raise ValueError(f"{name}: expected {self.dtype} {shape}, found {parameters[name].dtype} "
                                 f"{parameters[name].shape}")
        for n, layer in enumerate(self.hidden, start=1):
            allowed = [(layer.size,), (steps, layer.size), (samples, steps, layer.size)]
            for name in (f"R{n}", f"tau{n}"):
                if intrinsic[name].shape not in allowed or intrinsic[name].dtype != self.dtype:
                    raise ValueError(f"{name}: expected {self.dtype} and one of {allowed}, "
                                     f"found {intrinsic[name].dtype} {intrinsic[name].shape}")
