"""The discrete result of a search: a motif size and a type for every connection of the motif."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.records import read_json

EXCITATORY, INHIBITORY, NONE = range(3)
TYPE_NAMES = ("excitatory", "inhibitory", "none")
SYMBOLS = "+-."
_LAYER = {"neurons": int, "motif_size": int, "inter": bool, "tied": bool,
          "connection_types": [{EXCITATORY, INHIBITORY, NONE}]}
_FORM = {"schema": {1}, "types": [str], "layers": [_LAYER], "sha256": str}


def table_rows(neurons, size, inter=True, tied=True):
    """Number of connections that have a type of their own, for one motif size."""
    if tied:
        return size * size + 2 * size * inter
    return neurons * size + 2 * (neurons - size) * inter


@dataclass(frozen=True, eq=False)
class Architecture:
    """One SC-ML layer (paper 2.2).

    Attributes
    ----------
    neurons : int
    motif_size : int, divides neurons
    inter : bool, whether neighbouring motifs are linked
    types : int8 array, EXCITATORY, INHIBITORY or NONE. Tied: one per connection of the motif,
        first the v*v inside it (target, source), then the v*2 from its neighbours (target, previous or
        next), those only if inter. Untied: one per connection of the layer, by source then target.
    tied : bool, whether all motifs share one topology
    """

    neurons: int
    motif_size: int
    inter: bool
    types: np.ndarray
    tied: bool = True

    def __post_init__(self):
        v = self.motif_size
        if v < 1 or self.neurons < 1 or self.neurons % v:
            raise InputError(f"motif_size {v} does not divide {self.neurons} neurons")
        if self.types.ndim != 1 or not np.isin(self.types, (EXCITATORY, INHIBITORY, NONE)).all():
            raise InputError("types must be a list of 0 (excitatory), 1 (inhibitory), 2 (none)")
        expected = table_rows(self.neurons, v, self.inter, self.tied)
        if self.types.size != expected:
            raise InputError(f"expected {expected} types for motifs of {v} neurons, found {self.types.size}")

    @property
    def intra(self):
        """Types inside the motif, (v, v): [target, source]. Tied only."""
        return self.types[:self.motif_size**2].reshape(self.motif_size, self.motif_size)

    @property
    def lateral(self):
        """Types from the neighbouring motifs, (v, 2): [target, previous or next], or (v, 0). Tied only."""
        return self.types[self.motif_size**2:].reshape(self.motif_size, -1)

    def describe(self):
        """Lines of text: the motif as a small matrix, rows receive, columns send."""
        head = f"motif size {self.motif_size}, {self.neurons} neurons, {self.neurons // self.motif_size} motifs"
        if not self.tied:
            return [head + ", every connection has its own type"]
        lines = [head, "rows receive, columns send:  + excitatory   - inhibitory   . none"
                 + ("   | previous, next motif" if self.inter else "")]
        for row, side in zip(self.intra, self.lateral):
            text = " ".join(SYMBOLS[t] for t in row)
            lines.append("  " + text + (" | " + " ".join(SYMBOLS[t] for t in side) if self.inter else ""))
        return lines


def save(path, layers):
    """Write the architectures of all hidden layers as JSON, atomically."""
    write_json(path, as_dict(layers))


def as_dict(layers):
    """What :func:`save` writes."""
    layers = [{"neurons": a.neurons, "motif_size": a.motif_size, "inter": a.inter, "tied": a.tied,
               "connection_types": a.types.tolist()} for a in layers]
    return {"schema": 1, "types": list(TYPE_NAMES), "layers": layers, "sha256": _sha256(layers)}


def _sha256(layers):
    return hashlib.sha256(json.dumps(layers).encode()).hexdigest()


def load(path):
    """Read what :func:`save` wrote.

    Raises
    ------
    InputError
        The file is missing, not JSON, not a valid architecture, or not what was written.
    """
    try:
        whole = read_json(Path(path), _FORM)
        found = [Architecture(a["neurons"], a["motif_size"], a["inter"], np.array(a["connection_types"], dtype=np.int8),
                              a["tied"]) for a in whole["layers"]]
    except InputError as error:
        raise error if str(path) in str(error) else Damaged(f"{path}: {error}") from error
    if whole["types"] != list(TYPE_NAMES):
        raise Damaged(f"{path}: expected the types {list(TYPE_NAMES)}, found {whole['types']}")
    if whole["sha256"] != _sha256(whole["layers"]):
        raise Damaged(f"{path}: damaged: does not match its checksum")
    return found


def load_fitting(path, net):
    """The architecture of a run with the network settings ``net``; None for a network that has none.

    Raises
    ------
    InputError
        The file is missing, damaged, or of another network.
    """
    if net.recurrence != "motif":
        return None
    found = load(path)
    check_fit(found, net, path)
    return found


def check_fit(found, net, where):
    """Raise an InputError that names ``where`` if an architecture is not one of the search space of ``net``."""
    fit = [a.neurons for a in found] == list(net.neurons) and all(
        a.motif_size in net.motif_sizes and (a.inter, a.tied) == (net.inter, net.tied)
        and a.types.size == table_rows(a.neurons, a.motif_size, a.inter, a.tied) for a in found)
    if not fit:
        layers = "; ".join(f"{a.neurons} neurons, motif {a.motif_size}" for a in found) or "no layer"
        raise InputError(f"{where}: does not fit the settings, neurons {list(net.neurons)}, motif sizes "
                         f"{list(net.motif_sizes)}, inter {net.inter}, tied {net.tied}: found {layers}")
