"""Arrays and what they mean, in one HDF5 file: written whole or not at all, checksummed, refused if damaged.

    /                 attributes: kind, schema, meta (JSON), meta_sha256
    /a/b/c            one dataset per array, named by its key "a/b/c", attribute sha256

Checkpoints of a run and the weights it ends with are both such files, told apart by ``kind``.
"""

import hashlib
import json

import h5py
import numpy as np

from hrmas_sparse.atomic import atomic_write
from hrmas_sparse.errors import InputError

SCHEMA = 1


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def save(path, kind, arrays, meta):
    """Write a file of the given kind.

    Parameters
    ----------
    path : str or Path
    kind : str, what the file is, e.g. "checkpoint"
    arrays : dict, name with slashes -> array
    meta : dict that JSON can hold
    """
    text = json.dumps(meta)
    with atomic_write(path) as beside, h5py.File(beside, "w") as file:
        file.attrs.update({"kind": kind, "schema": SCHEMA, "meta": text, "meta_sha256": _sha256(text.encode())})
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            file.create_dataset(name, data=array).attrs["sha256"] = _sha256(array.tobytes())


def load(path, kind):
    """Read what :func:`save` wrote.

    Returns
    -------
    arrays : dict; meta : dict

    Raises
    ------
    InputError
        The file is missing, of another kind or schema, or damaged; the message says which.
    """
    try:
        with h5py.File(path, "r") as file:
            found, schema = file.attrs.get("kind"), file.attrs.get("schema")
            if found != kind or schema != SCHEMA:
                raise InputError(f"{path}: expected a {kind} of schema {SCHEMA}, found {found!r} of schema {schema!r}")
            text = str(file.attrs["meta"])
            if file.attrs["meta_sha256"] != _sha256(text.encode()):
                raise InputError(f"{path}: damaged: its description does not match its checksum")
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            arrays = {name: _checked(path, file[name]) for name in names}
            return arrays, json.loads(text)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: damaged or not a {kind} ({error})") from error


def _checked(path, dataset):
    if dataset.nbytes > 1.05 * dataset.id.get_storage_size() + 4096:  # a lying size would allocate anything
        raise InputError(f"{path}: damaged: {dataset.name} claims {dataset.nbytes} bytes and stores fewer")
    array = dataset[()]
    if dataset.attrs["sha256"] != _sha256(np.ascontiguousarray(array).tobytes()):
        raise InputError(f"{path}: damaged: {dataset.name} does not match its checksum")
    return array


def flatten(groups):
    """{"a": {"b": x}} -> {"a/b": x}"""
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def unflatten(arrays, *groups):
    """The dicts of the named groups, each in the order of its names."""
    return [{name.partition("/")[2]: array for name, array in arrays.items() if name.partition("/")[0] == group}
            for group in groups]
