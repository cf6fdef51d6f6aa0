"""DVS-Gesture: eleven hand and arm gestures before an event camera.  Two layouts:

- "aedat", the original: ``trials_to_train.txt`` and ``trials_to_test.txt`` list recordings ``userNN_<light>.aedat``;
  ``userNN_<light>_labels.csv`` has a row ``class,startTime_usec,endTime_usec`` for each trial, classes 1..11.
- "npy", cut and preprocessed (tonic): ``ibmGesture{Train,Test}/userNN_<light>/<class>.npy``, classes 0..10, one row an
  event: x, y, polarity, time in milliseconds.

A sample is the first steps of a trial, from the trial's start; 128 x 128 pixels are pooled 4 x 4.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.aedat import LARGEST, read_aedat
from data_prep.encode import bin_spikes
from data_prep.source import Remote, Source, in_order, recordings
from hrmas_sparse import environment
from hrmas_sparse.storage import files, npy
from hrmas_sparse.storage.errors import InputError

PIXELS, POOL = 128, 4
SIDE = PIXELS // POOL
CHANNELS = 2 * SIDE * SIDE  # (polarity, y, x)
CLASS_NAMES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
ENCODINGS = ("bin",)
GRID = (2, SIDE, SIDE)
WHOLE = (1077, 264)
STEP_MS = 4

_FIGSHARE = "https://figshare.com/ndownloader/files"
REMOTES = (
    Remote(f"{_FIGSHARE}/38022171", "ibmGestureTrain.tar.gz", "3a8f0d4120a166bac7591f77409cb105", "ibmGestureTrain"),
    Remote(f"{_FIGSHARE}/38020584", "ibmGestureTest.tar.gz", "56070e45dadaa85fff82e0fbfbc06de5", "ibmGestureTest"),
)
BY_HAND = (
    "This is a preprocessed copy, times in ms. The original recordings need a click of consent: get "
    "DvsGesture.tar.gz from https://research.ibm.com/interactive/dvsgesture and unpack it to {folder}/DvsGesture; "
    "then set aside {folder}/ibmGestureTrain and Test, or give RAW={folder}/DvsGesture."
)

_LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
_FOLDERS = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
_COLUMNS = "class,startTime_usec,endTime_usec"
_WORKERS = 4  # threads at most: a recording of 25 MB takes 170 MB while it is read
_TEXT = 1 << 20  # bytes, largest list or label file
_LONGEST_MS = 120_000  # of a preprocessed trial; microseconds taken for milliseconds would be longer

Trial = tuple[int, int, int, int]  # row in the label file, label 0..10, start and end in microseconds


def settings(data) -> dict:
    """Constants that the events depend on, besides the configuration's."""
    return {"step_ms": STEP_MS, "pool": POOL}


def find(raw: Path) -> Source:
    """The recordings, in `raw` or in `raw`/DvsGesture: trial lists, label files and `.aedat`, or `.npy`.

    Raises
    ------
    InputError
        Naming file and line: neither layout, a malformed list or label file, a recording that is listed, but absent.
    """
    for root in (raw, raw / "DvsGesture"):
        if any((root / name).is_file() for name in _LISTS.values()):
            return _find_aedat(root)
        if any((root / name).is_dir() for name in _FOLDERS.values()):
            return _find_npy(root)
    raise InputError(
        f"{raw}: expected {' and '.join(_LISTS.values())} with the recordings, or the folders "
        f"{' and '.join(_FOLDERS.values())}, found neither; see docs/data.md"
    )


def samples(source: Source, data, notes: Counter) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value); ids are like "user01_led/3": the label's row, or the class."""

    def read(work: tuple[str, Path]) -> tuple[list[tuple], Counter]:
        counted = Counter()
        return list(_read_trials(*work, data, counted)), counted

    work = _recordings(source.root) if source.layout == "aedat" else [(_split(path), path) for path in source.files]
    for results, counted in in_order(read, work, min(_WORKERS, environment.threads())):
        notes.update(counted)
        yield from results


