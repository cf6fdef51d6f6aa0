"""A NIR file as a graph: its entries, read with care, and the chain of layers that its edges make.

Files come from others. Nothing is followed out of the file, and sizes are checked before memory is taken.
"""

from __future__ import annotations

from typing import Any, NoReturn

import h5py
import numpy as np

from hrmas_sparse.storage import memory
from hrmas_sparse.storage.errors import InputError

LINEAR = ("Linear", "Affine")  # kinds
_NODES, _TEXT = 4096, 1 << 16


class GraphFile:
    """Entries of a NIR file; refuses links out of it and what cannot fit into memory."""

    def __init__(self, file: h5py.File) -> None:
        self._file, self._left = file, memory.available() / 4

    def group(self, name: str) -> list[str] | None:
        """Return the names in a group, or None if there is no such group."""
        item = self._item(name)
        if not isinstance(item, h5py.Group):
            return None
        if len(item) > _NODES:
            raise InputError(f"{name}: expected at most {_NODES} entries, found {len(item)}; nothing of ours is that "
                             "large")
        return list(item)

    def text(self, name: str) -> str | None:
        """Return a text, or None if there is none."""
        data = self._dataset(name)
        if data is None:
            return None
        if data.shape != () or data.dtype.kind not in "OS" or data.dtype.itemsize > _TEXT:
            raise InputError(f"{name}: expected a text, found {data.dtype} {data.shape}; export the network again")
        return _decoded(name, data[()])

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """Return the edges."""
        data = self._dataset(name)
        if data is None or data.ndim != 2 or data.shape[1] != 2 or data.shape[0] > 4 * _NODES \
                or data.dtype.kind not in "OS" or data.dtype.itemsize > _TEXT:
            raise InputError(f"{name}: expected pairs of node names, found "
                             f"{'nothing' if data is None else f'{data.dtype} {data.shape}'}; export the network again")
        return [(_decoded(name, a), _decoded(name, b)) for a, b in data[()]]

    def array(self, name: str, ndim: int) -> np.ndarray | None:
        """Return a float array, or None if there is no such entry."""
        data = self._dataset(name)
        if data is None:
            return None
        if data.dtype.kind not in "fiub" or data.ndim != ndim:
            raise InputError(f"{name}: expected numbers with {ndim} dimensions, found {data.dtype} {data.shape}; only "
                             "layers of one dimension can be read")
        self._left -= 2 * data.size * max(8, data.dtype.itemsize)
        if self._left < 0:
            raise InputError(f"{name}: {data.dtype} {data.shape} does not fit into the memory that is free; use a "
                             "machine with more")
        return data[()].astype(np.float32 if data.dtype == np.float32 else np.float64)

    def _dataset(self, name: str) -> h5py.Dataset | None:
        item = self._item(name)
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return None
        if item.is_virtual or item.external:
            raise InputError(f"{name}: expected numbers in the file itself, found a reference to another; export the "
                             "network again")
        return item

    def _item(self, name: str) -> Any:
        place = self._file
        for part in name.split("/"):
            link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise InputError(f"{name}: expected an entry of the file itself, found a link; export it again")
            place = place[part]
        return place


def _decoded(name: str, text: Any) -> str:
    try:
        text = text.decode() if isinstance(text, bytes) else str(text)
    except UnicodeDecodeError:
        text = "\0"
    if len(text) > _TEXT or not text.replace("\n", "").isprintable():
        raise InputError(f"{name}: expected printable text, found {text[:60]!r}; export the network again")
    return text


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
    after: dict[str, list[str]] = {name: [] for name in kinds}
    before: dict[str, list[str]] = {name: [] for name in kinds}
    for a, b in edges:
        if a not in kinds or b not in kinds:
            raise InputError(f"edge {a!r} -> {b!r}: expected the names of two nodes, found no node "
                             f"{a if a not in kinds else b!r}; export the network again")
        if b in after[a]:
            raise InputError(f"edge {a!r} -> {b!r}: is there twice; export the network again")
        after[a].append(b)
        before[b].append(a)
    ends = {kind: [name for name in kinds if kinds[name] == kind] for kind in ("Input", "Output")}
    for kind, found in ends.items():
        if len(found) != 1:
            raise InputError(f"expected one node of kind {kind}, found {len(found)}; our networks have one input and "
                             "one output")
    place, layers, seen = ends["Input"][0], [], {ends["Input"][0], ends["Output"][0]}
    while True:
        loops = [b for b in after[place] if kinds[b] in LINEAR and after[b] == [place] == before[b]]
        onward = [b for b in after[place] if b not in loops]
        if layers:
            if len(loops) > 1 or sorted(before[place]) != sorted([layers[-1][0], *loops]):
                _refuse_node(place, "input from the layer below and at most one recurrent Linear", before[place])
            layers[-1] = (*layers[-1][:2], loops[0] if loops else None)
            seen |= {*layers[-1]}
        elif loops or before[place]:
            _refuse_node(place, "nothing that leads to the input", before[place])
        if len(onward) != 1:
            _refuse_node(place, "one node that listens to it, besides its own recurrence", onward)
        if onward == ends["Output"]:
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
    if before[ends["Output"][0]] != [place] or after[ends["Output"][0]]:
        _refuse_node(ends["Output"][0], "the last layer before it and nothing behind it", before[ends["Output"][0]])
    for name in kinds:
        if name not in seen:
            _refuse_node(name, "a node in the chain from input to output", "one beside it")
    return layers


def _refuse_node(name: str, expected: str, found: object) -> NoReturn:
    raise InputError(f"node {name!r}: expected {expected}, found {found}; our networks are chains of layers")
