"""What a user builds a network of: the neuron's constants and the kinds of hidden layer.

Each layer is a small description. ``recurrence()`` makes its connections (recurrence.py); to add a kind, add a class
with ``neurons``, ``v_th`` and ``recurrence()``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hrmas_sparse.engine import recurrence as kinds
from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.losses import PscLoss
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.memory import require_room

MOST_NEURONS = 10**7


@dataclass(frozen=True)
class LIF:
    """Leaky integrate-and-fire neurons with a synaptic filter; what all layers share (mathematics 1, 5).

    Parameters
    ----------
    tau_m, tau_s : float
        Membrane and synaptic time constant, steps, at least 1. Hidden neurons start with R = tau = tau_m.
    v_th, v_th_out : float
        Thresholds of hidden and output neurons, in units of tau_s.
    slope_cap : float
        Largest 1/dv of TSSL-BP, in units of 1/threshold.
    surrogate_width : float
        Width of the surrogate of silent neurons, in units of the threshold.

    Raises
    ------
    InputError
        A number is not finite or out of range.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> hs.LIF(tau_m=16, tau_s=8, v_th=10).v_th
    10.0
    """

    tau_m: float = 16.0
    tau_s: float = 8.0
    v_th: float = 10.0
    v_th_out: float = 1.0
    slope_cap: float = 1.0
    surrogate_width: float = 0.2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, _real(f"neuron: {name}", value, 1.0 if name.startswith("tau") else None))


@dataclass(frozen=True)
class Integrator:
    """A readout whose neurons sum what they receive and never spike, one a class (mathematics 4).

    Parameters
    ----------
    windows : int
        Windows of equal length into which a sample is cut; each has weights of its own, so that a class can depend on
        when a hidden neuron spikes.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> net = hs.Network(channels=4, classes=2, hidden=[hs.Feedforward(8)], readout=hs.Integrator(windows=5),
    ...                  loss="cross_entropy", backend="cpu")
    >>> net.init().layers[-1].w.shape
    (40, 2)
    """

    windows: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", _count("readout: windows", self.windows))


def windows_of(readout: Any, hidden: list[Any], loss: Any) -> int:
    """Return the windows of a network's readout, 0 for output neurons that spike; refuse what does not go together."""
    if readout is None:
        return 0
    if not isinstance(readout, Integrator) or not hidden:
        raise InputError("readout: expected hrmas_sparse.Integrator above at least one hidden layer, or None, "
                         f"found {readout!r} above {len(hidden)}")
    if isinstance(loss, PscLoss):
        raise InputError("loss: expected cross_entropy or a loss object where the readout is an Integrator, found "
                         "psc, which compares spike trains")
    return readout.windows


class HiddenLayer(Protocol):
    """A kind of hidden layer. ``v_th`` (units of tau_s) is this layer's own threshold, None for the network's."""

    @property
    def neurons(self) -> int: ...

    @property
    def v_th(self) -> float | None: ...

    def recurrence(self) -> Any:
        """Return the connections, see recurrence.py; None for a layer without."""


@dataclass(frozen=True)
class Feedforward:
    """A layer without recurrence.

    Parameters
    ----------
    neurons : int
    v_th : float, optional
        This layer's threshold, in units of tau_s; the network's by default.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> hs.Network(channels=4, classes=2, hidden=[hs.Feedforward(8)], backend="cpu").init().layers[0].w.shape
    (4, 8)
    """

    neurons: int
    v_th: float | None = None

    def __post_init__(self) -> None:
        _settle(self)

    def recurrence(self) -> None:
        """Return None: there are no connections."""


@dataclass(frozen=True)
class Dense:
    """Every neuron to every neuron, itself included, all weights free (Table 3).

    Parameters
    ----------
    neurons, v_th
        As of :class:`Feedforward`.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> hs.Network(channels=4, classes=2, hidden=[hs.Dense(8)], backend="cpu").init().layers[0].w_rec.size
    64
    """

    neurons: int
    v_th: float | None = None

    def __post_init__(self) -> None:
        _settle(self)

    def recurrence(self) -> kinds.Free:
        """Return the connections."""
        _require_links(self, self.neurons**2)
        each = np.arange(self.neurons)
        return kinds.Free(self.neurons, np.repeat(each, self.neurons), np.tile(each, self.neurons))


@dataclass(frozen=True)
class Motifs:
    """An SC-ML layer: copies of one motif, neighbours linked (paper 2.2). Excitatory weights are trained.

    Parameters
    ----------
    neurons : int
    size : int, optional
        Neurons of a motif; divides ``neurons``. Not needed with an ``architecture``.
    types : str
        "random": every connection excitatory, inhibitory or none, drawn by ``seed``; "excitatory": all of them.
    inter, tied : bool
        Link neighbouring motifs; give all motifs the same topology.
    seed : int
        Of the types.
    architecture : Architecture, optional
        The topology, instead of all of the above.
    w_exc, w_inh : float
        Start of the excitatory weights; the fixed inhibitory weight.
    v_th : float, optional
        This layer's threshold, in units of tau_s; the network's by default.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> layer = hs.Motifs(1600, size=16, types="random", inter=True, seed=0)
    >>> layer.architecture
    Architecture(1600 neurons, 100 motifs of 16: 88 excitatory, 92 inhibitory, 108 none)
    """

    neurons: int
    size: int | None = None
    types: str = "random"
    inter: bool = True
    tied: bool = True
    seed: Any = 0
    architecture: Architecture | None = None
    w_exc: float = 0.2
    w_inh: float = -2.0
    v_th: float | None = None

    def __post_init__(self) -> None:
        _settle(self)
        _set_weights(self)
        given = self.architecture
        if given is not None:
            if not isinstance(given, Architecture):
                raise InputError(f"Motifs: architecture: expected an Architecture, found {type(given).__name__}")
            if given.neurons != self.neurons or self.size not in (None, given.motif_size):
                raise InputError(f"Motifs: architecture: expected one of {self.neurons} neurons"
                                 f"{f' and motifs of {self.size}' if self.size else ''}, found {given!r}; "
                                 "carried_to(neurons=...) changes the number of neurons")
            _set(self, size=given.motif_size, inter=given.linked, tied=given.tied)
            return
        if self.size is None:
            raise InputError("Motifs: expected a size or an architecture, found neither")
        _require_links(self, self.neurons * _count("Motifs: size", self.size))
        made = Architecture.random(self.neurons, self.size, self.seed, self.inter, self.tied)
        if self.types == "excitatory":
            made = Architecture(self.neurons, self.size, self.inter, np.zeros_like(made.types), self.tied)
        elif self.types != "random":
            raise InputError(f'Motifs: types: expected "random" or "excitatory", found {self.types!r}; '
                             "architecture= takes any, see Architecture.from_signs")
        _set(self, architecture=made)

    def recurrence(self) -> kinds.Discrete:
        """Return the connections."""
        assert self.architecture is not None
        return kinds.Discrete(self.architecture, self.w_exc, self.w_inh)