def _read_trials(split: str, path: Path, data, notes: Counter) -> Iterator[tuple]:
    """The samples of one file."""
    if path.suffix.lower() == ".npy":
        time, channel = read_npy(path, notes)
        events = bin_spikes(time // STEP_MS, channel, data, CHANNELS, notes)
        yield split, f"{path.parent.name}/{path.stem}", int(path.stem), *events
        return
    x, y, p, time = read_aedat(path, notes)
    inside = (x < PIXELS) & (y < PIXELS)
    notes["events outside 128 x 128 dropped"] += int((~inside).sum())
    channel, time = _channel(x[inside], y[inside], p[inside]), time[inside]
    notes["events earlier than the one before"] += int((time[1:] < time[:-1]).sum())
    for row, label, start, end in _clipped(path, read_labels(_labels(path)), notes):
        trial = (time >= start) & (time < end)
        if not trial.any():
            raise InputError(
                f"{_labels(path)}, line {row + 1}: no event of {path.name} between {start} and {end} us; are these "
                "the labels of this recording?"
            )
        events = bin_spikes((time[trial] - start) // (1000 * STEP_MS), channel[trial], data, CHANNELS, notes)
        yield split, f"{path.stem}/{row}", label, *events


def _channel(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return (p * SIDE + y // POOL) * SIDE + x // POOL


# --- the original: lists, labels, recordings ---------------------------------------------------------------------


def _find_aedat(root: Path) -> Source:
    listed = _recordings(root)
    labels = [_labels(path) for _, path in listed]
    lists = [root / name for name in _LISTS.values()]
    files = lists + [path for pair in zip(labels, (path for _, path in listed)) for path in pair]
    return Source(root, tuple(files), layout="aedat", samples=sum(len(read_labels(path)) for path in labels),
                  largest=LARGEST)


def _recordings(root: Path) -> list[tuple[str, Path]]:
    """(split, recording) in the order of the lists."""
    listed, seen = [], {}
    for split, name in _LISTS.items():
        entries = read_list(root / name)
        for line, entry in entries:
            where = f"{root / name}, line {line}"
            if entry in seen:
                raise InputError(f"{where}: {entry} is in {seen[entry]} already; list each recording once")
            seen[entry] = where
            for path in (root / entry, _labels(root / entry)):
                if not path.is_file():
                    raise InputError(f"{where}: {path} is not there; get it, or take the recording off the list")
            listed.append((split, root / entry))
    return listed


def _labels(recording: Path) -> Path:
    return recording.with_name(f"{recording.stem}_labels.csv")


def read_list(path: Path) -> list[tuple[int, str]]:
    """(line, file name) of the recordings that a trial list names; empty lines are passed over."""
    entries = [(line, text.strip()) for line, text in enumerate(_lines(path), 1) if text.strip()]
    for line, text in entries:
        if not re.fullmatch(r"user\d+_\w+\.aedat", text, re.ASCII):
            raise InputError(f"{path}, line {line}: expected a name like user01_led.aedat, found {text[:80]!r}")
    if not entries:
        raise InputError(f"{path}: expected names of recordings, found none; get the file again")
    return entries


def read_labels(path: Path) -> list[Trial]:
    """The trials of a label file, start by start, as stored.

    Raises
    ------
    InputError
        Naming file and line: another heading, no three whole numbers, a class outside 1..11, an end not after the
        start, a start not after the one before.
    """
    heading, *rows = _lines(path) or [""]
    if heading.strip() != _COLUMNS:
        raise InputError(f"{path}, line 1: expected {_COLUMNS}, found {heading[:80]!r}; get the file again")
    trials = []
    for row, text in enumerate(rows, 1):
        if not text.strip():
            continue
        where = f"{path}, line {row + 1}"
        match = re.fullmatch(r"\s*(\d{1,4})\s*,\s*(\d{1,18})\s*,\s*(\d{1,18})\s*", text, re.ASCII)
        if not match:
            raise InputError(f"{where}: expected three whole numbers {_COLUMNS}, found {text[:80]!r}; correct it")
        number, start, end = map(int, match.groups())
        if not 1 <= number <= len(CLASS_NAMES):
            raise InputError(f"{where}: expected a class 1..{len(CLASS_NAMES)}, found {number}; correct it")
        if start >= end:
            raise InputError(f"{where}: the trial ends at {end} us, not after its start, {start} us; correct it")
        if trials and start <= trials[-1][2]:
            raise InputError(f"{where}: starts at {start} us, not after the trial before; sort the lines by start")
        trials.append((row, number - 1, start, end))
    if not trials:
        raise InputError(f"{path}: expected a trial a line, found none; get the file again")
    return trials


def _lines(path: Path) -> list[str]:
    """Lines of a small text file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; the recordings need {' and '.join(_LISTS.values())}")
    if path.stat().st_size > _TEXT:
        raise InputError(f"{path}: expected a short text, found {path.stat().st_size:,} bytes; get the file again")
    try:
        return files.read(path).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, byte {error.start}: expected plain text; get the file again") from error


def _clipped(path: Path, trials: list[Trial], notes: Counter) -> list[Trial]:
    """The trials, each ending where the next one starts at the latest.

    One published label needs it: the class 9 of user22_led ends after the next class has begun.
    """
    clipped = []
    for (row, label, start, end), after in zip(trials, [*trials[1:], None]):
        if after and end > after[2]:
            notes[f"trial end moved to the next one's start: {path.stem}, class {label + 1} (line {row + 1})"] += 1
            end = after[2]
        clipped.append((row, label, start, end))
    return clipped


# --- the preprocessed copy ---------------------------------------------------------------------------------------


def _find_npy(root: Path) -> Source:
    files, names = [], [str(label) for label in range(len(CLASS_NAMES))]
    for folder in _FOLDERS.values():
        paths = recordings(root / folder, "*/*.npy")
        if not paths:
            raise InputError(f"{root / folder}: expected <recording>/<class>.npy here, found none; get it again")
        for path in paths:
            if path.stem not in names:
                raise InputError(f"{path}: expected a name 0.npy .. {names[-1]}.npy, the class; rename or remove it")
        files += sorted(paths, key=lambda path: (path.parent.name, int(path.stem)))
    return Source(root, tuple(files), layout="npy", largest=LARGEST)


def _split(path: Path) -> str:
    return "train" if path.parent.parent.name == _FOLDERS["train"] else "test"


def read_npy(path: Path, notes: Counter) -> tuple[np.ndarray, np.ndarray]:
    """Times (E,) int64, milliseconds since the first event, and channels (E,) int64 of one trial.

    Raises
    ------
    InputError
        Naming the file, and the row if it is one: no array file, another shape, an event that cannot be.
    """
    try:
        array = npy.mapped(path)
    except Exception as error:  # whatever NumPy makes of a broken heading
        why = str(error)[:80]
        raise InputError(f"{path}: expected a NumPy array file, could not read it ({why}); get it again") from error
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf" or not len(array):
        raise InputError(
            f"{path}: expected numbers of shape (events, 4), x y polarity time, found {array.dtype} {array.shape}"
        )
    events = np.asarray(array, dtype=np.float64)
    x, y, p, time = events.T
    for column, values, end in (("x", x, PIXELS), ("y", y, PIXELS), ("polarity", p, 2), ("time", time, 2.0**53)):
        bad = ~((values >= 0) & (values < end)) | ((values != np.floor(values)) & (column != "time"))
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{path}, row {row}: {column} is {values[row]}; get the file again")
    time = time - time.min()
    if time.max() > _LONGEST_MS:
        row = int(np.argmax(time))
        raise InputError(f"{path}, row {row}: {time[row] / 1000:,.0f} s after the first event; times must be in ms")
    notes["events earlier than the one before"] += int((time[1:] < time[:-1]).sum())
    return np.floor(time).astype(np.int64), _channel(*(part.astype(np.int64) for part in (x, y, p)))
