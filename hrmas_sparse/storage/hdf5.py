"""Attributes of HDF5 files that damage cannot turn into an endless loop.

HDF5 keeps text of variable length on a heap without checksums, and h5py hangs on a damaged one. Text is
written with a fixed length instead, beside its object, where "latest" files have checksums.
"""

import numpy as np


def write_attributes(item, **values):
    """Set attributes: text, integers."""
    for name, value in values.items():
        item.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def attributes(item):
    """Attributes as a dict of str and int.

    Raises
    ------
    ValueError
        One of them is anything but a single integer or a text of fixed length; it has not been read.
    """
    found = {}
    for name in item.attrs:
        held = item.attrs.get_id(name)
        if held.shape != () or held.dtype.kind not in "iuS":
            raise ValueError(f"attribute {name!r} is neither an integer nor text of fixed length")
        value = item.attrs[name]
        found[name] = value.decode() if held.dtype.kind == "S" else int(value)
    return found
