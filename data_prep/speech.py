"""From sound files to events: what the speech data sets share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from math import gcd
from pathlib import Path

import numpy as np

from data_prep import bsa
from data_prep.encode import Sample, encode_cochleagram
from data_prep.lyon import RATE, SETTINGS, lyon
from data_prep.source import in_order
from data_prep.wav import read_wav

CHANNELS = 78
ENCODINGS = ("bsa", "intensity")


def settings(data) -> dict:
    """Constants that the events depend on, besides the configuration's."""
    if data.encoding == "intensity":
        return SETTINGS | {"gain": bsa.GAIN}
    return SETTINGS | {
        "repeat": bsa.REPEAT,
        "gain": bsa.GAIN,
        "taps": bsa.TAPS,
        "threshold": bsa.THRESHOLD,
        "bsa_steps_per_bin": bsa.STEPS_PER_BIN,
    }


def hear(path: Path, notes: Counter) -> np.ndarray:
    """Lyon features, (78, frames), of a sound file of any rate."""
    wave, rate = read_wav(path)
    if rate != RATE:
        from scipy.signal import resample_poly      # takes a second of every start of the program, else
        common = gcd(rate, RATE)
        wave = resample_poly(wave, RATE // common, rate // common)
        notes[f"recordings resampled from {rate} to {RATE} samples a second"] += 1
    frames = lyon(wave)
    notes["recordings shorter than one frame, left empty"] += frames.shape[1] == 0
    return frames


def encoded(
    paths: Iterable[Path], features: Callable[[Path, Counter], np.ndarray], data, notes: Counter
) -> Iterator[Sample]:
    """Events of each file, in the order of `paths`, several files at a time.

    Parameters
    ----------
    features : path, notes -> (78, frames); called from several threads, each with notes of its own
    """

    def encode(path: Path) -> tuple[Sample, Counter]:
        counted = Counter()
        return encode_cochleagram(features(path, counted), data, counted), counted

    for sample, counted in in_order(encode, paths):
        notes.update(counted)
        yield sample
