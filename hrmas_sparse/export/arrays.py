"""A network as a plain NumPy archive (.npz), see docs/formats.md; no program but NumPy is needed to read it.

Files from others are read as data, see :mod:`hrmas_sparse.storage.npy`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.export.description import Description, LayerDescription, Topology
from hrmas_sparse.storage import npy
from hrmas_sparse.storage.atomic import write_bytes
from hrmas_sparse.storage.errors import InputError

FORMAT, VERSION = "hrmas_sparse network", 1
_ARRAYS = ("w", "R", "tau", "v_th", "rec_indptr", "rec_indices", "rec_data")
_TOPOLOGY = ("motif_size", "motif_inter", "motif_tied", "motif_types")


def write(path: str | Path, description: Description) -> None:
    """Write a network as .npz, atomically.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    arrays: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "name": description.name, "tau_s": description.tau_s,
        "class_names": np.array(description.class_names, dtype=np.str_),
        "layers": np.array([key for key, _ in description.named()])}
    for key, layer in description.named():
        values: tuple[Any, ...] = (layer.w, layer.R, layer.tau, layer.v_th, layer.indptr.astype(np.int64),
                                   layer.indices.astype(np.int64), layer.data)
        arrays |= {_entry(name, key): value for name, value in zip(_ARRAYS, values)}
        if layer.topology is not None:
            t = layer.topology
            values = (t.motif_size, t.inter, t.tied, t.types.astype(np.int8))
            arrays |= {_entry(name, key): value for name, value in zip(_TOPOLOGY, values)}
    image = io.BytesIO()
    np.savez(image, **arrays)
    write_bytes(path, image.getbuffer())


def _entry(name: str, key: str) -> str:
    """("w", "1") -> "w1"; ("rec_data", "_out") -> "rec_out_data"; ("motif_size", "2") -> "motif2_size" """
    head, _, tail = name.partition("_") if name.startswith(("rec_", "motif_")) else (name, "", "")
    return head + key + (f"_{tail}" if tail else "")


def read(path: str | Path) -> Description:
    """Read what :func:`write` wrote.

    Raises
    ------
    InputError
        The file is missing, no such archive, or holds what does not fit; the message names the entry.
    """
    try:
        arrays = npy.load(path)
    except npy.BROKEN as error:
        raise InputError(f"{path}: expected a NumPy archive (.npz), could not read it "
                         f"({str(error)[:120] or type(error).__name__}); export the network again") from error
    try:
        kind, version = _text(arrays, "format"), _number(arrays, "version", "iu")
        if (kind, version) != (FORMAT, VERSION):
            raise InputError(f"format: expected {FORMAT!r}, version {VERSION}, found {kind[:40]!r}, version {version}")
        keys = [str(key) for key in _get(arrays, "layers", "U", 1)]
        if keys != [*map(str, range(1, len(keys))), "_out"]:
            raise InputError(f"layers: expected '1', '2', ..., '_out', found {keys[:8]}")
        layers = tuple(_layer(arrays, key) for key in keys)
        names = tuple(str(text) for text in _get(arrays, "class_names", "U", 1))
        description = Description(layers, _number(arrays, "tau_s", "fiu"), _text(arrays, "name"), names)
    except InputError as error:
        raise InputError(f"{path}: {error}; export the network again") from None
    if arrays:
        raise InputError(f"{path}: expected the entries of docs/formats.md, found {', '.join(sorted(arrays))[:200]} "
                         "as well; export the network again")
    return description


def _layer(arrays: dict, key: str) -> LayerDescription:
    w, R, tau, v_th, indptr, indices, data = (_entry(name, key) for name in _ARRAYS)
    topology = None
    if _entry(_TOPOLOGY[0], key) in arrays:
        size, inter, tied, types = (_entry(name, key) for name in _TOPOLOGY)
        topology = Topology(int(_number(arrays, size, "iu")), bool(_number(arrays, inter, "b")),
                            bool(_number(arrays, tied, "b")), _get(arrays, types, "i", 1))
    return LayerDescription(_get(arrays, w, "f", 2), _get(arrays, indptr, "iu", 1), _get(arrays, indices, "iu", 1),
                            _get(arrays, data, "f", 1), _get(arrays, R, "f", 1), _get(arrays, tau, "f", 1),
                            _number(arrays, v_th, "fiu"), topology)


def _get(arrays: dict, name: str, kinds: str, ndim: int) -> np.ndarray:
    """Take an array out of the dict; what is left at the end does not belong there."""
    if name not in arrays:
        raise InputError(f"{name}: missing")
    array = arrays.pop(name)
    if array.dtype.kind not in kinds or array.ndim != ndim:
        raise InputError(f"{name}: expected {ndim} dimensions and a dtype of kind {' or '.join(kinds)}, "
                         f"found {array.dtype} {array.shape}")
    return array


def _number(arrays: dict, name: str, kinds: str) -> float:
    return _get(arrays, name, kinds, 0).item()


def _text(arrays: dict, name: str) -> str:
    return str(_get(arrays, name, "U", 0))
