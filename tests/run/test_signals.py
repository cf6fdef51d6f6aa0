"""Signals at any moment, from the first of a process on: the documented status, never a traceback.

They go to the program itself, started as users start it. What a run holds afterwards is looked at in
test_robustness.py.
"""

import contextlib
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import toys
from test_environment import quiet_environment

from hrmas_sparse.run import folder
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.storage import arrayfile

HRMAS = [sys.executable, "-m", "hrmas_sparse"]
LONG = "training.search_epochs=2000 training.retrain_epochs=1"
SEARCH = ["search", "ntidigits", "--raw", "words.hdf5", "--set"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def where(tmp_path, words):
    shutil.copy(words, tmp_path / "words.hdf5")
    return tmp_path


def start(arguments, where, **more):
    """The program in a session of its own, all it prints in one pipe."""
    return subprocess.Popen([*HRMAS, *arguments], cwd=where, env=quiet_environment() | {"NUMBA_NUM_THREADS": "1"},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True, **more)


def hears(process):
    """Whether a process has handlers of its own for SIGHUP, as ours has once it has begun."""
    with contextlib.suppress(OSError, AttributeError):
        text = Path(f"/proc/{process.pid}/status").read_text()
        return bool(int(re.search(r"^SigCgt:\s*(\w+)", text, re.M)[1], 16) & 1 << (signal.SIGHUP - 1))
    return process.poll() is not None


def wait_until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.001)


def check(process, signum, said):
    """How a process may end after a signal: its status, or by the signal itself before it could hear it."""
    assert "Traceback" not in said and "Exception ignored" not in said, said
    assert process.returncode in (0, 128 + signum, -signum), (process.returncode, said)
    assert process.returncode != -signum or said == "", said


