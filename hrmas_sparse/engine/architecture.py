"""The discrete result of a search: a motif size and a type for every connection of the motif."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.engine.drawing import motif_svg, text_svg
from hrmas_sparse.storage.atomic import write_json, write_text
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.storage.records import read_json

EXCITATORY, INHIBITORY, NONE = range(3)
TYPE_NAMES = ("excitatory", "inhibitory", "none")
SYMBOLS = "+-."
_LAYER = {"neurons": int, "motif_size": int, "inter": bool, "tied": bool,
          "connection_types": [{EXCITATORY, INHIBITORY, NONE}]}
_FORM = {"schema": {1}, "types": [str], "layers": [_LAYER], "sha256": str}


SIGNS = np.array([1, -1, 0], np.int8)  # of the types


def table_rows(neurons: int, size: int, inter: bool = True, tied: bool = True) -> int:
    """Number of connections that have a type of their own, for one motif size."""
    if tied:
        return size * size + 2 * size * inter
    return neurons * size + 2 * (neurons - size) * inter


@dataclass(frozen=True, eq=False)
class Architecture:
    """One SC-ML layer (paper 2.2): motifs side by side, neighbours linked.

    Parameters
    ----------
    neurons : int
        Of the layer.
    motif_size : int
        Neurons of a motif; divides ``neurons``.
    linked : bool
        Whether neighbouring motifs are linked.
    types : (n,) integers
        0 excitatory, 1 inhibitory, 2 none. Tied: one per connection of the motif, first the v*v inside it
        (target, source), then the v*2 from its neighbours (target, previous or next), those only if linked.
        Untied: one per connection of the layer, by source then target.
    tied : bool
        Whether all motifs share one topology.

    Raises
    ------
    InputError
        The numbers do not fit each other.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> a = hs.Architecture.random(neurons=12, motif_size=3, seed=1)
    >>> a.intra.shape, a.inter.shape, a.neurons // a.motif_size
    ((3, 3), (3, 2), 4)
    >>> a.carried_to(neurons=30)
    Architecture(30 neurons, 10 motifs of 3: 6 excitatory, 3 inhibitory, 6 none)
    """

    neurons: int
    motif_size: int
    linked: bool
    types: np.ndarray
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("neurons", "motif_size"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        v = self.motif_size
        if self.neurons % v:
            raise InputError(f"motif_size: {v} does not divide {self.neurons} neurons")
        for name in ("linked", "tied"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise InputError(f"{name}: expected True or False, found {getattr(self, name)!r}")
        types = _array("types", self.types)
        if types.ndim != 1 or types.dtype.kind not in "iu" or not np.isin(types, (EXCITATORY, INHIBITORY, NONE)).all():
            raise InputError("types: expected a list of 0 (excitatory), 1 (inhibitory), 2 (none)")
        expected = table_rows(self.neurons, v, self.linked, self.tied)
        if types.size != expected:
            raise InputError(f"types: expected {expected} for motifs of {v} neurons, found {types.size}")
        object.__setattr__(self, "types", types.astype(np.int8))

    # ---- made from ------------------------------------------------------------------------------------

    @classmethod
    def random(cls, neurons: int, motif_size: int, seed: Any = 0, linked: bool = True,
               tied: bool = True) -> Architecture:
        """Return an architecture whose every type is drawn uniformly; ``seed`` may be a numpy Generator."""
        if _whole("neurons", neurons) % _whole("motif_size", motif_size):
            raise InputError(f"motif_size: {motif_size} does not divide {neurons} neurons")
        types = generator(seed).integers(0, 3, table_rows(neurons, motif_size, linked, tied))
        return cls(neurons, motif_size, linked, types, tied)

    @classmethod
    def from_signs(cls, neurons: int, intra: Any, inter: Any = None) -> Architecture:
        """Return the tied architecture of two matrices of +1, -1, 0.

        Parameters
        ----------
        neurons : int
        intra : (v, v), [target, source] inside the motif
        inter : (v, 2), [target, previous or next motif], or None for motifs without neighbours
        """
        intra, inter = _array("intra", intra), None if inter is None else _array("inter", inter)
        v = len(intra) if intra.ndim else 0
        if intra.shape != (v, v) or not v or (inter is not None and inter.shape != (v, 2)):
            raise InputError(f"intra, inter: expected shapes (v, v) and (v, 2), found {intra.shape} and "
                             f"{None if inter is None else inter.shape}")
        signs = np.concatenate([intra.ravel(), [] if inter is None else inter.ravel()])
        if signs.dtype.kind not in "iuf" or not np.isin(signs, SIGNS).all():
            raise InputError("intra, inter: expected +1 (excitatory), -1 (inhibitory), 0 (none)")
        types = np.select([signs == 1, signs == -1], [EXCITATORY, INHIBITORY], NONE)
        return cls(neurons, v, inter is not None, types)

    # ---- what it is -----------------------------------------------------------------------------------

    @property
    def intra(self) -> np.ndarray:
        """The motif as (v, v) int8, [target, source]: +1 excitatory, -1 inhibitory, 0 none. Tied only."""
        return np.asarray(SIGNS[self.intra_types])

    @property
    def inter(self) -> np.ndarray:
        """Connections from the neighbours, (v, 2) int8, [target, previous or next]; 0 if not linked. Tied only."""
        return SIGNS[self.inter_types] if self.linked else np.zeros((self.motif_size, 2), np.int8)

    @property
    def intra_types(self) -> np.ndarray:
        """As :attr:`intra`, 0 excitatory, 1 inhibitory, 2 none."""
        return self._tied_types()[:self.motif_size**2].reshape(self.motif_size, self.motif_size)

    @property
    def inter_types(self) -> np.ndarray:
        """As :attr:`inter`, 0 excitatory, 1 inhibitory, 2 none; (v, 0) if not linked."""
        return self._tied_types()[self.motif_size**2:].reshape(self.motif_size, -1)

    def _tied_types(self) -> np.ndarray:
        if not self.tied:
            raise InputError("architecture: expected a tied one, found one whose every connection has its own type")
        return self.types

    def carried_to(self, neurons: int) -> Architecture:
        """Return a layer of another size with the same motif.

        Raises
        ------
        InputError
            It is untied, or its motif size does not divide ``neurons``.
        """
        self._tied_types()
        return replace(self, neurons=neurons)

    # ---- shown and stored -----------------------------------------------------------------------------

    def describe(self) -> list[str]:
        """Lines of text: the motif as a small matrix, rows receive, columns send."""
        head = f"motif size {self.motif_size}, {self.neurons} neurons, {self.neurons // self.motif_size} motifs"
        if not self.tied:
            return [head + ", every connection has its own type"]
        lines = [head, "rows receive, columns send:  + excitatory   - inhibitory   . none"
                 + ("   | previous, next motif" if self.linked else "")]
        for row, side in zip(self.intra_types, self.inter_types):
            text = " ".join(SYMBOLS[t] for t in row)
            lines.append("  " + text + (" | " + " ".join(SYMBOLS[t] for t in side) if self.linked else ""))
        return lines

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.types == kind).sum():,} {name}" for kind, name in enumerate(TYPE_NAMES))
        untied = "" if self.tied else ", untied"
        return (f"Architecture({self.neurons} neurons, {self.neurons // self.motif_size} motifs of "
                f"{self.motif_size}{untied}: {counts})")

    def draw(self, path: str | Path | None = None) -> str:
        """Return the motif as a drawing (SVG), and write it to ``path`` if one is given.

        Arrows excite, dashed lines with a bar inhibit; squares are the same neuron of the previous (filled) and
        the next motif (open). An untied architecture is a line of text.
        """
        text = (motif_svg(self.intra, self.inter, repr(self)) if self.tied
                else text_svg("every connection has its own type"))
        if path is not None:
            write_text(Path(path), text)
        return text

    def _repr_html_(self) -> str:
        return f"<div>{self.draw()}<div>{self!r}</div></div>"

    def save(self, path: str | Path) -> None:
        """Write the layer as JSON, whole or not at all."""
        save(Path(path), [self])

    @classmethod
    def load(cls, path: str | Path, layer: int = 0) -> Architecture:
        """Read one layer, counted from 0, of what :meth:`save` or a run wrote.

        Raises
        ------
        InputError
            The file is missing, not JSON, not a valid architecture, damaged, or has no such layer.
        """
        layers = load(Path(path))
        if not 0 <= layer < len(layers):
            raise InputError(f"{path}: expected a layer of {len(layers)}, counted from 0, found {layer}")
        return layers[layer]


def generator(seed: Any) -> np.random.Generator:
    """Return the random generator of a seed: a whole number, a sequence of them, or a Generator as it is."""
    try:
        if seed is None or isinstance(seed, bool):
            raise TypeError
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise InputError(f"seed: expected a whole number of at least 0, found {seed!r}") from None


def _whole(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not 1 <= value <= 10**9:
        raise InputError(f"{name}: expected a whole number of at least 1 and at most 10^9, found {value!r}")
    return int(value)


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # ragged lists
        raise InputError(f"{name}: expected an array, found {type(values).__name__} ({error})") from None


def save(path: Path, layers: Sequence[Architecture]) -> None:
    """Write the architectures of all hidden layers as JSON, atomically."""
    write_json(path, as_dict(layers))


def as_dict(architectures: Sequence[Architecture]) -> dict[str, Any]:
    """What :func:`save` writes."""
    layers = [{"neurons": a.neurons, "motif_size": a.motif_size, "inter": a.linked, "tied": a.tied,
               "connection_types": a.types.tolist()} for a in architectures]
    return {"schema": 1, "types": list(TYPE_NAMES), "layers": layers, "sha256": _sha256(layers)}


def _sha256(layers: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(layers).encode()).hexdigest()


def load(path: Path) -> list[Architecture]:
    """Read what :func:`save` wrote.

    Raises
    ------
    InputError
        The file is missing, not JSON, not a valid architecture, or not what was written.
    """
    try:
        whole = read_json(Path(path), _FORM)
        architectures = [
            Architecture(a["neurons"], a["motif_size"], a["inter"], np.array(a["connection_types"], np.int8), a["tied"])
            for a in whole["layers"]]
    except InputError as error:
        raise error if str(path) in str(error) else Damaged(f"{path}: {error}") from error
    if whole["types"] != list(TYPE_NAMES):
        raise Damaged(f"{path}: expected the types {list(TYPE_NAMES)}, found {whole['types']}")
    if whole["sha256"] != _sha256(whole["layers"]):
        raise Damaged(f"{path}: damaged: does not match its checksum")
    return architectures


def load_fitting(path: Path, net: Any) -> list[Architecture] | None:
    """The architecture of a run with the network settings ``net``; None for a network that has none.

    Raises
    ------
    InputError
        The file is missing, damaged, or of another network.
    """
    if net.recurrence != "motif":
        return None
    architectures = load(path)
    check_fit(architectures, net, path)
    return architectures


def check_fit(architectures: Sequence[Architecture], net: Any, where: Any) -> None:
    """Raise an InputError that names ``where`` if an architecture is not one of the search space of ``net``."""
    fit = [a.neurons for a in architectures] == list(net.neurons) and all(
        a.motif_size in net.motif_sizes and (a.linked, a.tied) == (net.inter, net.tied)
        and a.types.size == table_rows(a.neurons, a.motif_size, a.linked, a.tied) for a in architectures)
    if not fit:
        layers = "; ".join(f"{a.neurons} neurons, motif {a.motif_size}" for a in architectures) or "no layer"
        raise InputError(f"{where}: does not fit the settings, neurons {list(net.neurons)}, motif sizes "
                         f"{list(net.motif_sizes)}, inter {net.inter}, tied {net.tied}: found {layers}")
