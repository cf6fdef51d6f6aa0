"""Lists of numbers of different length in an HDF5 file, read without HDF5.

HDF5 keeps them on heaps that have no checksums. A damaged one makes HDF5 hang or take all memory, so we read the heaps
by ourselves: an entry of the data set is a length (4 bytes), the address of a heap (8) and an index (4); a heap has a
header ("GCOL", a version, its size in 8 bytes) and objects: index (2 bytes), 6 others, size (8), content, padded to 8.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import h5py
import numpy as np

from hrmas_sparse.storage.files import opened

_ENTRY = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
_HEADER, _OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")
_LARGEST_HEAP = 1 << 28  # bytes
_GZIP, _SHUFFLE = 1, 2   # numbers of HDF5's filters


def lists(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """Yield the entries of a vector of lists of numbers, in order.

    Parameters
    ----------
    dataset : found by :func:`hrmas_sparse.storage.hdf5.find`

    Raises
    ------
    ValueError
        It is anything else, damaged, or claims more than its file holds.
    """
    kind = h5py.check_vlen_dtype(dataset.dtype)
    if dataset.ndim != 1 or kind is None or np.dtype(kind).kind not in "iuf":
        raise ValueError(f"expected a vector of lists of numbers, found {dataset.dtype} {dataset.shape}")
    for number, (length, content) in enumerate(_contents(dataset, kind.itemsize)):
        if len(content) < length * kind.itemsize:
            raise ValueError(f"entry {number}: expected {length} numbers, found {len(content)} bytes")
        yield np.frombuffer(content, kind, length)


def texts(dataset: h5py.Dataset) -> np.ndarray:
    """Return texts of variable length, an array of `bytes` in the shape of the data set; raises as :func:`lists`."""
    if h5py.check_string_dtype(dataset.dtype) is None or dataset.chunks is not None and dataset.ndim != 1:
        raise ValueError(f"expected texts, found {dataset.dtype} {dataset.shape}")
    entries = np.empty(dataset.size, dtype=object)
    for number, (length, content) in enumerate(_contents(dataset, 1)):
        entries[number] = content[:length].partition(b"\0")[0]
    return entries.reshape(dataset.shape)


def _contents(dataset, width):
    """Yield length, and at least so many entries of ``width`` bytes if all is well, of every entry."""
    if dataset.file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("expected an HDF5 file with addresses of 8 bytes")
    with opened(dataset.file.filename) as file:
        size, base = file.seek(0, 2), dataset.file.userblock_size
        entries = _entries(dataset, file)
        if entries["length"].astype(np.int64).sum() * width > size:
            raise ValueError("claims more than the file holds")
        heaps = _Heaps(file, base, size)
        for length, address, index in entries.tolist():
            yield length, heaps.object(address, index) if length else b""


def _entries(dataset, file):
    """Length, heap and index of every entry."""
    if dataset.chunks is None:
        file.seek(dataset.id.get_offset() or 0)  # the user block is counted in
        content = file.read(dataset.size * _ENTRY.itemsize)
        return np.frombuffer(content, _ENTRY, dataset.size) if dataset.size else np.empty(0, _ENTRY)
    entries, width = np.zeros(dataset.size, _ENTRY), dataset.chunks[0]
    if width * _ENTRY.itemsize > _LARGEST_HEAP:
        raise ValueError(f"has chunks of {width:,} lists")
    filters = _filters(dataset)
    for begin in range(0, dataset.size, width):
        mask, content = dataset.id.read_direct_chunk((begin,))
        for place in reversed(range(len(filters))):
            if not mask >> place & 1:
                content = _undone(filters[place], content, width * _ENTRY.itemsize)
        if len(content) != width * _ENTRY.itemsize:
            raise ValueError(f"the chunk at {begin} has {len(content)} bytes")
        part = entries[begin:begin + width]
        part[:] = np.frombuffer(content, _ENTRY)[:len(part)]
    return entries


def _filters(dataset):
    made = dataset.id.get_create_plist()
    numbers = [made.get_filter(n)[0] for n in range(made.get_nfilters())]
    if not set(numbers) <= {_GZIP, _SHUFFLE}:
        raise ValueError("is packed in a way that is not read here; `h5repack -f NONE IN OUT` unpacks it")
    return numbers


def _undone(kind, content, size):
    if kind == _GZIP:
        try:
            return zlib.decompressobj().decompress(content, size)
        except zlib.error as error:
            raise ValueError(f"packed data are damaged ({error})") from None
    whole = np.frombuffer(content, np.uint8)
    return whole.reshape(_ENTRY.itemsize, -1).T.tobytes() if whole.size % _ENTRY.itemsize == 0 else content


class _Heaps:
    """The heaps of a file; the one read last is kept."""

    def __init__(self, file, base, size):
        self._file, self._base, self._size = file, base, size
        self._address, self._objects = None, {}

    def object(self, address, index):
        """The bytes of an object."""
        if address != self._address:
            self._objects = self._read(address)
            self._address = address
        if index not in self._objects:
            raise ValueError(f"the heap at byte {address} has no object {index}")
        return self._objects[index]

    def _read(self, address):
        if address + _HEADER.size > self._size:
            raise ValueError(f"a heap lies beyond the end of the file, at byte {address}")
        self._file.seek(self._base + address)
        mark, version, size = _HEADER.unpack(self._file.read(_HEADER.size).ljust(_HEADER.size))
        if mark != b"GCOL" or version != 1 or not _HEADER.size <= size <= min(self._size, _LARGEST_HEAP):
            raise ValueError(f"no heap at byte {address}")
        content, at, objects = self._file.read(size - _HEADER.size), 0, {}
        while at + _OBJECT.size <= len(content):
            index, _, length = _OBJECT.unpack_from(content, at)
            at += _OBJECT.size
            if index == 0:  # what is free, up to the end
                break
            if at + length > len(content):
                raise ValueError(f"an object of the heap at byte {address} is cut short")
            objects[index] = content[at:at + length]
            at += -(-length // 8) * 8
        return objects
