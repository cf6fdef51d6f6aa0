"""A stand-in for N-TIDIGITS18, in its file layout, for machines that do not have the recordings.

A word is two syllables with silence between them; a syllable is three formants, tracks of the centre channel over its
time, that run forwards or backwards. So spike counts tell at most which syllables there are, but neither in which
direction they run nor which comes first. Directions can be told within a syllable; the order only by who still knows
the first syllable when the second one comes, a gap of about a membrane time constant (64 steps) later: this is what
recurrence is for. Speakers shift the tracks and speak at their own rate; syllables are warped in time, spikes jitter,
and one spike in six is background.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.ntidigits import CHANNELS, CLASS_NAMES
from hrmas_sparse.storage import hdf5
from hrmas_sparse.storage.atomic import write_bytes
from hrmas_sparse.storage.errors import InputError

DATASET = "ntidigits"
VERSION = 2
SPEAKERS = {"train": 20, "test": 10}  # each says every word twice, productions a and b
DURATION = 1.5  # seconds
SPIKES = 1000  # a recording, whatever the word

_BACKGROUND = 1 / 6
_WIDTH = 1.8  # standard deviation across channels
_JITTER = 0.004  # seconds
_SYLLABLE, _SILENCE = 0.35, 0.3  # seconds, at the mean rate
# (syllables, formants, knots) channels, evenly spaced in time.  None reads the same backwards.
_TRACKS = np.array(
    [
        [[4, 7, 12, 18, 22], [26, 28, 34, 40, 41], [45, 47, 50, 56, 60]],
        [[6, 18, 19, 16, 14], [23, 24, 25, 30, 40], [58, 52, 47, 47, 45]],
    ]
)
# The two syllables of each word, capitals run backwards. Eight words have the same counts, differ in directions and
# order; the others repeat a syllable.
_WORDS = ("ab", "ba", "Ab", "bA", "aB", "Ba", "AB", "BA", "aA", "Aa", "bB")


def stand_in(folder: Path, seed: int) -> Path:
    """Path of the stand-in for `seed` in `folder`; made there, whole or not at all, unless it is there already."""
    path = folder / f"synthetic-ntidigits-{seed}.hdf5"
    if not _is_current(path, seed):
        write(path, seed)
    return path


def _is_current(path: Path, seed: int) -> bool:
    try:
        with hdf5.opened(path) as file:
            return [hdf5.attribute(file, name) for name in ("generator", "seed")] == [VERSION, seed]
    except (*hdf5.BROKEN, InputError):
        return False


def write(path: Path, seed: int) -> None:
    """Write 440 training and 220 test words to `path`; the same seed gives the same file, byte for byte."""
    rng = np.random.default_rng([VERSION, seed])
    with hdf5.new_image() as file:
        file.attrs.update(provenance="synthetic stand-in", generator=VERSION, seed=seed)
        spoken = 0
        for group, speakers in SPEAKERS.items():
            names = []
            for speaker in range(spoken, spoken + speakers):
                shift, rate = rng.normal(0.0, 1.0) + (1.0 if speaker % 2 else -1.0), rng.uniform(0.85, 1.15)
                prefix = f"{'woman' if speaker % 2 else 'man'}-{chr(97 + speaker // 26)}{chr(97 + speaker % 26)}"
                for production in "ab":
                    for label, digit in enumerate(CLASS_NAMES):
                        names.append(f"{prefix}-{production}-{digit}")
                        address, time = _word(rng, label, shift, rate)
                        file[f"{group}_addresses/{names[-1]}"] = address
                        file[f"{group}_timestamps/{names[-1]}"] = time
            file[f"{group}_labels"] = np.array(names, dtype=np.bytes_)
            spoken += speakers
        write_bytes(path, hdf5.bytes_of(file))


def _word(rng: np.random.Generator, label: int, shift: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Channels (E,) uint8 and times (E,) float64, seconds, rising, of one spoken word."""
    voiced = rng.binomial(SPIKES, 1 - _BACKGROUND)
    half, onset = voiced // 2, rng.uniform(0.03, 0.15)
    first, second = tuple(_WORDS[label])
    channel, time = (np.concatenate(parts) for parts in zip(
        _syllable(rng, first, half, shift, rate, onset),
        _syllable(rng, second, voiced - half, shift, rate, onset + rate * (_SYLLABLE + _SILENCE))))
    channel = np.concatenate([channel, rng.integers(CHANNELS, size=SPIKES - voiced)])
    time = np.concatenate([time, rng.uniform(0.0, DURATION, SPIKES - voiced)])
    heard = (channel >= 0) & (channel < CHANNELS) & (time >= 0) & (time < DURATION)
    order = np.argsort(time[heard], kind="stable")
    return channel[heard][order].astype(np.uint8), time[heard][order]


def _syllable(rng, kind: str, count: int, shift: float, rate: float, onset: float) -> tuple[np.ndarray, np.ndarray]:
    """Channels and times of so many spikes of one syllable."""
    formant = rng.integers(_TRACKS.shape[1], size=count)
    phase = rng.uniform(size=count)  # uniform, so that a track reversed in time has the same counts
    along = (1 - phase if kind.isupper() else phase) * (_TRACKS.shape[2] - 1)
    knot = along.astype(int)
    rows, tracks = np.arange(count), _TRACKS["ab".index(kind.lower()), formant]
    last = np.minimum(knot + 1, _TRACKS.shape[2] - 1)
    centre = tracks[rows, knot] + (along - knot) * (tracks[rows, last] - tracks[rows, knot])
    channel = np.rint(centre + shift + rng.normal(0.0, _WIDTH, count)).astype(int)
    warp = np.exp(rng.normal(0.0, 0.15))
    return channel, onset + _SYLLABLE * rate * phase**warp + rng.normal(0.0, _JITTER, count)
