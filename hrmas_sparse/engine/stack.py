"""A stack of layers: what a pass needs to know of a network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends.base import Backend, Intrinsic, Neurons, Synapses
from hrmas_sparse.engine.parameters import LayerParameters, Parameters
from hrmas_sparse.engine.recurrence import Links


@dataclass(frozen=True)
class Layer:
    """One layer of a network: neurons, threshold (unit of psc), connections (see recurrence.py) or None.

    windows : 0 for neurons that spike; the output layer may be one of integrators, with so many windows
    """

    size: int
    v_th: float
    recurrence: Any = None
    windows: int = 0


@dataclass(frozen=True)
class Plasticity:
    """SpiKL-IP settings; see :func:`neuron.plasticity_constants`."""

    tau_cal: float
    gamma: float
    mu: float


@dataclass(frozen=True)
class Stack:
    """The layers of a network on a backend, and the loss above them.

    Attributes
    ----------
    layers : the output layer last
    constants : of each layer
    loss : (psc, labels) -> loss of each sample, gradient; see losses.py
    tau_m : R and tau of the output layer, steps
    smooth : the variant of mathematics 12a
    through_time : gradients by surrogate gradient through time, not TSSL-BP
    """

    layers: tuple[Layer, ...]
    constants: tuple[neuron.Constants, ...]
    loss: Callable[[Any, Any], tuple[Any, Any]]
    tau_m: float
    dtype: np.dtype
    backend: Backend
    smooth: bool = False
    through_time: bool = False

    @functools.cached_property
    def output_intrinsic(self) -> Intrinsic:
        """R and tau of the output layer where the backend computes: the same object always, never changed."""
        fixed = self.backend.to_device(np.full(self.layers[-1].size, self.tau_m, self.dtype))
        return Intrinsic(fixed, fixed)

    def neurons(self, slot: int, plasticity: Plasticity | None = None) -> Neurons:
        """Return how the neurons of a layer behave; SpiKL-IP adapts those of layers with recurrence alone."""
        layer, p = self.layers[slot], None
        if plasticity is not None and layer.recurrence is not None:
            p = neuron.plasticity_constants(self.dtype, self.tau_m, plasticity.tau_cal, layer.v_th, plasticity.gamma,
                                            plasticity.mu)
        return Neurons(self.constants[slot], p, self.smooth, self.through_time)

    def synapses(self, parameters: Parameters) -> list[Synapses]:
        """Return the weights and links of every layer."""
        return [Synapses(arrays.w, self._links(layer, arrays)) for layer, arrays in zip(self.layers, parameters.layers)]

    def _links(self, layer: Layer, arrays: LayerParameters) -> Links:
        if layer.recurrence is not None:
            return layer.recurrence.links(arrays)
        return self._no_links[layer.size]

    @functools.cached_property
    def _no_links(self) -> dict[int, Links]:
        """The links of layers that have none, by size; the same arrays always, for backends know patterns by them."""
        return {layer.size: Links(np.zeros(layer.size + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, self.dtype))
                for layer in self.layers}