@dataclass(frozen=True)
class Supernet:
    """The relaxed layer of the search: all motif sizes and types at once, weighed by alpha (mathematics 3).

    Parameters
    ----------
    neurons : int
    sizes : sequence of int
        Motif sizes to choose from; each divides ``neurons``.
    inter, tied : bool
        Link neighbouring motifs; give all motifs the same topology.
    w_exc, w_inh : float
        Start of the excitatory weights; the fixed inhibitory weight.
    alpha_init : float
        Standard deviation of alpha at the start.
    v_th : float, optional
        This layer's threshold, in units of tau_s; the network's by default.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> net = hs.Network(channels=4, classes=2, hidden=[hs.Supernet(20, sizes=(2, 5))], backend="cpu")
    >>> list(net.init(seed=0).layers[0])
    ['w', 'w_exc', 'alpha_size', 'alpha_2', 'alpha_5', 'R', 'tau']
    """

    neurons: int
    sizes: tuple[int, ...] = (5, 10, 16, 25, 40)
    inter: bool = True
    tied: bool = True
    w_exc: float = 0.2
    w_inh: float = -2.0
    alpha_init: float = 1e-3
    v_th: float | None = None

    def __post_init__(self) -> None:
        _settle(self)
        _set_weights(self)
        _set(self, alpha_init=_real("Supernet: alpha_init", self.alpha_init, 0.0))
        try:
            sizes = tuple(_count("Supernet: sizes", v) for v in self.sizes)
        except TypeError:
            raise InputError(f"Supernet: sizes: expected whole numbers, found {self.sizes!r}") from None
        odd = [v for v in sizes if self.neurons % v]
        if not sizes or odd or len(set(sizes)) < len(sizes):
            raise InputError(f"Supernet: sizes: expected different divisors of {self.neurons} neurons, found {sizes}")
        _set(self, sizes=sizes)
        _require_links(self, self.neurons * sum(sizes))

    def recurrence(self) -> kinds.Relaxed:
        """Return the connections."""
        return kinds.Relaxed(self.neurons, self.sizes, self.inter, self.tied, self.w_exc, self.w_inh,
                              self.alpha_init)


@dataclass(frozen=True)
class Recurrent:
    """A layer with given connections, an object of recurrence.py."""

    connections: Any
    v_th: float | None = None

    def __post_init__(self) -> None:
        _settle(self)

    @property
    def neurons(self) -> int:
        """Neurons of the layer."""
        return int(self.connections.neurons)

    def recurrence(self) -> Any:
        """Return the connections."""
        return self.connections


# ---- checks ---------------------------------------------------------------------------------------------


def _settle(layer: Any) -> None:
    """Check what all kinds have; ``inter`` and ``tied`` too where they are."""
    name = type(layer).__name__
    neurons = _count(f"{name}: neurons", layer.neurons)
    if "neurons" in vars(layer):
        _set(layer, neurons=neurons)
    if layer.v_th is not None:
        _set(layer, v_th=_real(f"{name}: v_th", layer.v_th, None))
    for flag in ("inter", "tied"):
        if not isinstance(vars(layer).get(flag, True), bool):
            raise InputError(f"{name}: {flag}: expected True or False, found {vars(layer)[flag]!r}")


def _set(layer: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(layer, name, value)


def _set_weights(layer: Any) -> None:
    name = type(layer).__name__
    _set(layer, w_exc=_real(f"{name}: w_exc", layer.w_exc, 0.0), w_inh=_real(f"{name}: w_inh", layer.w_inh, -math.inf))


def _count(what: str, value: Any, most: int = MOST_NEURONS) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
        raise InputError(f"{what}: expected a whole number of at least 1 and at most {most}, found {value!r}")
    return int(value)


def _real(what: str, value: Any, low: float | None) -> float:
    """A finite number of at least ``low``, or above 0 where that is None."""
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not ok or not math.isfinite(value) or (value <= 0 if low is None else value < low):
        wanted = "above 0" if low is None else f"of at least {low:g}" if low > -math.inf else "of any sign"
        raise InputError(f"{what}: expected a finite number {wanted}, found {value!r}")
    return float(value)


def _require_links(layer: Any, links: int) -> None:
    """Refuse connections that cannot fit the memory, before they are made."""
    require_room(f"{type(layer).__name__}: {links:,} connections of {layer.neurons:,} neurons", 60 * links)
