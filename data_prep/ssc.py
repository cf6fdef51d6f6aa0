"""SSC, the Spiking Speech Commands: 35 spoken words; see heidelberg.py.

The published validation part, ssc_valid.h5, is left alone: settings are tuned on `data.partition = "valid-1"`, drawn
from the training part as for every data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep import heidelberg
from data_prep.source import Source

CHANNELS = heidelberg.CHANNELS
CLASS_NAMES = tuple(str(number) for number in range(35))  # unless the files name them
ENCODINGS = heidelberg.ENCODINGS
WHOLE = (75466, 20382)
REMOTES = heidelberg.remotes("ssc", {"train": "d102be95e7144fcc0553d1f45ba94170",
                                   "test": "a35ff1e9cffdd02a20eb850c17c37748"})
BY_HAND = heidelberg.BY_HAND

settings = heidelberg.settings


def find(raw: Path) -> Source:
    """The files below `raw`, see `heidelberg.find`."""
    return heidelberg.find(raw, "ssc", len(CLASS_NAMES))


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value), see `heidelberg.samples`."""
    return heidelberg.samples(source, data, notes, len(CLASS_NAMES))
