"""Speech files damaged at random: each is refused with its name and place, or read within bounds.

Every format has `ROUNDS` seeded damages to one file of a small data set: those of every binary file, from
test_event_mutations, and its own, which make headers lie and put into text what is no number.
"""

import os
import re
import resource
import time
from collections import Counter

import numpy as np
import pytest
import sounds
from damages import DAMAGES, flip_header, lying_header, other_format, other_lines, other_word
from sounds import riff, sphere
from test_ti46 import settings, write

from data_prep import fsdd, prepare, ti46
from data_prep.source import check_there
from hrmas_sparse.storage.errors import InputError

ROUNDS = 600
SECONDS = 5.0  # a read, on a machine with other work
GROWTH = 300 << 20  # bytes, of this process over all reads
SAMPLES = 420  # two frames


# --- one small data set a format: the reader, its settings, the file that is damaged ------------------------------


def dat(root):
    write(root, "train", 0)
    write(root, "test", 3)
    return ti46, settings(), write(root, "train", 3, x=np.random.default_rng(0).random((78, 3)) * 1e-3)


def wav(root):
    return ti46, settings(), sounds.ti46(root, "c", make=lambda x: riff(x[:SAMPLES]))[1]


def nist(root):
    return ti46, settings(), sounds.ti46(root, "c", make=lambda x: sphere(x[:SAMPLES], length=320))[1]


def digit(root):
    return fsdd, settings(dataset="fsdd"), sounds.fsdd(root, digits=(1, 2), samples=SAMPLES)[1]


OWN = {
    dat: (other_word, other_word, other_lines),
    wav: (lying_header, lying_header, flip_header, other_format),
    nist: (other_word, other_word, other_lines, flip_header, other_format),
    digit: (lying_header, lying_header, flip_header, other_format),
}


def read(reader, data, root):
    """Everything a build reads, with the bounds that the cache has; the notes."""
    notes = Counter()
    dtype = np.float32 if data.encoding == "intensity" else np.uint8
    for _, _, label, step, channel, value in reader.samples(reader.find(root), data, notes):
        assert 0 <= label < len(reader.CLASS_NAMES)
        assert step.size == 0 or (step.min() >= 0 and step.max() < data.steps)
        assert channel.size == 0 or (channel.min() >= 0 and channel.max() < reader.CHANNELS)
        assert value.dtype == dtype and (value > 0).all() and np.isfinite(value).all()
    return notes


@pytest.mark.parametrize("make", OWN, ids=lambda make: make.__name__)
def test_damaged_files_are_refused_or_read(make, tmp_path):
    root, ends = tmp_path / "raw", Counter()
    reader, data, path = make(root)
    intensity = settings(dataset=data.dataset, encoding="intensity")
    sound, damages = path.read_bytes(), DAMAGES + 2 * OWN[make]
    read(reader, data, root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(ROUNDS):
        damage = damages[seed % len(damages)]
        path.write_bytes(damage(np.random.default_rng([seed, 11]), sound))
        where, begin = f"round {seed}, {damage.__name__}", time.perf_counter()
        try:
            notes = read(reader, (data, intensity)[seed % 2], root)
            ends["read"] += 1
            ends["read at another rate"] += any("resampled" in note for note in notes) and make is not digit
        except InputError as error:
            ends["refused"] += 1
            assert re.match(rf"{re.escape(str(path))}(, (byte|line) \d+|: expected)", str(error)), f"{where}: {error}"
            assert len(str(error)) < 600, f"{where}: {len(str(error))} characters"
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        assert time.perf_counter() - begin < SECONDS, f"{where} took too long"
    assert ends["refused"] + ends["read"] == ROUNDS >= 500
    assert min(ends["refused"], ends["read"]) >= ROUNDS // 20, ends
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth * 1024 < GROWTH, f"memory grew by {growth >> 10} MB"
    print(make.__name__, dict(ends))


@pytest.mark.parametrize("make", OWN, ids=lambda make: make.__name__)
def test_whole_builds_of_damaged_files(make, tmp_path):
    """Through `prepare`, which writes the cache: a few rounds, because each takes a file or two on disk."""
    reader, data, path = make(tmp_path / "raw")
    sound, caches = path.read_bytes(), tmp_path / "cache"
    for seed in range(40):
        damages = OWN[make] + DAMAGES
        path.write_bytes(damages[seed % len(damages)](np.random.default_rng([seed, 12]), sound))
        encoding = ("bsa", "intensity")[seed % 2]
        wanted = settings(dataset=data.dataset, encoding=encoding)
        try:
            prepare(wanted, tmp_path / "raw", caches, say=lambda line: None).unlink()
        except InputError as error:
            assert str(path) in str(error)
        assert not list(caches.iterdir()), "leftovers"


@pytest.mark.parametrize("make", OWN, ids=lambda make: make.__name__)
def test_what_is_no_file_is_not_read(make, tmp_path):
    """What stands for a recording and is none is refused: nothing waits for it, and no sample is missing in silence."""
    reader, data, path = make(tmp_path / "raw")
    for put, kind in ((path.mkdir, "a folder"), (lambda: os.mkfifo(path), "a pipe"),
                      (lambda: path.symlink_to("/dev/zero"), "a device"),
                      (lambda: path.symlink_to("nowhere"), "a link to nothing")):
        path.rmdir() if path.is_dir() else path.unlink()
        put()
        with pytest.raises(InputError, match=f"{path.name}: expected a recording, found {kind}; 1 of"):
            check_there(reader.find(tmp_path / "raw"))


@pytest.mark.parametrize("make", OWN, ids=lambda make: make.__name__)
def test_a_terabyte_of_holes_is_not_read(make, tmp_path):
    path = make(tmp_path / "raw")[2]
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=f"{path.name}: 1,099,511,627,776 bytes are too many for a recording"):
        prepare(make(tmp_path / "raw2")[1], tmp_path / "raw", tmp_path / "cache", say=lambda line: None)
