"""Arrays in NumPy's files, .npy and .npz, of anybody: no Python objects, no size that is claimed and not there."""

import math
import threading
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from hrmas_sparse.storage import files, memory

# What NumPy and zipfile raise on a broken file, beside OSError.
BROKEN = (OSError, ValueError, EOFError, AttributeError, TypeError, NotImplementedError, RuntimeError, MemoryError,
          OverflowError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error)
_PARSING = threading.Lock()


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Raises
    ------
    InputError
        It cannot be opened, is no regular file, or does not fit into the memory that is free.
    OSError, ValueError, ...
        See `BROKEN`: it is no .npz file, a broken one, or holds Python objects.
    """
    with files.opened(path) as file, zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        memory.require_room(path, sum(member.file_size for member in members), copies=2)
        return {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}


def _member(archive, member):
    with archive.open(member) as content:
        shape, fortran, dtype = _of_length(content, member.file_size)
        return np.ndarray(shape, dtype, bytearray(content.read()), order="F" if fortran else "C")


def mapped(path: str | Path) -> np.ndarray:
    """The array of an .npy file, mapped read-only; raises as :func:`load` does."""
    with files.opened(path) as file:
        shape, fortran, dtype = _of_length(file, file.seek(0, 2) - file.seek(0))
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def heading(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, dtype: what a file in NumPy's format begins with; raises `BROKEN`.

    One thread at a time: NumPy reads it by `ast.literal_eval`, and two of these at once fail now and then before Python
    3.13 (SystemError: recursion depth mismatch), whatever the file.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NumPy's format {version} is not known here")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _PARSING:
        return read(file)


def _of_length(file, length):
    """The heading of a file of ``length`` bytes, which holds that array and nothing else."""
    shape, fortran, dtype = heading(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    size = math.prod(shape) * dtype.itemsize
    if size != length - file.tell() or min(shape, default=0) < 0:
        raise ValueError(f"it claims {size:,} bytes and holds {length - file.tell():,}")
    return shape, fortran, dtype
