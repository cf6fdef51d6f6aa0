"""The network: layers strung together, forward -> tapes, backward -> gradients, loss and decision.

Hidden layers (SC-ML or plain LIF) are connected by feedforward weights and followed by a feedforward
LIF output layer. Its parameters are those of parameters.py. They may be NumPy's or lie where the backend
computes; gradients and R, tau after plasticity come back in kind.
A batch is cut into chunks by the backend, each goes through all layers by itself: see passes.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.data.checks import MOST
from hrmas_sparse.data.events import Events
from hrmas_sparse.engine import described
from hrmas_sparse.engine import neuron as formulas
from hrmas_sparse.engine.architecture import generator
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.checks import check_constant, check_events, check_finite, check_parameters
from hrmas_sparse.engine.layers import LIF, HiddenLayer, Integrator, windows_of
from hrmas_sparse.engine.losses import Loss, make_loss
from hrmas_sparse.engine.parameters import INTRINSIC, Entry, Parameters
from hrmas_sparse.engine.passes import PassOptions, Request, Result, run
from hrmas_sparse.engine.stack import Layer, Plasticity, Stack
from hrmas_sparse.export import arrays, export, nir
from hrmas_sparse.export.description import Description
from hrmas_sparse.storage import memory
from hrmas_sparse.storage.errors import InputError


@dataclass(frozen=True)
class Outcome:
    """What one pass over a batch of B samples gives; L layers, the output layer last.

    Attributes
    ----------
    loss : float, mean over the batch
    scores : (B, classes) float64, the summed output psc; the largest decides
    predicted : (B,) int64, the decided class; the lower one of a tie
    rates : list of L floats, mean spikes per neuron and step
    gradients : Parameters, of the mean loss, without R and tau unless asked for; None after a forward pass
    intrinsic : Parameters of R and tau after SpiKL-IP, or None
    records : list of L dicts of arrays, or None
    """

    loss: float
    scores: np.ndarray
    predicted: np.ndarray
    rates: list[float]
    gradients: Parameters | None = None
    intrinsic: Parameters | None = None
    records: list[dict[str, np.ndarray]] | None = None

    @property
    def spikes(self) -> list[Any] | None:
        """Spikes of every layer, each (B, T, N) float64; None unless recorded."""
        return self._recorded("spikes")

    @property
    def v(self) -> list[Any] | None:
        """Membrane potentials before the reset, each (B, T, N); None unless recorded."""
        return self._recorded("v")

    @property
    def psc(self) -> list[Any] | None:
        """Filtered spikes, each (B, T, N); None unless recorded."""
        return self._recorded("psc")

    def _recorded(self, key: str) -> list[Any] | None:
        return None if self.records is None else [record.get(key) for record in self.records]


class Network:
    """A spiking network: hidden layers, then a feedforward output layer with one neuron a class.

    It may be used by several threads at once.

    Parameters
    ----------
    channels, classes : int
        Of the input; of the output.
    hidden : sequence
        The hidden layers, from below: :class:`Motifs`, :class:`Supernet`, :class:`Dense`, :class:`Feedforward`.
    neuron : LIF
        Constants of the neurons.
    loss : str or object
        "psc", "cross_entropy" or a loss object, see losses.py.
    readout : Integrator, optional
        Output neurons that do not spike; by default they do.
    backend : str or Backend
        "auto" (a GPU if there is one), "cpu" or "cuda".
    dtype : str
        "float32" or "float64".
    smooth : bool
        The variant whose spikes are a logistic function of v, so that its loss has a derivative (mathematics 12).
    rule : str
        How gradients are made: "tssl-bp", or "surrogate", backpropagation through time with the logistic's derivative
        for that of a spike.

    Attributes
    ----------
    layers : list of Layer
        Hidden layers, then the output layer.
    weight_names, alpha_names : list of (layer, name)
        Which parameters are weights and which the architecture's.

    Raises
    ------
    InputError
        Something does not fit; the entry is named.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> net = hs.Network(channels=4, classes=2, hidden=[hs.Motifs(12, size=3)], neuron=hs.LIF(v_th=1), backend="cpu")
    >>> net
    Network(4 channels, hidden [12 Motifs], 2 classes, float32, cpu)
    >>> params = net.init(seed=0)
    >>> events = hs.Events.from_dense(np.ones((3, 10, 4), bool), labels=[0, 1, 1])
    >>> out = net.gradients(params, events)
    >>> out.scores.shape, out.gradients.layers[0].w.shape
    ((3, 2), (4, 12))
    """

    def __init__(self, channels: int, classes: int, hidden: Sequence[HiddenLayer], neuron: LIF | None = None,
                 loss: str | Loss = "psc", backend: str | Any = "auto", dtype: Any = "float32",
                 smooth: bool = False, readout: Integrator | None = None, rule: str = "tssl-bp") -> None:
        self.channels, self.classes = _count("channels", channels), _count("classes", classes)
        self.neuron = LIF() if neuron is None else neuron
        if not isinstance(self.neuron, LIF):
            raise InputError(f"neuron: expected hrmas_sparse.LIF, found {neuron!r}")
        if dtype not in ("float32", "float64", np.float32, np.float64):
            raise InputError(f"dtype: expected float32 or float64, found {dtype!r}")
        if rule not in ("tssl-bp", "surrogate"):
            raise InputError(f"rule: expected tssl-bp or surrogate, found {rule!r}")
        self.dtype, self.smooth = np.dtype(dtype), bool(smooth)
        criterion = functools.partial(make_loss(loss), tau_s=self.neuron.tau_s)
        self.backend = get_backend(backend) if isinstance(backend, str) else backend
        if not hasattr(self.backend, "layer"):
            raise InputError(f"backend: expected auto, cpu, cuda or a backend, found {backend!r}")
        given = _list("hidden", hidden)
        self._kinds = [type(layer).__name__ for layer in given]
        self.hidden = [self._layer(n, layer) for n, layer in enumerate(given)]
        self.output = Layer(self.classes, self.neuron.v_th_out * self.neuron.tau_s,
                            windows=windows_of(readout, self.hidden, criterion.func))
        self.layers = [*self.hidden, self.output]
        constants = [formulas.constants(self.dtype, self.neuron.tau_s, layer.v_th, self.neuron.slope_cap,
                                        self.neuron.surrogate_width) for layer in self.layers]
        self.stack = Stack(tuple(self.layers), tuple(constants), criterion, self.neuron.tau_m, self.dtype, self.backend,
                           self.smooth, rule == "surrogate")

    def _layer(self, n: int, layer: HiddenLayer) -> Layer:
        if not hasattr(layer, "recurrence") or not hasattr(layer, "neurons"):
            raise InputError(f"hidden: layer {n}: expected Motifs, Supernet, Dense or Feedforward, found {layer!r}")
        v_th = self.neuron.v_th if layer.v_th is None else layer.v_th
        connections = layer.recurrence()
        return Layer(layer.neurons, v_th * self.neuron.tau_s, connections and connections.on(self.backend))

    def __repr__(self) -> str:
        hidden = ", ".join(f"{layer.size} {kind}" for layer, kind in zip(self.hidden, self._kinds))
        return (f"Network({self.channels} channels, hidden [{hidden}], {self.classes} classes, {self.dtype}, "
                f"{self.backend.name}{', smooth' if self.smooth else ''})")

    # ---- parameters ----------------------------------------------------------------------------------

    @property
    def forward_size(self) -> int:
        """Number of feedforward weights of all layers."""
        return sum(shapes["w"][0] * shapes["w"][1] for shapes in self.shapes())

    def init(self, seed: Any = 0) -> Parameters:
        """Return fresh parameters, NumPy's (paper 3.1.3).

        Feedforward weights are He normal, recurrence as its kind starts, R = tau = tau_m.

        Parameters
        ----------
        seed : int, sequence of ints, or numpy Generator

        Raises
        ------
        InputError
            They do not fit into memory.
        """
        memory.require_room("the feedforward weights", 8 * self.forward_size)
        rng, layers = generator(seed), []
        for layer, shapes in zip(self.layers, self.shapes()):
            weights = rng.standard_normal(shapes["w"]) * np.sqrt(2 / shapes["w"][0])
            arrays = {} if layer.recurrence is None else layer.recurrence.initial(self.dtype, rng)
            layers.append({"w": weights.astype(self.dtype), **arrays})
        return Parameters(layers).replaced(self.initial_intrinsic())

    def initial_intrinsic(self) -> Parameters:
        """R = tau = tau_m for every hidden neuron, as a part of the parameters."""
        hidden = [{name: np.full(layer.size, self.neuron.tau_m, self.dtype) for name in INTRINSIC}
                  for layer in self.hidden]
        return Parameters([*hidden, {}])

    @property
    def spiking_output(self) -> bool:
        """Whether the output neurons spike; integrators do not."""
        return self.output.windows == 0

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

    # ---- other programs ------------------------------------------------------------------------------

    def describe(self, params: Parameters, name: str = "network", class_names: Sequence[str] = ()) -> Description:
        """Return what other programs need of the network: plain arrays, layer by layer.

        Raises
        ------
        InputError
            The network is smooth, or R and tau are trajectories.
        """
        return described.describe(self, params, name, class_names)

    def export(self, path: str | Path, params: Parameters, **options: Any) -> None:
        """Write the network for other programs; see :func:`hrmas_sparse.export.export`."""
        export(path, self, params, **options)

    @classmethod
    def from_nir(cls, path: str | Path, dt: float | None = None, **options: Any) -> tuple[Network, Parameters]:
        """Return the network and the parameters of a NIR file.

        Parameters
        ----------
        path : path
        dt : float, optional
            Seconds of a step; by default what the file's metadata say, as ours do.
        options
            loss, backend

        Raises
        ------
        InputError
            The file has nodes or shapes that our networks do not have; the entry is named.
        """
        return described.built(cls, path, nir.read(path, dt), **options)

    @classmethod
    def from_npz(cls, path: str | Path, **options: Any) -> tuple[Network, Parameters]:
        """Return the network and the parameters of an exported .npz file; as :meth:`from_nir`."""
        return described.built(cls, path, arrays.read(path), **options)

    # ---- passes over a batch -------------------------------------------------------------------------

    def evaluate(self, params: Parameters, events: Events, record: bool = False) -> Outcome:
        """Run forward only.

        Parameters
        ----------
        params : Parameters
        events : Events, the batch
        record : keep spikes, v and psc of every layer

        Raises
        ------
        InputError
            The batch or the parameters do not fit, or hold NaN or Inf.
        """
        return self._outcome(params, events, True, record=record)

    def gradients(self, params: Parameters, events: Events, plasticity: Plasticity | None = None,
                  record: bool = False, intrinsic: bool = False) -> Outcome:
        """Run forward and backward: as :meth:`evaluate`, with the gradients of the mean loss (TSSL-BP, mathematics 5).

        With ``plasticity``, SpiKL-IP runs during the pass (online mode, [27, 28]). With ``intrinsic`` there are
        gradients of R and tau too, by their logarithms. A NaN among the parameters is not refused: it reaches loss
        or gradients, where a training loop looks for it.
        """
        if intrinsic:
            check_constant(params, plasticity)
        return self._outcome(params, events, False, backward=True, plasticity=plasticity, record=record,
                             intrinsic=intrinsic)

    def adapt(self, params: Parameters, events: Events, plasticity: Plasticity, record: bool = False) -> Outcome:
        """Run the IP window (mathematics 8): forward only, SpiKL-IP adapts R and tau of every recurrent layer."""
        return self._outcome(params, events, True, plasticity=plasticity, record=record)

    def loss(self, params: Parameters, events: Events) -> float:
        """Return the mean loss of a batch; nothing is changed, so it serves for finite differences."""
        return self.evaluate(params, events).loss

    def _outcome(self, params: Parameters, events: Events, finite: bool, **options: Any) -> Outcome:
        events = self.check(params, events)
        if finite:
            check_finite(params)
        return self.outcomes(self.passes([params], events, **options), events)[0][0]

    def check(self, params: Parameters, events: Events) -> Events:
        """Return the batch; refuse a batch or parameters that do not fit: kernels would read beyond an array.

        Raises
        ------
        InputError
        """
        events = check_events(events, self.channels, self.classes)
        check_parameters(params, self.shapes(), self.dtype, len(events), events.steps)
        return events

    def passes(self, points: list[Parameters], events: Events, **options: Any) -> list[Result]:
        """Run passes over one batch, one for each set of parameters, side by side; their numbers are not fetched.

        The CPU has more chunks at hand; a GPU runs the samples of all sets in the same launches. Nothing is checked,
        for this is the inside of the training loop: who takes data or parameters from a user calls :meth:`check`,
        :meth:`Dataset.check` or a method above.

        Parameters
        ----------
        points : list of Parameters
        events : the batch
        options : see :class:`passes.PassOptions`

        Returns
        -------
        list of :class:`passes.Result`
        """
        as_given, points = self._on_device(points)
        requests = [Request(self.stack, params, events, PassOptions(**options)) for params in points]
        try:
            passed = self.backend.run(run, requests, requests[0].kind)
        except MemoryError as error:
            raise InputError(f"events: {len(events)} samples of {events.steps} steps do not fit the memory with this "
                             "network; give fewer at a time") from error
        return [result._replace(gradients=as_given(result.gradients), intrinsic=as_given(result.intrinsic))
                for result in passed]

    def outcomes(self, passed: list[Result], events: Events, *arrays: Any) -> tuple[list[Outcome], list[Any]]:
        """Fetch the numbers of passes over one batch, and further float64 arrays, in one copy.

        Returns
        -------
        list of :class:`Outcome`, list of arrays
        """
        fetched = self.backend.fetch([*arrays, *(result.numbers for result in passed)])
        samples, classes = len(events), self.classes
        outcomes = []
        for result, numbers in zip(passed, fetched[len(arrays):]):
            losses, scores, spikes = (np.ascontiguousarray(numbers[:, part]) for part in (
                slice(1), slice(1, 1 + classes), slice(1 + classes, None)))
            rates = [count / (samples * events.steps * layer.size)
                     for count, layer in zip(spikes.sum(axis=0).tolist(), self.layers)]
            outcomes.append(Outcome(float(losses.sum()) / samples, scores, scores.argmax(axis=1), rates,
                                    result.gradients, result.intrinsic, result.records))
        return outcomes, fetched[:len(arrays)]

    def _on_device(self, points: Sequence[Parameters]) -> tuple[Callable[..., Any], list[Parameters]]:
        """What takes parameters, or None, to where the first of these lay, and all of these on the device."""
        there = type(points[0].layers[-1].w) is not np.ndarray

        def as_given(parameters: Parameters | None) -> Parameters | None:
            return parameters if there or parameters is None else parameters.map(self.backend.to_host)

        def laid_out(array: Any) -> Any:
            return array if there else np.require(array, requirements=("C", "A", "W"))

        return as_given, [params.map(lambda array: self.backend.to_device(laid_out(array))) for params in points]

    def shapes(self) -> list[dict[str, Any]]:
        """Return the shape of every parameter but R and tau, as one dict a layer."""
        senders = [self.channels, *(layer.size for layer in self.hidden)]
        senders[-1] *= max(1, self.output.windows)
        return [{"w": (count, layer.size), **(layer.recurrence.shapes() if layer.recurrence is not None else {})}
                for count, layer in zip(senders, self.layers)]


def _count(what: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not 1 <= value <= MOST:
        raise InputError(f"{what}: expected a whole number from 1 to {MOST}, found {value!r}")
    return int(value)


def _list(what: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise InputError(f"{what}: expected a list of layers, found {value!r}") from None
