"""Flat arrays of events in a NumPy archive (.npz): sample, step, channel, label, and optionally value and split."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NoReturn

import numpy as np

from hrmas_sparse.data import checks
from hrmas_sparse.storage import memory, npy
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.files import opened

REQUIRED, OPTIONAL = ("sample", "step", "channel", "label"), ("value", "split")


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, none of them larger than what is stored.

    Raises
    ------
    InputError
        No such file, no archive, an array missing, pickled or cut short, more than fits into memory.
    """
    with opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _arrays(path, archive)
        except InputError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy have many for a broken archive
            raise InputError(f"{path}: expected a NumPy archive (.npz) with the arrays {', '.join(REQUIRED)}, could "
                             f"not read it ({str(error)[:120] or type(error).__name__}); write it with numpy.savez"
                             ) from None


def _arrays(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    missing = [name for name in REQUIRED if name not in members]
    unknown = [name for name in members if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        raise InputError(f"{path}: expected the arrays {', '.join(REQUIRED)} and optionally {', '.join(OPTIONAL)}, "
                         f"found {', '.join(sorted(members)[:20]) or 'none'}")
    memory.require_room(path, sum(info.file_size for info in members.values()), 2)
    return {name: _array(path, name, archive, info) for name, info in members.items()}


def _array(path: Path, name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    def refuse(what: str) -> NoReturn:
        raise InputError(f"{path}: {name}: {what}; write it with numpy.savez")

    with archive.open(info) as file:
        shape, _, dtype = npy.heading(file)
        if dtype.hasobject or dtype.kind not in "biufU":
            refuse(f"expected numbers or text, found dtype {dtype}")
        if len(shape) != 1:
            refuse(f"expected a vector, found shape {shape}")
        size = shape[0] * dtype.itemsize
        content = file.read(size + 1) if size < info.file_size else b""
        if len(content) != size or shape[0] and not size:
            refuse(f"claims {size:,} bytes and stores others")
        return np.frombuffer(content, dtype)


def extent(array: np.ndarray) -> int:
    """How many steps or channels there are at least, if these are such numbers; 1 where they are none."""
    return min(int(array.max(initial=0)) + 1, checks.MOST) if array.dtype.kind in "iu" else 1


def splits(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Whether each sample is of the test part, (S,) bool: `split` holds "train" and "test", or 0 and 1."""
    split = arrays.get("split")
    if split is None:
        return np.zeros(len(arrays["label"]), bool)
    if len(split) != len(arrays["label"]):
        raise InputError(f"{path}: split: expected one entry a sample, {len(arrays['label'])}, found {len(split)}")
    test = split == "test" if split.dtype.kind == "U" else split == 1
    train = split == "train" if split.dtype.kind == "U" else split == 0
    if not (test | train).all():
        entry = int(np.argmin(test | train))
        raise InputError(f"{path}: split[{entry}]: expected 'train' or 'test' (or 0 or 1), found {split[entry]!r}")
    return test
