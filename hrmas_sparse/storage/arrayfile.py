"""Arrays and what they mean, in one HDF5 file: written whole or not at all, checksummed, refused if damaged.

    /                 attributes: kind, schema, meta (JSON), meta_sha256
    /a/b/c            one dataset per array, named by its key "a/b/c", attribute sha256
    after the HDF5    32 bytes, the SHA-256 of everything before: no damaged file ever reaches the HDF5 library

Checkpoints of a run and the weights it ends with are both such files, told apart by ``kind``.
"""

import hashlib
import json

import numpy as np

from hrmas_sparse.environment import option
from hrmas_sparse.storage import files, hdf5
from hrmas_sparse.storage.atomic import write_bytes
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.storage.hdf5 import attributes, write_attributes
from hrmas_sparse.storage.records import parsed_json

SCHEMA = 2
_DIGEST = 32


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def save(path, kind, arrays, meta, previous=None):
    """Write a file of the given kind.

    Parameters
    ----------
    path : Path
    kind : str, what the file is, e.g. "checkpoint"
    arrays : dict, name with slashes -> array
    meta : dict that JSON can hold
    previous : Path under which the file that was there is kept, or None

    Raises
    ------
    InputError
        A number is not finite, or the file cannot be written; what was there before is still there.
    """
    bad = [name for name, array in arrays.items() if not _finite(array)]
    if bad:
        raise InputError(f"{path}: not written: numbers that are not finite in {', '.join(bad)}")
    image = _image(kind, arrays, json.dumps(meta))
    write_bytes(path, image + hashlib.sha256(image).digest(), previous)


def _image(kind, arrays, text):
    """The bytes of the HDF5 file."""
    with hdf5.new_image(libver="latest") as file:  # "latest" puts checksums on HDF5's own structures
        write_attributes(file, kind=kind, schema=SCHEMA, meta=text, meta_sha256=_sha256(text.encode()))
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            write_attributes(file.create_dataset(name, data=array), sha256=_sha256(array.tobytes()))
        return hdf5.bytes_of(file)


def load(path, kind, expected=None):
    """Read what :func:`save` wrote.

    Parameters
    ----------
    path : Path
    kind : str
    expected : function meta -> dict, name -> array like the one that must be there; None takes what is there

    Returns
    -------
    arrays : dict; meta : dict

    Raises
    ------
    InputError
        The file is missing, of another kind or schema, or not what was expected.
    Damaged
        Its content is not what was written.
    """
    image = _verified(path)
    try:
        with hdf5.opened_image(image) as file:
            about = attributes(file)
            stored_kind, schema = about.get("kind"), about.get("schema")
            if stored_kind != kind or schema != SCHEMA:
                raise InputError(f"{path}: expected a {kind} of schema {SCHEMA}, found a {stored_kind!r} of schema "
                                 f"{schema}; {option('fresh')} sets the run aside and starts over")
            text = about["meta"]
            if about["meta_sha256"] != _sha256(text.encode()):
                raise Damaged(f"{path}: damaged: its description does not match its checksum")
            meta, datasets = parsed_json(text, path), hdf5.datasets(file)
            wanted = None if expected is None else expected(meta)
            if wanted is not None and datasets.keys() != wanted.keys():
                odd = sorted(datasets.keys() ^ wanted.keys())
                raise InputError(f"{path}: arrays missing or too many: {', '.join(odd)}")
            return {name: _checked(path, dataset, wanted and wanted[name]) for name, dataset in datasets.items()}, meta
    except hdf5.BROKEN as error:
        raise Damaged(f"{path}: damaged or not a {kind} ({error})") from error


def _verified(path):
    """The HDF5 part of a file whose checksum is right."""
    data = files.read(path, own=True, copies=2)
    image, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(image).digest() != digest:
        raise Damaged(f"{path}: damaged: does not match its checksum")
    return image


def _checked(path, dataset, wanted):
    """The array of a data set; nothing is allocated before it is known to be the one that is wanted."""
    if dataset.chunks or dataset.dtype.kind not in "fiu":
        raise Damaged(f"{path}: {dataset.name} is not a plain array")
    if wanted is not None and (dataset.shape, dataset.dtype) != (wanted.shape, wanted.dtype):
        raise InputError(f"{path}: {dataset.name}: expected {wanted.dtype} {wanted.shape}, found {dataset.dtype} "
                         f"{dataset.shape}; not the same channels, classes or network")
    array = hdf5.read(dataset)
    if attributes(dataset)["sha256"] != _sha256(np.ascontiguousarray(array).tobytes()):
        raise Damaged(f"{path}: damaged: {dataset.name} does not match its checksum")
    if not _finite(array):
        raise Damaged(f"{path}: {dataset.name} holds numbers that are not finite")
    return array


def _finite(array):
    return np.asarray(array).dtype.kind != "f" or bool(np.isfinite(array).all())


def flatten(groups):
    """{"a": {"b": x}} -> {"a/b": x}"""
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def unflatten(arrays, *groups):
    """The dicts of the named groups, each in the order of its names."""
    return [{name.partition("/")[2]: array for name, array in arrays.items() if name.partition("/")[0] == group}
            for group in groups]
