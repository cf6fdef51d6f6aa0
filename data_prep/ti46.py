"""TI46-Alpha: 26 spoken letters, in either of two layouts.

"wav", sound files: ``ti_alpha/{train,test}/<spk>/<code><spk><session>t<token>.wav``, code 0a..0z, in any case.
"lyon", Lyon-ear features as text: ``{train,test}/<class>/<speaker>_u<utterance>_c<class>.dat``, 78 lines, one a
channel, the frames of 16 ms as columns.  Class folders are numbered 0..25, or 1..26 where there is a 26 and no 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep import speech, wav
from data_prep.source import Source, recordings
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

CHANNELS = speech.CHANNELS
CLASS_NAMES = tuple(string.ascii_lowercase)
ENCODINGS = speech.ENCODINGS
WHOLE = (4142, 6628)
BY_HAND = ("is licensed (LDC93S9, https://catalog.ldc.upenn.edu/LDC93S9) and nobody may pass it on. Order it and put "
           "its folder ti_alpha, or Lyon-ear features of it, into {folder}")
LAYOUT = "{train,test}/<class>/<speaker>_u<utterance>_c<class>.dat"
MAX_BYTES = 8 << 20  # of a .dat; an utterance of two seconds takes 150 thousand
LARGEST = 1e6  # of a feature: gain control keeps them near 1e-4

_NAME = re.compile(r"(?P<speaker>[A-Za-z0-9]+)_u(?P<utterance>[0-9]{1,9})_c(?P<number>[0-9]{1,9})\.dat", re.I)
_WAV = re.compile(r"0(?P<letter>[a-z])(?P<speaker>[fm][1-8])(?:(?P<train>set[0-9])|s[1-8]t[01])\.wav", re.I | re.A)
_SPOKEN = {"train": 10, "test": 16}  # times that a speaker says a letter

settings = speech.settings


def find(raw: Path) -> Source:
    """The files below `raw`, split by split: `.dat` by class, speaker, utterance, or else sound by name.

    Raises
    ------
    InputError
        Naming the folder or file: no file in `train` or `test`, a class that is no number or out of range, a name
        that does not follow the layout.
    """
    if not any(recordings(raw / split, "*/*.dat") for split in _SPOKEN):
        root = _folder(raw, "ti_alpha") or raw
        paths, _ = _scan(root)
        if paths:
            return Source(root, tuple(paths), layout="wav", largest=wav.MAX_BYTES)
    numbered = []
    for split in _SPOKEN:
        paths = recordings(raw / split, "*/*.dat")
        numbered += [(split, *_parse(path), path) for path in paths]
    if not numbered:
        raise InputError(
            f"{raw}: no recordings; expected {raw}/{LAYOUT}, or {raw}/ti_alpha/{{train,test}}/<speaker>/*.wav"
        )
    _first_class(raw, {number for _, number, *_ in numbered})
    numbered.sort(key=lambda entry: (entry[0] != "train", *entry[1:]))
    return Source(raw, tuple(path for *_, path in numbered), layout="lyon", largest=MAX_BYTES)


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value) file by file; ids are like "f1_u6_c3" or "0cf1s3t0"."""
    if source.layout == "wav":
        yield from _sounds(source, data, notes)
        return
    first = _first_class(source.root, {_parse(path)[0] for path in source.files})
    for path, events in zip(source.files, speech.encoded(source.files, lambda path, _: read_dat(path), data, notes)):
        yield path.parent.parent.name, path.stem, _parse(path)[0] - first, *events


# ---- sound -------------------------------------------------------------------------------------------


def _folder(parent: Path, name: str) -> Path | None:
    """The subfolder of that name in any case."""
    if not parent.is_dir():
        return None
    return next((path for path in sorted(parent.iterdir()) if path.name.lower() == name and path.is_dir()), None)


def _scan(root: Path) -> tuple[list[Path], int]:
    """Recordings of letters below `root`, by split and name, and the number of sound files that are none."""
    sounds, others = [], 0
    for split in _SPOKEN:
        folder = _folder(root, split)
        paths = recordings(folder, "*/*.wav") if folder else []
        letters = [path for path in paths if _WAV.fullmatch(path.name)]
        others += len(paths) - len(letters)
        sounds += sorted(letters, key=lambda path: (path.stem.lower(), path))
    return sounds, others


def _sounds(source: Source, data, notes: Counter) -> Iterator[tuple]:
    _, others = _scan(source.root)
    notes["sound files skipped, their name being no letter's, such as 0af1set0.wav"] += others
    named = [(path.parent.parent.name.lower(), path.stem.lower(), _WAV.fullmatch(path.name)) for path in source.files]
    seen, speakers = {}, {match["speaker"].lower() for *_, match in named}
    for path, (split, id, match) in zip(source.files, named):
        if path.parent.name.lower() != match["speaker"].lower():
            raise InputError(f"{path}: the name says speaker {match['speaker']}, the folder {path.parent.name!r}; "
                             "move the file")
        if (split == "train") != bool(match["train"]):
            raise InputError(f"{path}: by its name, not a file of the {split} part; move the file")
        if seen.setdefault((split, id), path) != path:
            raise InputError(f"{path}: the same recording as {seen[split, id]}; remove one of them")
    nominal = len(speakers) * len(CLASS_NAMES) * sum(_SPOKEN.values())
    notes["speakers"] += len(speakers)
    notes["recordings absent, of the 26 x (10 + 16) that a speaker should have"] += nominal - len(named)
    for (split, id, match), events in zip(named, speech.encoded(source.files, speech.hear, data, notes)):
        yield split, id, CLASS_NAMES.index(match["letter"].lower()), *events


# ---- Lyon features as text ---------------------------------------------------------------------------


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
    if not numbers & {0, len(CLASS_NAMES)}:
        raise InputError(f"{root}: classes {sorted(numbers)}: without class 0 or {len(CLASS_NAMES)} it cannot be told "
                         f"whether they count from 0 or from 1; add recordings of one of these two")
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
        Naming file and line: not 78 lines, rows of different length, no frame, anything but numbers 0..1e6.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: expected one spoken letter, found {size:,} bytes; {MAX_BYTES:,} are taken at most")
    lines = files.read(path).rstrip().splitlines()
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
    bad = ~((frames >= 0) & (frames <= LARGEST))
    if bad.any():
        line, column = np.argwhere(bad)[0]
        raise InputError(
            f"{path}, line {line + 1}, column {column + 1}: expected a number from 0 to {LARGEST:g}, found "
            f"{frames[line, column]}; replace the file"
        )
    return frames


def _row(path: Path, number: int, line: bytes) -> list[float]:
    try:
        if b"_" in line:  # which Python takes inside a number
            raise ValueError(line[:40])
        return list(map(float, line.split()))
    except ValueError as error:
        reason = str(error)[:80]
        raise InputError(f"{path}, line {number}: expected numbers, found something else ({reason})") from None
