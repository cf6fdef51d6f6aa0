"""HDF5 of anybody: the one place where such files are opened and their objects are read.

HDF5 can point anywhere: links to other files, data sets whose bytes lie in other files or nowhere, sizes that are
claimed and not stored. Here a file holds what it holds: only objects that are plainly stored in it are found, and
nothing is allocated before its size is known to be stored and to fit.

Text of attributes is written with a fixed length: HDF5 keeps text of variable length on a heap without checksums, and
h5py hangs on a damaged one.
"""

import contextlib
import io
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import h5py
import numpy as np

from hrmas_sparse.storage import files, memory

LARGEST_TEXT = 1 << 26  # bytes of an attribute
_PAGE = 1 << 16
# What h5py raises on a broken file, beside OSError.
BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError, OverflowError)


@contextlib.contextmanager
def opened(path: str | Path, own: bool = False) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading. HDF5's own locks are left alone: a file system may have none.

    Parameters
    ----------
    path, own : as of :func:`hrmas_sparse.storage.files.opened`

    Raises
    ------
    InputError
        It cannot be opened, or is no regular file.
    OSError, ...
        See `BROKEN`: it is no HDF5 file, or a broken one. The caller knows what the user should do about it.
    """
    files.opened(path, own).close()
    with _unlocked(path) as file:
        yield file


def _unlocked(path):
    """The file, without HDF5's locks; with those of the user's program where it has the file open already."""
    for locking in (False, None):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            if "file locking" not in str(error):
                raise
    return h5py.File(path, "r", locking=True)


@contextlib.contextmanager
def opened_image(image: bytes) -> Iterator[h5py.File]:
    """Open an HDF5 file that lies in memory, for reading."""
    with h5py.File(io.BytesIO(image), "r") as file:
        yield file


@contextlib.contextmanager
def new_image(**options: Any) -> Iterator[h5py.File]:
    """An HDF5 file to be filled in memory; :func:`bytes_of` has its bytes. HDF5 does not survive a full disk."""
    with h5py.File("image", "w", driver="core", backing_store=False, **options) as file:
        yield file


def bytes_of(file: h5py.File) -> bytes:
    """The bytes of a file of :func:`new_image`."""
    file.flush()
    return file.id.get_file_image()


class NewFile:
    """An HDF5 file under construction, see :func:`new_file`.

    Attributes
    ----------
    file : :class:`h5py.File`, for groups, attributes and arrays that fit into memory
    """

    def __init__(self, file: h5py.File, disk: BinaryIO):
        self.file, self._disk = file, disk

    def array(self, name: str, dtype: np.dtype, size: int, blocks: Iterable[bytes]) -> h5py.Dataset:
        """Add an array of ``size`` numbers whose bytes come in blocks and go straight to the disk."""
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that we are told where it lies,
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)    # and HDF5 writes nothing there;
        layout.set_obj_track_times(False)                 # the same arrays make the same file
        made = h5py.h5d.create(self.file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)),
                               h5py.h5s.create_simple((size,)), layout)
        self._disk.seek(made.get_offset() or 0)
        for block in blocks:
            files.pour(self._disk, block)
        return h5py.Dataset(made)


@contextlib.contextmanager
def new_file(path: Path, **options: Any) -> Iterator[NewFile]:
    """Make an HDF5 file that need not fit into memory: HDF5's part of it is kept there, arrays are written by us.

    HDF5 does not survive a full disk, so it never meets one; an OSError says what happened.

    Parameters
    ----------
    path : of a file that is not there yet
    options : of :class:`h5py.File`
    """
    with files.created(path) as disk:
        pages = _Pages()
        with h5py.File(pages, "w", **options) as file:
            yield NewFile(file, disk)
        for offset, text in pages.written():
            disk.seek(offset)
            files.pour(disk, text)
        disk.truncate(pages.seek(0, os.SEEK_END))


class _Pages(io.RawIOBase):
    """A file in memory; what was never written takes no room."""

    def __init__(self):
        self._pages: dict[int, bytearray] = {}
        self._spans: list[tuple[int, int]] = []
        self._at = self._end = 0

    def seekable(self):
        return True

    readable = writable = seekable

    def seek(self, offset, whence=os.SEEK_SET):
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def truncate(self, size=None):
        self._end = self._at if size is None else size
        return self._end

    def write(self, data):
        data = memoryview(data).cast("B")
        for page, inside, here in _parts(self._at, len(data)):
            self._pages.setdefault(page, bytearray(_PAGE))[inside] = data[here]
        self._spans.append((self._at, len(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def readinto(self, buffer):
        buffer = memoryview(buffer).cast("B")
        for page, inside, here in _parts(self._at, len(buffer)):
            buffer[here] = self._pages.get(page, bytes(_PAGE))[inside]
        self._at += len(buffer)
        return len(buffer)

    def written(self):
        """Yield offset and bytes of everything that was written."""
        for begin, count in self._spans:
            for page, inside, here in _parts(begin, count):
                yield begin + here.start, self._pages[page][inside]


def _parts(begin, count):
    """Yield the number of a page, a slice of it and the same slice of the ``count`` bytes from ``begin`` on."""
    done = 0
    while done < count:
        page, first = divmod(begin + done, _PAGE)
        size = min(_PAGE - first, count - done)
        yield page, slice(first, first + size), slice(done, done + size)
        done += size


# ---- objects ---------------------------------------------------------------------------------------------------


def find(file: h5py.File | h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """The object of a name with slashes, or None; soft and external links lead nowhere.

    A data set must be plainly stored, see :func:`stored`.
    """
    node = file
    for part in name.strip("/").split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            return None
        node = node[part]
    if isinstance(node, h5py.Dataset):
        stored(node)
    return node if isinstance(node, (h5py.Dataset, h5py.Group)) else None


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every data set of a file by its name with slashes; links are not followed."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: stored(file[name]) for name in names}


def stored(dataset: h5py.Dataset) -> h5py.Dataset:
    """The data set, if all of it is stored in its file.

    Raises
    ------
    ValueError
        It is virtual, lies in another file, or claims more than the file holds.
    """
    if dataset.shape is None:
        _refuse(dataset, "is empty")
    if dataset.is_virtual or dataset.external:
        _refuse(dataset, "lies in another file")
    size, held = math.prod(dataset.shape) * _width(dataset), dataset.id.get_storage_size()
    if dataset.chunks is None:
        if size != held or (dataset.id.get_offset() or 0) + size > dataset.file.id.get_filesize():
            _refuse(dataset, f"claims {size:,} bytes and stores fewer")
    else:
        chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        if size and dataset.id.get_num_chunks() != chunks or held > dataset.file.id.get_filesize():
            _refuse(dataset, f"claims {size:,} bytes and stores fewer")
    return dataset


def _width(dataset):
    """Bytes of an entry in the file; of variable length: a count and a place on the heap."""
    if dataset.dtype.kind != "O":
        return dataset.dtype.itemsize
    return 8 + dataset.file.id.get_create_plist().get_sizes()[0]


def _refuse(dataset: h5py.Dataset, what: str) -> NoReturn:
    raise ValueError(f"{dataset.name} {what}")


def read(dataset: h5py.Dataset, largest: int | None = None) -> np.ndarray:
    """All of a data set that :func:`find` has found; numbers or text, ``largest`` bytes at most.

    Raises
    ------
    ValueError
        It holds references, records or lists, or more than ``largest`` bytes.
    InputError
        It does not fit into the memory that is free.
    """
    text = h5py.check_string_dtype(dataset.dtype)
    if dataset.dtype.kind not in "biufS" and text is None:
        _refuse(dataset, f"holds {dataset.dtype}: neither numbers nor text")
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize  # HDF5 unpacks whole chunks
    if largest is not None and max(size, chunk) > largest:
        _refuse(dataset, f"has {max(size, chunk):,} bytes, expected at most {largest:,}")
    memory.require_room(dataset.name, size + chunk)
    if text is None or text.length is not None:
        return np.asarray(dataset[()])
    return _texts(dataset, memory.available() // 4 if largest is None else largest)


def _texts(dataset: h5py.Dataset, left: int) -> np.ndarray:
    """Text of variable length, one by one: a thousand names may point to one gigabyte."""
    texts = np.empty(dataset.size, dtype=object)
    for n, index in enumerate(np.ndindex(dataset.shape)):
        texts[n] = dataset[index]
        left -= len(texts[n])
        if left < 0:
            _refuse(dataset, "holds more text than fits")
    return texts.reshape(dataset.shape)


# ---- attributes ------------------------------------------------------------------------------------------------


def write_attributes(item: h5py.HLObject, **values: str | int) -> None:
    """Set attributes: text, integers."""
    for name, value in values.items():
        item.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def attributes(item: h5py.HLObject) -> dict[str, str | int]:
    """Attributes as a dict of str and int.

    Raises
    ------
    ValueError
        One of them is anything but a single integer or a text of fixed length; it has not been read.
    """
    values: dict[str, str | int] = {}
    for name in item.attrs:
        held = item.attrs.get_id(name)
        if held.shape != () or held.dtype.kind not in "iuS" or held.dtype.itemsize > LARGEST_TEXT:
            raise ValueError(f"attribute {name!r} is neither an integer nor text of fixed length")
        value = item.attrs[name]
        values[name] = value.decode() if held.dtype.kind == "S" else int(value)
    return values


def attribute(item: h5py.HLObject, name: str, default: Any = None) -> Any:
    """One attribute of a foreign file: an integer or text, of variable length too.

    Raises
    ------
    ValueError
        It is anything else; it has not been read.
    """
    if name not in item.attrs:
        return default
    held = item.attrs.get_id(name)
    text = h5py.check_string_dtype(held.dtype) is not None
    if held.shape != () or not (text or held.dtype.kind in "iu") or held.dtype.itemsize > LARGEST_TEXT:
        raise ValueError(f"attribute {name!r} is neither an integer nor text")
    value = item.attrs[name]
    if not text:
        return int(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
