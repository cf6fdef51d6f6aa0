"""TI46-Alpha: 26 spoken letters.

Layout "lyon", Lyon-ear features as text: ``{train,test}/<class>/<speaker>_u<utterance>_c<class>.dat``, 78 lines, one a
channel, the frames of 16 ms as columns.  Class folders are numbered 0..25, or 1..26 where there is a 26 and no 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep import bsa
from data_prep.encode import encode_cochleagram
from data_prep.source import Source
from hrmas_sparse.errors import InputError

CHANNELS = 78
CLASS_NAMES = tuple(string.ascii_lowercase)
ENCODINGS = ("bsa", "intensity")
LAYOUT = "{train,test}/<class>/<speaker>_u<utterance>_c<class>.dat"

_NAME = re.compile(r"(?P<speaker>[^_]+)_u(?P<utterance>\d+)_c(?P<number>\d+)\.dat")


def settings(data) -> dict:
    """Constants that the events depend on, besides the configuration's."""
    if data.encoding == "intensity":
        return {"gain": bsa.GAIN, "frame_ms": 16}
    return {
        "repeat": bsa.REPEAT,
        "gain": bsa.GAIN,
        "taps": bsa.TAPS,
        "threshold": bsa.THRESHOLD,
        "bsa_steps_per_bin": bsa.STEPS_PER_BIN,
    }


def find(raw: Path) -> Source:
    """The `.dat` files below `raw`, in the order train, test; class; speaker; utterance.

    Raises
    ------
    InputError
        Naming the folder or file: `train` or `test` missing or without a file, a class that is no number or out of
        range, a name that does not follow the layout.
    """
    numbered = []
    for split in ("train", "test"):
        paths = sorted(path for path in (raw / split).glob("*/*.dat") if path.is_file())
        if not paths:
            raise InputError(f"{raw / split}: no *.dat file in a class folder here; expected {raw}/{LAYOUT}")
        numbered += [(split, *_parse(path), path) for path in paths]
    _first_class(raw, {number for _, number, *_ in numbered})
    numbered.sort(key=lambda entry: (entry[0] != "train", *entry[1:]))
    return Source(raw, tuple(path for *_, path in numbered), layout="lyon")


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value) file by file; ids are like "f1_u6_c3"."""
    first = _first_class(source.root, {_parse(path)[0] for path in source.files})
    for path in source.files:
        number = _parse(path)[0]
        events = encode_cochleagram(read_dat(path), data, notes)
        yield path.parent.parent.name, path.stem, number - first, *events


def _parse(path: Path) -> tuple[int, str, int]:
    """Class number, speaker and utterance of a file."""
    match = _NAME.fullmatch(path.name)
    if not match:
        raise InputError(f"{path}: expected a name like <speaker>_u<utterance>_c<class>.dat; rename or remove the file")
    number = int(match["number"])
    if path.parent.name != str(number):
        raise InputError(f"{path}: the name says class {number}, the folder {path.parent.name!r}; move the file")
    return number, match["speaker"], int(match["utterance"])


def _first_class(root: Path, numbers: set[int]) -> int:
    """0 or 1: the number of the first class."""
    first = 1 if len(CLASS_NAMES) in numbers else 0
    wrong = numbers - set(range(first, first + len(CLASS_NAMES)))
    if wrong:
        raise InputError(
            f"{root}: classes {sorted(wrong)} beside {sorted(numbers - wrong)}; "
            f"expected folders 0..{len(CLASS_NAMES) - 1} or 1..{len(CLASS_NAMES)}"
        )
    return first


def read_dat(path: Path) -> np.ndarray:
    """One utterance, (78, frames) float64, not negative.

    Raises
    ------
    InputError
        Naming file and line: not 78 lines, rows of different length, no frame, anything but finite numbers >= 0.
    """
    lines = path.read_bytes().rstrip().splitlines()
    if len(lines) != CHANNELS:
        raise InputError(f"{path}: expected {CHANNELS} lines, one a channel, found {len(lines)}; replace the file")
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1)]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]) or not row:
            raise InputError(
                f"{path}, line {number}: expected {len(rows[0]) or 'some'} numbers as in line 1, found {len(row)}; "
                "replace the file"
            )
    frames = np.array(rows)
    bad = ~(np.isfinite(frames) & (frames >= 0))
    if bad.any():
        line, column = np.argwhere(bad)[0]
        raise InputError(
            f"{path}, line {line + 1}, column {column + 1}: expected a finite number >= 0, found "
            f"{frames[line, column]}; replace the file"
        )
    return frames


def _row(path: Path, number: int, line: bytes) -> list[float]:
    try:
        if b"_" in line:  # which Python takes inside a number
            raise ValueError(line[:40])
        return list(map(float, line.split()))
    except ValueError as error:
        raise InputError(f"{path}, line {number}: expected numbers, found something else ({error})") from None
