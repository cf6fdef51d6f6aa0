"""Builds of large data sets: order, memory, interruptions, company."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from event_files import settings, write_nmnist

from data_prep import prepare
from data_prep.source import in_order
from hrmas_sparse.storage.atomic import atomic_write, remove_stale
from hrmas_sparse.data.cache import open_cache, verify_cache

ROOT = Path(__file__).resolve().parents[2]
MANY = [("Train" if i % 5 else "Test", i % 10, f"{i:05d}") for i in range(200)]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_come_in_order_and_few_wait(workers):
    done, most = [], 0

    def slow_then_fast(i):
        time.sleep(0.003 if i % 7 == 0 else 0)
        done.append(i)
        return i

    for taken, result in enumerate(in_order(slow_then_fast, range(200), workers)):
        assert result == taken
        most = max(most, len(done) - taken)
    assert len(done) == 200 and most <= 3 * workers


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_in_its_turn_and_stops_the_rest(workers):
    begun, before = [], threading.active_count()

    def work(i):
        begun.append(i)
        if i >= 5:
            raise ValueError(i)
        return i

    results = in_order(work, range(1000), workers)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="^5$"):
        next(results)
    assert max(begun) < 5 + 4 * workers and threading.active_count() < before + 2 + workers


def test_leaving_early_stops_the_threads():
    results = in_order(lambda i: i, range(10**9), 3)
    assert next(results) == 0
    results.close()
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def test_stale_leftovers_go_and_others_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = tmp_path / f".nmnist-0123.h5.{dead.pid}-0123abcd.tmp"
    mine = [f".x.h5.{os.getpid()}-0123abcd.tmp", f".x.h5.{os.getppid()}-0123abcd.tmp", ".user.tmp", "x.tmp",
            ".x.h5.99999999999999-0123abcd.tmp"]
    for name in (stale.name, *mine):
        (tmp_path / name).touch()
    remove_stale(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(mine)
    with atomic_write(tmp_path / "whole") as beside:
        beside.touch()
        remove_stale(tmp_path)
        assert beside.exists()


BUILD = """
import sys; sys.path[:0] = {paths!r}
from event_files import settings
from data_prep import prepare
print("begun", flush=True)
print(prepare(settings("nmnist"), {raw!r}, {cache!r}, say=lambda line: None))
"""


def start(raw, cache, paths=(str(ROOT), str(ROOT / "tests")), before=""):
    code = before + BUILD.format(paths=list(paths), raw=str(raw), cache=str(cache))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


# A build held up at its worst moment: the cache is written, beside its place, and not yet renamed.
HOLD = """
import os, time
def hold(*args, **options):
    open({mark!r}, "w").close()
    time.sleep(60)
os.replace = hold
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_leaves_nothing_that_is_taken_for_a_cache(tmp_path, how):
    raw, cache, mark = tmp_path / "raw", tmp_path / "cache", tmp_path / "mark"
    write_nmnist(raw)
    process = start(raw, cache, before=HOLD.format(mark=str(mark)))
    while not mark.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate()
    assert all(p.name.startswith(".") for p in cache.iterdir())
    path = prepare(settings("nmnist"), raw, cache, say=lambda line: None)
    verify_cache(path)
    assert [p.name for p in cache.iterdir()] == [path.name]


def test_two_builds_at_once_end_with_one_good_cache(tmp_path):
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    write_nmnist(raw, MANY, n=60)
    builds = [start(raw, cache) for _ in range(2)]
    said = [build.communicate()[0].strip() for build in builds]
    assert [build.returncode for build in builds] == [0, 0] and said[0] == said[1]
    assert [p.name for p in cache.iterdir()] == [Path(said[0]).name]
    verify_cache(said[0])
    assert (len(open_cache(said[0]).train), len(open_cache(said[0]).test)) == (160, 40)


MEMORY = """
import resource, sys; sys.path[:0] = {paths!r}
from event_files import settings
from data_prep import prepare
from pathlib import Path
raw = Path({raw!r})
prepare(settings("nmnist"), raw / "small", raw / "cache", say=lambda line: None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(settings("nmnist"), raw / "large", raw / "cache", say=lambda line: None)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_samples(tmp_path):
    write_nmnist(tmp_path / "small", MANY[:40], n=3000)
    for part in ("Train", "Test"):
        for path in (tmp_path / "small" / part).glob("*/*.bin"):
            for copy in range(50):
                beside = tmp_path / "large" / path.relative_to(tmp_path / "small").with_stem(f"{path.stem}-{copy}")
                beside.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, beside)
    code = MEMORY.format(paths=[str(ROOT), str(ROOT / "tests")], raw=str(tmp_path))
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert int(out) < 12, f"{out} MB more for 2,000 samples than for 40; their events take 30 MB"
