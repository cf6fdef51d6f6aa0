"""A trained network as other programs need it: plain arrays, layer by layer.

Every file format of this folder writes a :class:`Description`, and every reader returns one. It is checked when it is
built, so nothing that a file holds reaches a network or a kernel unchecked.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np

from hrmas_sparse.storage.errors import InputError

LARGEST_LAYER = 1 << 20  # neurons, channels


class Topology(NamedTuple):
    """What makes a layer one of motifs (mathematics 2); only our own reader needs it.

    types : int8, one a row of the motif's table: 0 excitatory, 1 inhibitory, 2 none.
    """

    motif_size: int
    inter: bool
    tied: bool
    types: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerDescription:
    """One layer of N neurons that listens to C senders (mathematics 1).

    Attributes
    ----------
    w : (C, N) float
        Feedforward weights, row = sender.
    indptr, indices, data : (N + 1,) int64, (nnz,) int64, (nnz,) float
        Recurrent weights, CSR, row = sender; `indices` are receivers and rise inside a row. Empty without recurrence.
    R, tau : (N,) float
        Resistance and membrane time constant, the latter in steps.
    v_th : float
        Threshold, in the unit of the postsynaptic current (PSC).
    topology : Topology, optional
    """

    w: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    R: np.ndarray
    tau: np.ndarray
    v_th: float
    topology: Topology | None = None

    @property
    def size(self) -> int:
        """Return the number of neurons."""
        return self.w.shape[1]

    @property
    def recurrent(self) -> bool:
        """Return whether there is a link."""
        return self.indices.size > 0

    def dense(self) -> np.ndarray:
        """Return the recurrent weights as a matrix (N, N), [receiver, sender]."""
        matrix = np.zeros((self.size, self.size), self.data.dtype)
        matrix[self.indices, self.senders] = self.data
        return matrix

    @property
    def senders(self) -> np.ndarray:
        """Return the sender of every link, (nnz,)."""
        return np.repeat(np.arange(self.size), np.diff(self.indptr))


@dataclass(frozen=True, eq=False)
class Description:
    """A network of hidden layers and an output layer, which is last.

    Attributes
    ----------
    layers : tuple of LayerDescription
    tau_s : float
        Synaptic time constant, steps.
    name : str
    class_names : tuple of str
        One a class; empty if unknown.

    Raises
    ------
    InputError
        An entry does not fit; the message names it, what was expected and what was found.
    """

    layers: tuple[LayerDescription, ...]
    tau_s: float
    name: str = "network"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            _refuse("layers", "at least the output layer", "none")
        _positive("tau_s", self.tau_s, 1)
        dtype, senders = self.layers[0].w.dtype, None
        for key, layer in self.named():
            senders = _check(key, layer, senders, dtype)
        if self.layers[-1].recurrent:
            _refuse("rec_out", "an output layer without recurrence", f"{self.layers[-1].data.size} links")
        _printable("name", self.name)
        for number, text in enumerate(self.class_names):
            _printable(f"class_names[{number}]", text)
        if self.class_names and len(self.class_names) != self.classes:
            _refuse("class_names", f"{self.classes} names, one a neuron of the output layer", len(self.class_names))

    def named(self) -> list[tuple[str, LayerDescription]]:
        """Return (key, layer) pairs; keys are "1", "2", ..., "_out", as in `w1` and `w_out`."""
        return [*((str(n), layer) for n, layer in enumerate(self.layers[:-1], start=1)), ("_out", self.layers[-1])]

    @property
    def channels(self) -> int:
        """Return the number of input channels."""
        return self.layers[0].w.shape[0]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return self.layers[-1].size

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of all weights."""
        return self.layers[0].w.dtype

    def astype(self, dtype: str) -> Description:
        """Return the same network with arrays of another float dtype."""
        arrays = ("w", "data", "R", "tau")
        layers = (dataclasses.replace(layer, **{name: getattr(layer, name).astype(dtype) for name in arrays})
                  for layer in self.layers)
        return dataclasses.replace(self, layers=tuple(layers))

    def folded(self) -> Description:
        """Return an equal network whose neurons all have R = tau: the gain R/tau goes into the weights they receive.

        Input and membrane are linear, so scaling a neuron's current by its gain is scaling its weights. Results may
        differ by rounding.
        """
        layers = []
        for layer in self.layers:
            gain = layer.R / layer.tau
            layers.append(dataclasses.replace(layer, w=layer.w * gain, data=layer.data * gain[layer.indices],
                                              R=layer.tau.copy(), topology=None if (gain != 1).any()
                                              else layer.topology))
        return dataclasses.replace(self, layers=tuple(layers))


