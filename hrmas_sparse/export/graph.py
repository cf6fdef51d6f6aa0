"""A NIR file as a graph: its entries, and the chain of layers that its edges make."""

from __future__ import annotations

from typing import Any, NoReturn

import h5py
import numpy as np

from hrmas_sparse.data import vlen
from hrmas_sparse.storage import hdf5
from hrmas_sparse.storage.errors import InputError

LINEAR = ("Linear", "Affine")  # kinds
_NODES, _TEXT = 4096, 1 << 20


class GraphFile:
    """Entries of a NIR file, each checked before it is read; a missing one is None."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def group(self, name: str) -> list[str] | None:
        """Return the names in a group."""
        item = hdf5.find(self._file, name)
        if not isinstance(item, h5py.Group):
            return None
        if len(item) > _NODES:
            _refuse(name, f"at most {_NODES} entries", len(item))
        return list(item)

    def text(self, name: str) -> str | None:
        """Return a text."""
        value = self._read(name, "a text", "OS", 0, _TEXT)
        return None if value is None else _decoded(name, value.item())

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """Return the edges."""
        values = self._read(name, "pairs of node names", "OS", 2, _TEXT)
        if values is None or values.shape[1] != 2:
            _refuse(name, "pairs of node names", "nothing" if values is None else values.shape)
        return [(_decoded(name, a), _decoded(name, b)) for a, b in values]

    def array(self, name: str, ndim: int) -> np.ndarray | None:
        """Return numbers, as float32 if they are, else as float64."""
        values = self._read(name, f"numbers with {ndim} dimensions (our layers have one)", "fiub", ndim)
        return None if values is None else values.astype(np.float32 if values.dtype == np.float32 else np.float64)

    def _read(self, name: str, expected: str, kinds: str, ndim: int, largest: int | None = None) -> np.ndarray | None:
        item = hdf5.find(self._file, name)
        if not isinstance(item, h5py.Dataset):
            return None
        if item.dtype.kind not in kinds or item.ndim != ndim:
            _refuse(name, expected, f"{item.dtype} {item.shape}")
        if h5py.check_string_dtype(item.dtype) is not None and item.dtype.kind == "O":
            return vlen.texts(item)
        return hdf5.read(item, largest)


def _decoded(name: str, text: Any) -> str:
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    if len(text) > _TEXT or not text.isprintable():
        _refuse(name, "printable text", repr(text[:60]))
    return text


def _refuse(name: str, expected: str, found: object) -> NoReturn:
    raise InputError(f"{name}: expected {expected}, found {found}; export the network again")


def chain(kinds: dict[str, str], edges: list[tuple[str, str]]) -> list[tuple[str, str, str | None]]:
    """Return the layers of a graph, from the input to the output: (feedforward, neurons, recurrence or None).

    Parameters
    ----------
    kinds : name of each node -> its kind
    edges : pairs of names

    Raises
    ------
    InputError
        The graph is not one chain of layers.
    """
    before, after = _neighbours(kinds, edges)
    first, last = _only(kinds, "Input"), _only(kinds, "Output")
    layers: list[tuple[str, str, str | None]] = []
    place, seen = first, {first, last}
    while True:
        loops = [b for b in after[place] if kinds[b] in LINEAR and after[b] == [place] == before[b]]
        onward = [b for b in after[place] if b not in loops]
        if layers:
            if len(loops) > 1 or sorted(before[place]) != sorted([layers[-1][0], *loops]):
                _refuse_node(place, "input from the layer below and at most one recurrent Linear", before[place])
            layers[-1] = (*layers[-1][:2], loops[0] if loops else None)
            seen |= {*loops}
        elif loops or before[place]:
            _refuse_node(place, "nothing that leads to the input", before[place])
        if len(onward) != 1:
            _refuse_node(place, "one node that listens to it, besides its own recurrence", onward)
        if onward == [last]:
            break
        w = onward[0]
        if kinds[w] not in LINEAR or before[w] != [place] or len(after[w]) != 1 or kinds[after[w][0]] != "CubaLIF" \
                or after[w][0] in seen:
            _refuse_node(w, "a Linear node between two layers, followed by a CubaLIF node",
                         f"{kinds[w]}, which leads to {after[w]}")
        place = after[w][0]
        layers.append((w, place, None))
        seen |= {w, place}
    if not layers:
        raise InputError("expected at least one layer between input and output, found none")
    if before[last] != [place] or after[last]:
        _refuse_node(last, "the last layer before it and nothing behind it", before[last])
    for name in kinds:
        if name not in seen:
            _refuse_node(name, "a node in the chain from input to output", "one beside it")
    return layers


def _neighbours(kinds: dict[str, str], edges: list[tuple[str, str]]) -> tuple[dict[str, list[str]], ...]:
    """The nodes before and after each node."""
    before: dict[str, list[str]] = {name: [] for name in kinds}
    after: dict[str, list[str]] = {name: [] for name in kinds}
    for a, b in edges:
        if a not in kinds or b not in kinds:
            raise InputError(f"edge {a!r} -> {b!r}: expected the names of two nodes, found no node "
                             f"{a if a not in kinds else b!r}; export the network again")
        if b in after[a]:
            raise InputError(f"edge {a!r} -> {b!r}: expected once, found twice; export the network again")
        after[a].append(b)
        before[b].append(a)
    return before, after


def _only(kinds: dict[str, str], kind: str) -> str:
    """The node of a kind of which there is one."""
    names = [name for name in kinds if kinds[name] == kind]
    if len(names) != 1:
        raise InputError(f"expected one node of kind {kind}, found {len(names)}; our networks have one input and one "
                         "output")
    return names[0]


def _refuse_node(name: str, expected: str, found: object) -> NoReturn:
    raise InputError(f"node {name!r}: expected {expected}, found {found}; our networks are chains of layers")
