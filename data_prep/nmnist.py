"""N-MNIST: handwritten digits before a moving event camera.

``{Train,Test}/<digit>/<name>.bin``, one recording a file, five bytes an event, big-endian: x, y, then 24 bits: polarity
(the highest) and time in microseconds.  y = 240 marks an overflow of time: later events are 2^13 us later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.encode import bin_spikes
from data_prep.source import Remote, Source, recordings
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

SIDE = 34
CHANNELS = 2 * SIDE * SIDE  # (polarity, y, x)
CLASS_NAMES = tuple("0123456789")
ENCODINGS = ("bin",)
GRID = (2, SIDE, SIDE)
WHOLE = (60000, 10000)
STEP_MS = 3
_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"
REMOTES = (
    Remote(f"{_MENDELEY}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded", "Train.zip",
           "20959b8e626244a1b502305a9e6e2031", "Train"),
    Remote(f"{_MENDELEY}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded", "Test.zip",
           "69ca8762b2fe404d9b9bad1103e97832", "Test"),
)
LAYOUT = "{Train,Test}/<digit>/*.bin"

_SPLITS = {"Train": "train", "Test": "test"}
_EVENT = 5  # bytes
LARGEST = 16 << 20  # bytes; recordings have some 20 thousand
_OVERFLOW_Y, _OVERFLOW_US = 240, 1 << 13


def find(raw: Path) -> Source:
    """The `.bin` files below `raw`, in the order Train, Test; digit; name.

    Raises
    ------
    InputError
        Naming the folder: no file in `Train` or `Test`, recordings in a folder that is no digit.
    """
    files = []
    for part in _SPLITS:
        paths = recordings(raw / part, "*/*.bin")
        for path in paths:
            if path.parent.name not in CLASS_NAMES:
                raise InputError(f"{path.parent}: expected a folder 0..9, found {path.parent.name!r} with recordings")
        files += paths
    if not files:
        raise InputError(f"{raw}: no recordings; expected {raw}/{LAYOUT}")
    return Source(raw, tuple(files), largest=LARGEST)


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value) file by file; ids are like "3/00008"."""
    for path in source.files:  # threads would only wait for each other: the files are small
        part, digit = path.parent.parent.name, path.parent.name
        time, channel = read_bin(path, notes)
        events = bin_spikes(time // (1000 * STEP_MS), channel, data, CHANNELS, notes)
        yield _SPLITS[part], f"{digit}/{path.stem}", int(digit), *events


def read_bin(path: Path, notes: Counter) -> tuple[np.ndarray, np.ndarray]:
    """Times (E,) int64, microseconds, and channels (E,) int64 of one recording, as stored.

    Events outside 34 x 34 are dropped, events earlier than the one before are kept; both are counted.

    Raises
    ------
    InputError
        An empty file, one that ends inside an event, or one far too large.
    """
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes are too many for 300 ms; get the file again")
    raw = np.frombuffer(files.read(path), dtype=np.uint8)
    whole = raw.size - raw.size % _EVENT
    if raw.size == 0:
        raise InputError(f"{path}: the file is empty, expected events of {_EVENT} bytes; get it again")
    if whole != raw.size:
        raise InputError(
            f"{path}, byte {whole}: expected an event of {_EVENT} bytes, the file ends after {raw.size - whole}; "
            "get it again"
        )
    x, y, high, middle, low = raw.reshape(-1, _EVENT).T.astype(np.int32)
    time = ((high & 127) << 16 | middle << 8 | low).astype(np.int64)
    marker = y == _OVERFLOW_Y
    if marker.any():
        time += np.cumsum(marker) * _OVERFLOW_US
    inside = (x < SIDE) & (y < SIDE)
    notes["events outside 34 x 34 dropped"] += int((~inside & ~marker).sum())
    channel = ((high >> 7) * SIDE + y) * SIDE + x
    if not inside.all():
        time, channel = time[inside], channel[inside]
    notes["events earlier than the one before"] += int((time[1:] < time[:-1]).sum())
    return time, channel