# ---- the first second ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("part", [0, 0.1, 0.3, 0.6])
def test_a_signal_while_the_program_is_imported(where, signum, part):
    """From the moment on at which it hears anything; SIGINT alone would be answered by Python before."""
    process = start(["data", "build", "ntidigits", "--raw", "words.hdf5"], where)
    wait_until(lambda: hears(process), process)
    time.sleep(part)
    process.send_signal(signum)
    said = process.communicate(timeout=60)[0]
    check(process, signum, said)
    assert process.returncode != -signum
    if process.returncode:
        # a program that has begun to build leaves what stdout still held after them
        assert f"hrmas: {toys.LAST_WORDS[signum]}" in said.splitlines()
    assert not list(where.glob("data/cache/.*"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_anything(where, signum):
    process = start(["runs"], where)
    process.send_signal(signum)
    check(process, signum, process.communicate(timeout=60)[0])


@pytest.mark.parametrize("status", [0, 2])
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_after_everything(signum, status):
    """While Python takes itself apart, which has taken our handlers away."""
    last = ("import os, sys\nfrom hrmas_sparse import process\nprocess.begin('hrmas')\n"
            f"class Last:\n    def __del__(self, kill=os.kill, own=os.getpid()):\n        kill(own, {int(signum)})\n"
            f"last = Last()\nsys.exit({status})")
    ended = subprocess.run([sys.executable, "-c", last], env=quiet_environment(), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")


def test_what_is_ignored_stays_ignored(where):
    """As after nohup, and in the background of a shell."""
    def ignore():
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
    process = start(["runs"], where, preexec_fn=ignore)
    while process.poll() is None:
        for signum in (signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signum)
        time.sleep(0.02)
    assert process.returncode == 0 and "no runs" in process.communicate()[0]


# ---- a terminal --------------------------------------------------------------------------------------------------


def test_a_terminal_that_is_closed(where):
    """The run is checkpointed, says so to nobody, and goes on at the next command."""
    master, slave = pty.openpty()
    process = subprocess.Popen([*HRMAS, *SEARCH, f"{toys.OVERRIDES} {LONG}"], cwd=where, env=quiet_environment(),
                               stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    run = folder.RunDir(where / "runs/out/ntidigits-s0")
    reader = threading.Thread(target=drain, args=(master,), daemon=True)
    reader.start()
    wait_until(lambda: len(run.metrics()) > 2, process)
    os.close(master)                                        # writing fails from here on
    process.send_signal(signal.SIGHUP)                      # what the kernel sends to the session that had it
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert run.checkpoint_path.exists()


def drain(master):
    with contextlib.suppress(OSError):
        while os.read(master, 4096):
            pass


def test_a_reader_that_goes_away_does_not_stop_a_run(where):
    """hrmas search ... | head -1"""
    process = start([*SEARCH, toys.OVERRIDES], where)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert folder.RunDir(where / "runs/out/ntidigits-s0").finished


# ---- two hundred of each -----------------------------------------------------------------------------------------


SMALL = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=4 "
         "training.search_epochs=8 training.retrain_epochs=4")
EXPERIMENT = ["experiment", "table3", "--data", "ntidigits", "--raw", "words.hdf5", "--seeds", "0", "--rows",
              "hrmas fully-connected", "--jobs", "2", "--set", SMALL]
KINDS = {"search": ([*SEARCH, SMALL], 70), "experiment": (EXPERIMENT, 20),
         "data build": (["data", "build", "ntidigits", "--raw", "words.hdf5", "--set", "data.steps=30"], 110)}


def finish(arguments, where):
    """Run to the end; the seconds that took."""
    began = time.monotonic()
    process = start(arguments, where)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0 and "Traceback" not in said, said
    return time.monotonic() - began


def orphans(where):
    """Processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == where:
                found.append(int(path.parent.name))
    return found


def compare(straight, broken):
    """What differs between two folders' runs and caches."""
    found = []
    for path in sorted(straight.glob("runs/out/**/result.json")):
        found += exact_differences(folder.RunDir(path.parent),
                                   folder.RunDir(broken / path.parent.relative_to(straight)))
    for path in straight.glob("data/cache/*.h5"):
        found += [] if (broken / path.relative_to(straight)).exists() else [f"{path.name} is missing"]
    return found + [str(path) for path in broken.glob("data/cache/.*")]


def batter(kind, signum, where, seed, given_up):
    """Signal one command after another at random moments, until ``given_up`` is set; what came of it."""
    arguments, wanted = KINDS[kind]
    straight, broken = where / "straight", where / "broken"
    for path in (straight, broken):
        path.mkdir(parents=True)
        shutil.copy(where.parent / "words.hdf5", path / "words.hdf5")
    took, rng, sent, ends, bad = finish(arguments, straight), random.Random(seed), 0, 0, []
    while sent < wanted and not given_up.is_set():
        process = start(arguments, broken)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05 + rng.uniform(0, 0.8 * took))      # what was killed has less to do
        over = process.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signum)
        said = process.communicate(timeout=300)[0]
        sent += not over
        if "Traceback" in said or "Exception ignored" in said or process.returncode not in (0, 128 + signum, -signum):
            bad.append((process.returncode, said))
        end = time.monotonic() + 60
        while orphans(broken) and time.monotonic() < end:      # runs of an experiment end with it, but not at once
            time.sleep(0.05)
        if orphans(broken):
            bad.append(("still running", orphans(broken)))
        if over or sent == wanted:
            if process.returncode != 0:
                finish(arguments, broken)
            bad += compare(straight, broken)
            shutil.rmtree(broken / "runs", ignore_errors=True)
            shutil.rmtree(broken / "data", ignore_errors=True)
            ends += 1
    return kind, sent, ends, bad


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_two_hundred_signals_at_random_moments(where, show, signum):
    """From the first 50 ms of a process on, in two lanes, for there may be two cores."""
    found, given_up = [], threading.Event()
    (where / "first").mkdir()
    shutil.copy(where / "words.hdf5", where / "first")
    finish(KINDS["search"][0], where / "first")         # the kernels are compiled: what is timed below is a run

    def lane(kinds):
        for kind in kinds:
            found.append(batter(kind, signum, where / kind, len(found), given_up))
    lanes = [threading.Thread(target=lane, args=(kinds,)) for kinds in (["search"], ["data build", "experiment"])]
    try:
        for one in lanes:
            one.start()
        for one in lanes:
            one.join()
    finally:
        given_up.set()
    assert len(found) == len(KINDS) and not any(bad for *_, bad in found), found
    show("; ".join(f"{sent} {signal.Signals(signum).name} at random moments of {kind}, {ends} ends reached"
                   for kind, sent, ends, _ in found) + ": 0 tracebacks, 0 differences")
    assert sum(sent for _, sent, *_ in found) >= 200


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gets_on(where, show):
    """As where jobs are preempted: killed at the first checkpoint of every process, it goes on from there each time."""
    (where / "straight").mkdir()
    shutil.copy(where / "words.hdf5", where / "straight")
    took = finish([*SEARCH, SMALL], where / "straight")
    run, intervals, batches = folder.RunDir(where / "runs/out/ntidigits-s0"), [], []

    def written():
        return run.checkpoint_path.stat().st_mtime_ns if run.checkpoint_path.exists() else None
    for _ in range(12):
        before, began = written(), time.monotonic()
        process = start([*SEARCH, SMALL], where)
        wait_until(lambda: written() != before, process)     # noqa: B023 (it is called here)
        process.kill()
        process.communicate()
        intervals.append(time.monotonic() - began)
        batches.append(arrayfile.load(run.checkpoint_path, "checkpoint")[1]["position"])
    places = [(position["phase"], position["updates"]) for position in batches]
    assert places == sorted(set(places)), "every process got on"
    finish([*SEARCH, SMALL], where)
    assert exact_differences(folder.RunDir(where / "straight/runs/out/ntidigits-s0"), run) == []
    show(f"a search of {took:.1f} s killed {len(intervals)} times, each time at the first checkpoint of a process, "
         f"{min(intervals):.1f} to {max(intervals):.1f} s after its start: it went on each time, 0 differences")
