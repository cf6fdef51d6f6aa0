"""SHD, the Spiking Heidelberg Digits: ten digits in English and German; see heidelberg.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep import heidelberg
from data_prep.source import Source

CHANNELS = heidelberg.CHANNELS
CLASS_NAMES = tuple(str(number) for number in range(20))  # unless the files name them
ENCODINGS = heidelberg.ENCODINGS
WHOLE = (8156, 2264)
REMOTES = heidelberg.remotes("shd", {"train": "f3252aeb598ac776c1b526422d90eecb",
                                   "test": "1503a5064faa34311c398fb0a1ed0a6f"})
BY_HAND = heidelberg.BY_HAND

settings = heidelberg.settings


def find(raw: Path) -> Source:
    """The files below `raw`, see `heidelberg.find`."""
    return heidelberg.find(raw, "shd", len(CLASS_NAMES))


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value), see `heidelberg.samples`."""
    return heidelberg.samples(source, data, notes, len(CLASS_NAMES))