def _check(key: str, layer: LayerDescription, senders: int | None, dtype: np.dtype) -> int:
    """Refuse a layer that does not fit; return its number of neurons."""
    rec = f"rec{key}"
    _array(f"w{key}", layer.w, (senders, None), dtype)
    size = layer.size
    _array(f"R{key}", layer.R, (size,), dtype)
    _array(f"tau{key}", layer.tau, (size,), dtype)
    _each(f"tau{key}", layer.tau, layer.tau > 0.5, "a time constant above 0.5 steps")
    _positive(f"v_th{key}", layer.v_th)
    for name, array, length in (("indptr", layer.indptr, size + 1), ("indices", layer.indices, None)):
        if array.dtype.kind not in "iu" or array.ndim != 1 or length not in (None, array.size):
            _refuse(f"{rec}_{name}", f"{length or 'links'} integers", f"{array.dtype} {array.shape}")
    links = layer.indices.size
    _array(f"{rec}_data", layer.data, (links,), dtype)
    indptr = layer.indptr.astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != links or (np.diff(indptr) < 0).any():
        _refuse(f"{rec}_indptr", f"numbers that rise from 0 to {links}, the number of links", _brief(indptr))
    _each(f"{rec}_indices", layer.indices, (layer.indices >= 0) & (layer.indices < size), f"a neuron 0..{size - 1}")
    falls = np.diff(layer.indices.astype(np.int64), prepend=-1) <= 0
    falls[indptr[:-1][indptr[:-1] < links]] = False
    _each(f"{rec}_indices", layer.indices, ~falls, "receivers that rise inside a sender's row")
    return size


def _array(name: str, array: np.ndarray, shape: tuple[int | None, ...], dtype: np.dtype) -> None:
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    fits = array.ndim == len(shape) and all(n is None or n == size for n, size in zip(shape, array.shape))
    if not fits or array.dtype != dtype or dtype not in (np.float32, np.float64):
        kind = dtype if dtype in (np.float32, np.float64) else "float32 or float64"
        _refuse(name, f"{kind} of shape {wanted}", f"{array.dtype} {array.shape}")
    if array.ndim == 2 and not all(0 < n <= LARGEST_LAYER for n in array.shape):
        _refuse(name, f"1 to {LARGEST_LAYER:,} senders and neurons", f"{array.shape}")
    _each(name, array, np.isfinite(array), "a finite number")


def _each(name: str, array: np.ndarray, good: np.ndarray, expected: str) -> None:
    if not good.all():
        where = np.unravel_index(int(np.argmin(good)), good.shape)
        _refuse(f"{name}[{', '.join(map(str, where))}]", expected, array[where])


def _positive(name: str, value: float, least: float = 0) -> None:
    if not isinstance(value, (int, float)) or not np.isfinite(value) or value <= 0 or value < least:
        _refuse(name, f"a number {'above 0' if not least else f'of at least {least}'}", value)


def _printable(name: str, text: str) -> None:
    if not isinstance(text, str) or not text.isprintable() or len(text) > 200:
        _refuse(name, "printable text of at most 200 characters", repr(text)[:80])


def _brief(array: np.ndarray) -> str:
    return f"{array.size} numbers, first {array[:3].tolist()}, last {array[-3:].tolist()}"


def _refuse(entry: str, expected: str, found: object) -> NoReturn:
    raise InputError(f"{entry}: expected {expected}, found {found}")
