"""Files: the one place where they are opened.

A name may stand for anything: a link into somebody's home, a pipe that never ends, a device, a terabyte of holes. Only
regular files are opened, and no more is read than fits. :mod:`hrmas_sparse.storage.hdf5` and
:mod:`hrmas_sparse.storage.records` are built on this; `tests/house` holds that nobody opens files elsewhere.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hrmas_sparse.storage import memory
from hrmas_sparse.storage.errors import InputError

# Opening a pipe or a terminal must neither wait nor make it ours.
_CAREFUL = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

LONGEST_NAME = 255  # bytes, of a file or folder


def path_of(value: object, what: str) -> Path:
    """Return what a caller gave as a path.

    Raises
    ------
    InputError
        It is no path; ``what`` names the argument.
    """
    if not isinstance(value, (str, os.PathLike)) or not (text := os.fspath(value)) or not isinstance(text, str) \
            or "\0" in text:
        raise InputError(f"{what}: expected the path of a file or folder, found {value!r}")
    path = Path(text)
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise InputError(f"{what}: a name in it is longer than {LONGEST_NAME} bytes; give a shorter one")
    return path


def opened(path: str | Path, own: bool = False) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    path : the file
    own : whether it is one that we have put there, in a run's folder for example: then a link is refused

    Raises
    ------
    InputError
        It cannot be opened, or is no regular file.
    """
    return os.fdopen(_descriptor(path, os.O_RDONLY, own), "rb")


def created(path: str | Path) -> BinaryIO:
    """Open a new file for writing; whatever is there already, a link too, is refused with an OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o666), "wb", buffering=0)


def appended(path: str | Path, empty: bool = False) -> BinaryIO:
    """Open a file of our own for reading and for writing at its end; made if it is not there, cut first if ``empty``.

    Raises
    ------
    InputError
        It cannot be opened, or is a link or anything but a regular file.
    """
    file = os.fdopen(_descriptor(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, own=True), "r+b", buffering=0)
    if empty:
        file.truncate(0)
    return file


def touch(path: str | Path) -> None:
    """Set the time of a file of our own to now; made if it is not there."""
    with appended(path) as file:
        os.utime(file.fileno())


def shared(path: str | Path) -> bool:
    """Whether a file has other names: what is written in place is written into a backup, say, too."""
    return os.path.lexists(path) and os.lstat(path).st_nlink > 1


def pour(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data`` to an open file; an OSError says what kept it from that."""
    left = memoryview(data)
    while left:
        left = left[os.write(file.fileno(), left):]


def _descriptor(path, flags, own):
    """A descriptor of a regular file."""
    deed = "read" if flags == os.O_RDONLY else "written"

    def regular(mode):
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: cannot be {deed} (expected a regular file, found {_kind(mode)})")

    try:
        regular(os.stat(path, follow_symlinks=not own).st_mode)
    except FileNotFoundError as error:
        if not flags & os.O_CREAT:
            raise InputError(f"{path}: cannot be {deed} ({error.strerror})") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise InputError(f"{path}: cannot be {deed} ({getattr(error, 'strerror', error)})") from error
    try:
        descriptor = os.open(path, flags | _CAREFUL | (os.O_NOFOLLOW if own else 0), 0o666)
    except OSError as error:
        raise InputError(f"{path}: cannot be {deed} ({error.strerror})") from error
    try:
        regular(os.fstat(descriptor).st_mode)  # it may be another one by now
    except InputError:
        os.close(descriptor)
        raise
    return descriptor


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
          stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFREG: "a file"}


def _kind(mode):
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def kind_of(path: str | Path) -> str:
    """What a name stands for, in words: a file, a folder, a pipe, a link to nothing ..."""
    try:
        return _kind(os.stat(path).st_mode)
    except OSError:
        return "a link to nothing" if os.path.islink(path) else "nothing"


def read(path: str | Path, own: bool = False, largest: int | None = None, copies: int = 1) -> bytes:
    """The content of a regular file.

    Parameters
    ----------
    path, own : as of :func:`opened`
    largest : bytes that such a file may have, None for as many as fit into memory
    copies : how often the content will lie in memory at once

    Raises
    ------
    InputError
        It cannot be opened, is no regular file, is too large for its kind or for the memory that is free.
    """
    with opened(path, own) as file:
        size = os.fstat(file.fileno()).st_size
        if largest is not None and size > largest:
            raise InputError(f"{path}: {size:,} bytes are too many to be what belongs there, {largest:,} at most")
        memory.require_room(path, size, copies)
        try:
            return file.read(size)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def mapped(path: str | Path, dtype: np.dtype, offset: int, shape: tuple) -> np.ndarray:
    """An array that lies in a regular file, mapped read-only: memory holds what is touched.

    Raises
    ------
    InputError
        It cannot be opened, is no regular file, or ends before the array does.
    """
    with opened(path) as file:
        size, end = os.fstat(file.fileno()).st_size, offset + int(np.prod(shape)) * np.dtype(dtype).itemsize
        if end > size:
            raise InputError(f"{path}: {size:,} bytes, expected {end:,}: the file is cut short")
        return np.asarray(np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape))


def read_system(path: str | Path) -> str:
    """A text that the operating system makes up as it is read, below /proc or /sys; OSError if it does not."""
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read(1 << 20)
