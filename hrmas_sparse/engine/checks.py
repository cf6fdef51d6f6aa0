"""What a network is given, checked before a kernel sees it: kernels check nothing and read beyond an array.

Every refusal is an InputError that names the entry, what was expected and what was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hrmas_sparse.data.events import EVENT_ARRAYS, Events
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.storage.errors import InputError

MOST = 1 << 16                                  # steps and channels: events hold them as uint16
VALUES = ("uint8", "float32", "float64")
_HOST = (np.ndarray, np.memmap)


def check_events(events: Any, channels: int, classes: int) -> None:
    """Refuse a batch that is empty, malformed, or of another network's channels and classes."""
    if not isinstance(events, Events):
        raise InputError(f"events: expected hrmas_sparse.Events, found {type(events).__name__}; "
                         "Events.from_dense and Events.from_arrays make them")
    for name in ("steps", "channels"):
        extent = getattr(events, name)
        if isinstance(extent, bool) or not isinstance(extent, (int, np.integer)) or not 1 <= extent <= MOST:
            raise InputError(f"events: {name}: expected a whole number from 1 to {MOST}, found {extent!r}")
    if events.channels != channels:
        raise InputError(f"events: channels: expected {channels} as the network has, found {events.channels}")
    if type(events) is Events:  # others were made of such by a backend, and lie on its device
        _check_arrays(events)
    samples = len(events)
    if samples == 0:
        raise InputError("events: an empty batch has no mean; expected at least one sample")
    low, high = events.labels.min(), events.labels.max()
    if low < 0 or high >= classes:
        raise InputError(f"events: labels: expected 0 to {classes - 1} for {classes} classes, found {low} to {high}")


def _check_arrays(events: Events) -> None:
    """Refuse arrays of other types or lengths, and steps, channels or values out of range."""
    wanted = {"indptr": ("int64",), "step": ("uint16",), "channel": ("uint16",), "value": VALUES, "labels": ("int64",)}
    for name, dtypes in wanted.items():
        array = getattr(events, name)
        if type(array) not in _HOST or array.ndim != 1 or array.dtype not in [np.dtype(d) for d in dtypes]:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"events: {name}: expected a flat array of {' or '.join(dtypes)}, found {found}")
    indptr, count = events.indptr, len(events.step)
    if len(indptr) != len(events.labels) + 1 or indptr[0] != 0 or indptr[-1] != count or (np.diff(indptr) < 0).any():
        raise InputError(f"events: indptr: expected {len(events.labels) + 1} rising numbers from 0 to {count}, "
                         f"found {len(indptr)}{f' from {indptr[0]} to {indptr[-1]}' if len(indptr) else ''}")
    if {len(getattr(events, name)) for name in EVENT_ARRAYS} != {count}:
        raise InputError("events: step, channel, value: expected equal lengths, found "
                         + ", ".join(str(len(getattr(events, name))) for name in EVENT_ARRAYS))
    if not count:
        return
    for name, extent in (("step", events.steps), ("channel", events.channels)):
        array = getattr(events, name)
        if array.max() >= extent:
            k = int(np.argmax(array >= extent))
            raise InputError(f"events: {name}: expected 0 to {extent - 1}, found {array[k]} in entry {k}")
    if not np.isfinite(events.value).all():
        k = int(np.argmin(np.isfinite(events.value)))
        raise InputError(f"events: value: expected finite numbers, found {events.value[k]} in entry {k}")
    place = events.step.astype(np.int64) * events.channels + events.channel
    rising = np.diff(place) > 0
    starts = indptr[1:-1]
    rising[starts[(starts > 0) & (starts < count)] - 1] = True
    if not rising.all():
        k = int(np.argmin(rising)) + 1
        raise InputError(f"events: expected each sample's events sorted by step, then channel, each once; "
                         f"entry {k} (step {events.step[k]}, channel {events.channel[k]}) is not after the one before")


def check_parameters(parameters: Any, shapes: list[dict], dtype: np.dtype, samples: int, steps: int) -> None:
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
                found = f"{array.dtype} {array.shape}" if hasattr(array, "dtype") else type(array).__name__
                raise InputError(f"parameters: layer {n}, {name}: expected {dtype} "
                                 f"{' or '.join(map(str, fits))}, found {found}")


def check_finite(parameters: Parameters) -> None:
    """Refuse NaN and Inf, and a tau that is not above 0: scores of such a network would mean nothing."""
    for (n, name), array in parameters.items():
        if not bool(np.isfinite(array).all()):
            raise InputError(f"parameters: layer {n}, {name}: expected finite numbers, found NaN or Inf")
        if name == "tau" and not bool((array > 0).all()):
            raise InputError(f"parameters: layer {n}, tau: expected numbers above 0, found {float(array.min())}")
