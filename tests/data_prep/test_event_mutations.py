"""Files damaged at random: each is refused as a user's error that names a file, or read within bounds.

Every format has `ROUNDS` seeded damages to one file of a small sound data set.  Nothing but InputError may come out,
nothing may hang or ask for much memory, and what is read is events that fit the cache.
"""

import resource
import time
from collections import Counter

import h5py
import numpy as np
import pytest
from damages import DAMAGES
from event_files import random_events, settings, write_lists, write_nmnist, write_npy, write_recording

from data_prep import dvsgesture, nmnist, ntidigits
from hrmas_sparse.storage.errors import InputError

ROUNDS = 500
SECONDS = 5.0  # a read
GROWTH = 300 << 20  # bytes, of this process over all reads


# --- one small data set a format: the folder, the file that is damaged, the reader --------------------------------


def nmnist_bin(root):
    write_nmnist(root, n=40)
    return nmnist, settings("nmnist"), root / "Train/3/00001.bin"


def _gesture(root):
    start, trials = 1_000_000, [(3, 1_000_000, 1_500_000), (11, 1_600_000, 2_000_000)]
    for name in ("user01_led", "user24_led"):
        events = random_events(np.random.default_rng(0), 60, 128, 1_000_000)
        write_recording(root, name, [(x, y, p, start + t) for x, y, p, t in events], trials, per_packet=9)
    write_lists(root, ["user01_led"], ["user24_led"])
    return dvsgesture, settings("dvsgesture")


def aedat(root):
    return *_gesture(root), root / "user01_led.aedat"


def labels(root):
    return *_gesture(root), root / "user24_led_labels.csv"


def trial_list(root):
    return *_gesture(root), root / "trials_to_train.txt"


def npy(root):
    write_npy(root)
    return dvsgesture, settings("dvsgesture"), root / "ibmGestureTrain/user01_led/0.npy"


def hdf5(root):
    root.mkdir()
    rng = np.random.default_rng(0)
    with h5py.File(root / "n-tidigits.hdf5", "w") as file:
        for group, names in (("train", ("man-aa-a-3", "man-aa-b-z")), ("test", ("woman-bb-a-o",))):
            file[f"{group}_labels"] = np.array(names, dtype="S")
            for name in names:
                file[f"{group}_addresses/{name}"] = rng.integers(64, size=30)
                file[f"{group}_timestamps/{name}"] = np.sort(rng.uniform(0, 1.7, 30))
    return ntidigits, settings("ntidigits"), root / "n-tidigits.hdf5"


def read(reader, data, root):
    """Everything a build reads, with the bounds that the cache has; the notes."""
    notes = Counter()
    for _, _, label, step, channel, value in reader.samples(reader.find(root), data, notes):
        assert 0 <= label < len(reader.CLASS_NAMES)
        assert step.size == 0 or (step.min() >= 0 and step.max() < data.steps)
        assert channel.size == 0 or (channel.min() >= 0 and channel.max() < reader.CHANNELS)
        assert value.dtype == np.uint8 and (value > 0).all()
    return notes


@pytest.mark.parametrize("make", [nmnist_bin, aedat, labels, trial_list, npy, hdf5], ids=lambda make: make.__name__)
def test_damaged_files_are_refused_or_read(make, tmp_path):
    reader, data, path = make(tmp_path / "raw")
    root, sound, ends = tmp_path / "raw", path.read_bytes(), Counter()
    read(reader, data, root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(ROUNDS):
        rng = np.random.default_rng([seed, 7])
        damage = DAMAGES[seed % len(DAMAGES)]
        content = damage(rng, sound)
        path.write_bytes(content)
        begin = time.perf_counter()
        try:
            read(reader, data, root)
            ends["read"] += 1
        except InputError as error:
            ends["refused"] += 1
            assert str(root) in str(error), f"round {seed}, {damage.__name__}: names no file: {error}"
            assert len(str(error)) < 600, f"round {seed}, {damage.__name__}: {len(str(error))} characters"
        except Exception as error:
            raise AssertionError(f"round {seed}, {damage.__name__}: {type(error).__name__}: {error}") from error
        assert time.perf_counter() - begin < SECONDS, f"round {seed}, {damage.__name__} took too long"
    assert ends["refused"] >= ROUNDS // 10, ends
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth * 1024 < GROWTH, f"memory grew by {growth >> 10} MB"
    print(make.__name__, dict(ends))


@pytest.mark.parametrize("make", [nmnist_bin, aedat], ids=lambda make: make.__name__)
def test_a_file_far_too_large_is_not_read(make, tmp_path):
    reader, data, path = make(tmp_path / "raw")
    with path.open("r+b") as file:
        file.truncate(5 << 40)  # bytes that take no room on the disk
    with pytest.raises(InputError, match=f"{path.name}: 5,.* bytes are too many"):
        read(reader, data, tmp_path / "raw")


@pytest.mark.parametrize("make, size", [(nmnist_bin, 5), (aedat, 8)], ids=["nmnist_bin", "aedat"])
def test_repairs_are_counted(make, size, tmp_path):
    """Two events swapped: read, and said that time ran backwards."""
    reader, data, path = make(tmp_path / "raw")
    content = path.read_bytes()
    tail = -6 * size  # whole events at the end of the file
    path.write_bytes(content[:tail] + content[-size:] + content[tail + size : -size] + content[tail : tail + size])
    assert read(reader, data, tmp_path / "raw")["events earlier than the one before"] > 0
