"""The Heidelberg spiking data sets, SHD and SSC: spoken words as a model of the inner ear sends them.

arXiv:1910.07407.

One HDF5 file a part, ``<name>_train.h5``, ``<name>_test.h5``, for SSC ``ssc_valid.h5`` too, see
`hrmas_sparse.data.shd`; packed with gzip, as published, they end in ``.h5.gz``.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from data_prep.source import Remote, Source
from hrmas_sparse import places
from hrmas_sparse.data import shd
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

CHANNELS = 700
ENCODINGS = ("bin",)
STEP_MS = 10
BY_HAND = ("is under the Creative Commons licence CC BY 4.0. The checksums are of the archives as the library tonic "
           "has them. The unpacked files, plain or packed with gzip, may lie in {folder} as well")

_LARGEST = 8 << 30  # bytes of a file unpacked; the largest published one has 1.5 GB
_MOST_PACKED = 200  # times that a file may be larger unpacked; the published ones are less than 4 times as large
_BLOCK, _GZIP = 1 << 20, 31  # bytes at a time; what zlib calls that form
_PARTS = {"train": "train", "test": "test"}


def remotes(name: str, **md5: str) -> tuple[Remote, ...]:
    """The published files of a data set, by their MD5."""
    return tuple(Remote(f"https://zenkelab.org/datasets/{name}_{part}.h5.zip", f"{name}_{part}.h5.zip", md5[part],
                        f"{name}_{part}.h5") for part in _PARTS)


def reader(name: str, classes: int) -> tuple[Callable, Callable]:
    """`find` and `samples` of a data set's reader."""
    return functools.partial(_find, name=name, classes=classes), functools.partial(_samples, classes=classes)


def _find(raw: Path, name: str, classes: int) -> Source:
    """The files of the training and the test part in `raw`, or the folder of one of them.

    Raises
    ------
    InputError
        Neither of them is there, or names other classes than the data set has.
    """
    folder = raw if raw.is_dir() else raw.parent
    paths = [path for part in _PARTS if (path := _file(folder, f"{name}_{part}.h5"))]
    if not paths:
        raise InputError(f"{folder}: no recordings; expected {name}_train.h5 and {name}_test.h5 (or .h5.gz) there")
    with _unpacked(paths[0]) as path:
        names = shd.names_of(path) or ()
    return Source(folder, tuple(paths), class_names=names if len(names) == classes == len(set(names)) else ())


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name in any case, plain or packed."""
    there = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    return there.get(name) or there.get(f"{name}.gz")


def _samples(source: Source, data, notes: Counter, classes: int) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value); ids are the numbers of the samples in their file."""
    binning = shd.Binning(data.steps, STEP_MS, CHANNELS, data.value)
    for file in source.files:
        split = next(part for part in _PARTS if f"_{part}.h5" in file.name.lower())
        with _unpacked(file) as path:
            for number, (label, events) in enumerate(shd.samples(path, binning, notes)):
                if label >= classes:
                    raise InputError(f"{file}, /labels: sample {number}: expected 0 to {classes - 1}, found {label}; "
                                     "get the file again")
                yield split, str(number), label, *events


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file, or a copy of it that is unpacked and goes away again."""
    if path.suffix.lower() != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=_scratch()) as folder:
        plain, size, packed_size = Path(folder) / path.stem, 0, path.stat().st_size
        most = min(_LARGEST, _MOST_PACKED * packed_size + (1 << 20))
        if packed_size > _LARGEST:  # a terabyte of holes, say
            raise InputError(f"{path}: {packed_size:,} bytes, packed; is this the published file?")
        try:
            with files.opened(path) as packed, files.created(plain) as target:
                for block in _blocks(packed):
                    size += len(block)
                    if size > most:
                        raise InputError(f"{path}: more than {most:,} bytes unpacked; is this the published file?")
                    files.pour(target, block)
        except (EOFError, zlib.error) as error:
            raise InputError(f"{path}: expected a file packed with gzip, could not unpack it ({error}); get it "
                             "again") from None
        try:
            yield plain
        except InputError as error:  # of what the user has
            raise InputError(str(error).replace(str(plain), str(path))) from error


def _blocks(packed: BinaryIO) -> Iterator[bytes]:
    """What is in a file of gzip: its members one after the other, without the zeros after them.

    Python's own reader takes those zeros one by one, which may be for ever.
    """
    unpacking = zlib.decompressobj(_GZIP)
    while data := packed.read(_BLOCK):
        block = b""
        while data or len(block) == _BLOCK:
            if unpacking.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                unpacking = zlib.decompressobj(_GZIP)
            block = unpacking.decompress(data, _BLOCK)
            yield block
            data = unpacking.unused_data if unpacking.eof else unpacking.unconsumed_tail
    if not unpacking.eof:
        raise EOFError("it ends too early")


def _scratch() -> Path:
    folder = places.cache()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
