"""FSDD, the Free Spoken Digit Dataset: ``recordings/{digit}_{speaker}_{index}.wav``, 8,000 samples a second.

Recordings of index 0..4 are the official test set.  If none of them is there, 5..9 are the test set; the cache says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep import speech
from data_prep.source import Source, recordings
from data_prep.wav import MAX_BYTES
from hrmas_sparse.storage.errors import InputError

CHANNELS = speech.CHANNELS
CLASS_NAMES = tuple("0123456789")
ENCODINGS = speech.ENCODINGS
WHOLE = (2700, 300)
BY_HAND = ("is in a git repository: git clone https://github.com/Jakobovski/free-spoken-digit-dataset {folder} "
           "(what counts is {folder}/recordings)")

_NAME = re.compile(r"([0-9])_([A-Za-z0-9]+)_([0-9]{1,6})\.wav", re.I)
_OFFICIAL, _SECOND = "test is 0-4", "test is 5-9"  # the layout: which indices are the test set

settings = speech.settings


def find(raw: Path) -> Source:
    """The recordings below `raw`, or in `raw` itself, by digit, speaker and index.

    Raises
    ------
    InputError
        Naming the folder or file: no recording, none of index 0..9, a name that does not follow the layout.
    """
    folder = raw / "recordings" if (raw / "recordings").is_dir() else raw
    paths = recordings(folder, "*.wav")
    if not paths:
        raise InputError(f"{folder}: no *.wav file here; expected {raw}/recordings/<digit>_<speaker>_<index>.wav")
    paths.sort(key=_parse)
    first = min(_parse(path)[2] for path in paths)
    if first > 9:
        raise InputError(f"{folder}: expected test recordings, of index 0-4 (or 5-9), found no index below {first}")
    return Source(folder, tuple(paths), layout=_OFFICIAL if first < 5 else _SECOND, largest=MAX_BYTES)


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value) file by file; ids are like "0_george_10"."""
    tested = range(5) if source.layout == _OFFICIAL else range(5, 10)
    for path, events in zip(source.files, speech.encoded(source.files, speech.hear, data, notes)):
        digit, _, index = _parse(path)
        if index in tested and source.layout == _SECOND:
            notes["recordings of index 5-9 are the test set: the official ones, 0-4, are absent"] += 1
        yield "test" if index in tested else "train", path.stem, digit, *events


def _parse(path: Path) -> tuple[int, str, int]:
    """Digit, speaker and index of a recording."""
    match = _NAME.fullmatch(path.name)
    if not match:
        raise InputError(f"{path}: expected a name like <digit>_<speaker>_<index>.wav; rename or remove the file")
    return int(match[1]), match[2], int(match[3])
