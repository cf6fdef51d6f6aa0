"""What a network is given, checked before a kernel sees it: kernels check nothing and read beyond an array.

Every refusal is an InputError that names the entry, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.storage.errors import InputError


def check_events(events: Any, channels: int, classes: int) -> Events:
    """Return the batch; refuse one that is empty, malformed, or of another network's channels and classes."""
    if not isinstance(events, Events):
        raise InputError(f"events: expected hrmas_sparse.Events, found {type(events).__name__}; "
                         "Events.from_dense and Events.from_arrays make them")
    if type(events) is Events:  # others were made of such by a backend, and lie on its device
        try:
            events = dataclasses.replace(events)  # checked anew: arrays can be written to
        except InputError as error:
            raise InputError(f"events: {str(error).removeprefix('events: ')}") from error
    if events.channels != channels:
        raise InputError(f"events: channels: expected {channels} as the network has, found {events.channels}")
    if len(events) == 0:
        raise InputError("events: an empty batch has no mean; expected at least one sample")
    low, high = events.labels.min(), events.labels.max()
    if low < 0 or high >= classes:
        raise InputError(f"events: labels: expected 0 to {classes - 1} for {classes} classes, found {low} to {high}")
    checked: Events = events
    return checked


def check_parameters(parameters: Any, shapes: list[dict[str, Any]], dtype: np.dtype, samples: int, steps: int) -> None:
    """Refuse parameters that lack an array, have one too many, or one of another type or shape.

    ``shapes`` has one dict a layer, name -> shape, without R and tau; the hidden layers have those too.
    """
    if not isinstance(parameters, Parameters):
        raise InputError(f"parameters: expected hrmas_sparse.Parameters, found {type(parameters).__name__}; "
                         "Network.init makes them")
    layers = parameters.layers
    if len(layers) != len(shapes):
        raise InputError(f"parameters: expected {len(shapes)} layers, output included, found {len(layers)}")
    for n, (layer, wanted) in enumerate(zip(layers, shapes)):
        hidden = n < len(shapes) - 1
        names = {*wanted, *(INTRINSIC if hidden else ())}
        if odd := names ^ set(layer):
            raise InputError(f"parameters: layer {n}: expected {', '.join(sorted(names))}; missing or too many: "
                             f"{', '.join(sorted(map(str, odd)))}")
        for name, array in layer.items():
            neurons = wanted["w"][1]
            fits = [wanted[name]] if name in wanted else [(neurons,), (steps, neurons), (samples, steps, neurons)]
            if not hasattr(array, "dtype") or array.dtype != dtype or array.shape not in fits:
                shown = f"{array.dtype} {array.shape}" if hasattr(array, "dtype") else type(array).__name__
                raise InputError(f"parameters: layer {n}, {name}: expected {dtype} "
                                 f"{' or '.join(map(str, fits))}, found {shown}")


def check_constant(parameters: Any, plasticity: Any) -> None:
    """Refuse R and tau that change during a pass: gradients are those of one value a neuron."""
    if plasticity is not None:
        raise InputError("intrinsic: expected False where plasticity moves R and tau during the pass, found True")
    for n, layer in enumerate(getattr(parameters, "layers", ())):
        for name in INTRINSIC:
            shape = getattr(layer.get(name), "shape", ())    # what is no array is refused with the other parameters
            if len(shape) > 1:
                raise InputError(f"intrinsic: expected False where layer {n}, {name}, is a trajectory {shape}: "
                                 "gradients are those of one value a neuron")


def check_finite(parameters: Parameters) -> None:
    """Refuse NaN and Inf, and a tau that is not above 0: scores of such a network would mean nothing."""
    for (n, name), array in parameters.items():
        if not bool(np.isfinite(array).all()):
            raise InputError(f"parameters: layer {n}, {name}: expected finite numbers, found NaN or Inf")
        if name == "tau" and not bool((array > 0).all()):
            raise InputError(f"parameters: layer {n}, tau: expected numbers above 0, found {float(array.min())}")
