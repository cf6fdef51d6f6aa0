"""Caches on a disk that is full, at every level, and under a limit on the size of files: refused, never a crash."""

import os
import resource
import subprocess
import warnings

import numpy as np
import pytest

from data_prep.synthetic import stand_in
from hrmas_sparse.data.cache import CacheWriter, Meta, open_cache, verify_cache
from hrmas_sparse.storage.errors import InputError

STEPS, CHANNELS, SAMPLES = 100, 200, 40
WHOLE = 2 * SAMPLES * 400 * 5  # bytes of events, about


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk of 4 MiB in memory."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True,
                          text=True)
    if made.returncode:
        warnings.warn(f"NOT TESTED on a full disk: a file system cannot be mounted here ({made.stderr.strip()})",
                      stacklevel=1)
        pytest.skip("FULL DISK NOT TESTED: needs the right to mount a file system in memory")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def build(path):
    """Write a cache of some 160 KB."""
    rng = np.random.default_rng(0)
    about = Meta("toy", "f", {}, STEPS, CHANNELS, 2, ("a", "b"))
    with CacheWriter(path, about) as cache:
        for split in ("train", "test"):
            for s in range(SAMPLES):
                place = np.sort(rng.choice(STEPS * CHANNELS, 400, replace=False))
                cache.add(split, f"{split}{s}", s % 2, place // CHANNELS, place % CHANNELS, np.ones(400, np.uint8))
    verify_cache(path)


def in_a_child(function):
    """Run a function in a process of its own: "done", "refused: ...", or the signal or exception that ended it."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(receiver)
            try:
                function()
                said = "done"
            except (OSError, InputError) as error:
                said = f"refused: {error}"
            os.write(sender, said.encode()[:4000])
            os._exit(0)
        except BaseException as error:
            os.write(sender, repr(error).encode()[:4000])
        finally:
            os._exit(1)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said if status == 0 else f"ended with {status}: {said}"


def leave(disk, room):
    """Fill a disk but for some bytes."""
    (disk / "filler").unlink(missing_ok=True)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(free - room))


def outcomes(levels, attempt):
    found = {level: attempt(level) for level in levels}
    odd = {level: said for level, said in found.items() if said != "done" and not said.startswith("refused: ")}
    assert not odd, odd
    refused = sum(said != "done" for said in found.values())
    assert 0 < refused < len(found), f"{refused} of {len(found)} refused: the levels miss what they are for"
    return found, refused


@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("there", [False, True], ids=["new", "over an old one"])
def test_a_cache_on_a_full_disk(disk, show, there, count):
    path = disk / "cache.h5"

    def attempt(room):
        path.unlink(missing_ok=True)
        (disk / "filler").unlink(missing_ok=True)
        if there:
            build(path)
        before = path.read_bytes() if there else None
        leave(disk, room)
        said = in_a_child(lambda: build(path))
        left = sorted(name for name in os.listdir(disk) if name != "filler")
        assert left in ([], ["cache.h5"]) and (said == "done" or (path.exists() == there))
        if there and said != "done":
            assert path.read_bytes() == before
        return said

    levels = range(0, 3 * WHOLE, 3 * WHOLE // count)
    _, refused = outcomes(levels, attempt)
    show(f"{len(levels)} fill levels: {refused} refused, {len(levels) - refused} written, 0 crashes")


def test_the_stand_in_on_a_full_disk(disk):
    for path in disk.iterdir():
        path.unlink()

    def attempt(room):
        leave(disk, room)
        return in_a_child(lambda: stand_in(disk, 0))
    for room in (0, 4096, 1 << 20, 3 << 20):
        assert attempt(room).startswith("refused: ")
        assert os.listdir(disk) == ["filler"]


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_limit_on_the_size_of_files(tmp_path, show, count):
    build(tmp_path / "cache.h5")
    size = (tmp_path / "cache.h5").stat().st_size

    def attempt(limit):
        (tmp_path / "cache.h5").unlink(missing_ok=True)

        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            build(tmp_path / "cache.h5")
        said = in_a_child(limited)
        assert os.listdir(tmp_path) == (["cache.h5"] if said == "done" else [])
        return said

    levels = range(0, 2 * size, 2 * size // count)
    found, refused = outcomes(levels, attempt)
    assert all((said == "done") == (limit >= size) for limit, said in found.items())
    show(f"{len(levels)} limits on the size of files: {refused} refused, 0 crashes")


def test_the_cache_is_there_when_there_is_room(tmp_path):
    build(tmp_path / "cache.h5")
    assert len(open_cache(tmp_path / "cache.h5").train) == SAMPLES
