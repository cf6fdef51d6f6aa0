"""Killed, starved, corrupted, doubled: what a run survives (make check-slow). Figures are printed.

Processes are forked from this one, which has compiled everything, so that a kill costs a fraction of a second; they run
the program itself, and SIGKILL is SIGKILL.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import toys
from event_files import write_words
from test_cli import PROGRAM

from hrmas_sparse import cli, places
from hrmas_sparse.storage import memory
from hrmas_sparse.run import folder, loop
from hrmas_sparse.run.diff import exact_differences

pytestmark = pytest.mark.slow

BASE = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=4 "
        "training.search_epochs=16 training.retrain_epochs=10 ")
SHORT = "training.batch=8 training.search_epochs=4 training.retrain_epochs=2"
SEARCHES = {
    "window": "",
    "online, two layers": "network.neurons=[6,12] plasticity.mode=online plasticity.retrain=true",
    "random": "search.method=random plasticity.retrain=true",
    "untied, float64, carried": "network.tied=false network.dtype=float64 plasticity.carry_intrinsic=true",
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with recordings and their cache; and this process has compiled, once, what its children will call."""
    where = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.setenv("NUMBA_NUM_THREADS", "1")                      # a pool of threads is lost in a fork
        write_words(where / "words.hdf5")
        for settings in SEARCHES.values():
            assert cli.main(arguments("warm-up", settings + " training.search_epochs=2 training.retrain_epochs=1")) == 0
            shutil.rmtree("runs")
    return where


@pytest.fixture
def house(tmp_path, monkeypatch, compiled):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    shutil.copytree(compiled, tmp_path, dirs_exist_ok=True)
    return tmp_path


def arguments(name, settings=""):
    return ["search", "ntidigits", "--raw", "words.hdf5", "--name", name, "--set", BASE + settings]


def fork(function):
    """Run a function in a process of its own, its output in "log"; returns the process's number."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        status = function()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        os.write(2, f"Traceback: {error!r}".encode())
    finally:
        os._exit(status)


def wait(pid):
    """Exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def search(name, settings="", seconds=0.02, doom=None):
    def go():
        loop.CHECKPOINT_SECONDS = seconds
        if doom:
            die_after(*doom)
        return cli.main(arguments(name, settings))
    return fork(go)


def die_after(batches, seconds):
    """Let this process die so long after so many batches: by its own progress, so that it makes some however slow.

    Without a batch the time counts from now on.
    """
    whole, left = loop.one_batch, [batches]

    def die():
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    def one_batch(*values):
        whole(*values)
        left[0] -= 1
        if left[0] == 0:
            threading.Thread(target=die, daemon=True).start()
    loop.one_batch = one_batch
    if not batches:
        threading.Thread(target=die, daemon=True).start()


def straight(name, settings=""):
    assert wait(search(name, settings)) == 0, Path("log").read_text()
    return folder.RunDir(places.out() / name)


def in_two_lanes(house, work):
    """Do ``work(0)`` and ``work(1)`` at once, for there may be two cores, each in a folder of its own.

    Returns what they return, with the sums of numbers and of lists.
    """
    lanes = []
    for n in range(2):
        where = house / f"lane{n}"
        shutil.copytree(house, where, ignore=shutil.ignore_patterns("lane*"))
        os.chdir(where)
        lanes.append((fork(lambda: Path("found").write_text(json.dumps(work(n))) and 0), where))       # noqa: B023
        os.chdir(house)
    ended = [wait(pid) for pid, _ in lanes]
    assert ended == [0, 0], [(where / "log").read_text() for _, where in lanes]
    one, other = (json.loads((where / "found").read_text()) for _, where in lanes)
    return {key: one[key] + other[key] for key in one}


# ---- kills --------------------------------------------------------------------------------------------------


MOST_ATTEMPTS = 100      # of one search; each makes progress, so that this is many times more than it needs


def killed(settings, rng, least):
    """Kill one search after another until there were so many kills; none may differ from one that was not killed."""
    expected = straight("straight", settings)
    found = {"kills": 0, "resumes": 0, "writing": 0, "phases": []}
    while found["kills"] < least:
        run = folder.RunDir(places.out() / "killed")
        for _ in range(MOST_ATTEMPTS):
            # At the start, or after a part of the 108 batches; then within about one batch and its checkpoint.
            doom = rng.choice((0, *range(1, 40))), rng.choice((0, rng.uniform(0, 0.02), rng.uniform(0, 0.2)))
            if wait(search("killed", settings, doom=doom)) == 0:
                break
            found["kills"] += 1
            found["resumes"] += run.manifest_path.exists()
            found["writing"] += any(run.path.glob(".checkpoint.h5.*"))
            found["phases"] += [line["phase"] for line in run.metrics()[-1:]]
        else:
            raise AssertionError(f"no end after {MOST_ATTEMPTS} attempts: {Path('log').read_text()}")
        differing = exact_differences(expected, run)
        assert not differing, differing
        shutil.rmtree(run.path)
    shutil.rmtree("runs")
    return found


def test_a_hundred_kills(house, show):
    def lane(n):
        one, other = (killed(settings, random.Random(f"{n} {settings}"), 25)
                      for settings in list(SEARCHES.values())[n::2])
        return {key: one[key] + other[key] for key in one}
    found = in_two_lanes(house, lane)
    show(f"{found['kills']} SIGKILLs at random moments in {len(SEARCHES)} searches, {found['writing']} of them inside "
         f"a checkpoint write, last epoch before in {sorted(set(found['phases']))}: {found['resumes']} resumes, 0 "
         "differences")
    assert found["kills"] >= 100 and found["writing"] and {"search-1", "search-2", "retrain"} == set(found["phases"])


CALLS = ("open", "write", "fsync", "close", "replace", "link", "unlink", "truncate", "ftruncate", "pwrite", "mkdir")


def die_at(count, half, calls=None):
    """Let this process die before its count-th call that touches files, or in the middle of it if that is a write."""
    seen = [0]

    def wrapped(name, whole):
        def call(*values, **options):
            seen[0] += 1
            if calls is not None:
                calls.append(name)
            if seen[0] == count:
                if half and name in ("write", "pwrite"):
                    whole(values[0], bytes(values[1])[:len(values[1]) // 2], *values[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return None if name == "fsync" else whole(*values, **options)     # SIGKILL takes nothing the kernel has
        return call
    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def test_a_kill_at_every_call_that_touches_files(house, show):
    short = "training.batch=8 training.search_epochs=2 training.retrain_epochs=1"

    def go(name, count, half=False, calls=None):
        def child():
            loop.CHECKPOINT_SECONDS = -1
            die_at(count, half, calls)
            status = cli.main(arguments(name, short))
            if calls is not None:
                with open("calls", "w") as file:
                    file.write(" ".join(calls))
            return status
        return wait(fork(child))

    def lane(n):
        assert go("first", 0) == go("straight", 0, calls=[]) == 0      # the first makes the folders all runs share
        calls, expected, kills = Path("calls").read_text().split(), folder.RunDir(places.out() / "straight"), 0
        for count, name in list(enumerate(calls, start=1))[n::2]:
            for half in (False, True) if name == "write" else (False,):
                assert go("killed", count, half) == -signal.SIGKILL
                kills += 1
                assert go("killed", 0) == 0, Path("log").read_text()
                run = folder.RunDir(places.out() / "killed")
                found = exact_differences(expected, run) + [p.name for p in run.path.iterdir() if p.name[0] == "."]
                assert not found, (count, name, found)
                shutil.rmtree(run.path)
        return {"kills": kills, "calls": calls[n::2]}
    found = in_two_lanes(house, lane)
    show(f"{found['kills']} SIGKILLs, one at every of {len(found['calls'])} calls that touch files "
         f"({', '.join(sorted(set(found['calls'])))}) and in the middle of every write: as many resumes, 0 differences")
    assert found["kills"] > len(found["calls"]) > 200


# ---- full disks --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(house):
    where = house / "disk"
    where.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"NOT TESTED on a full disk: a tmpfs cannot be mounted here ({mounted.stderr.decode().strip()})")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_at_fifty_levels(house, small_disk, show, monkeypatch):
    expected = straight("straight", SHORT)
    needed = (sum(p.stat().st_size for p in expected.path.iterdir()) + 20 * 4096) // 2    # more is always enough
    monkeypatch.setattr(places, "cache", lambda: house / "data" / "cache")
    monkeypatch.setattr(places, "out", lambda: small_disk / "out")
    run, filler = folder.RunDir(places.out() / "run"), small_disk / "filler"
    refused = finished = lost = 0
    for level in range(50):
        shutil.rmtree(run.path, ignore_errors=True)
        if level % 2:                                            # in the middle of a run, else at its start
            process = search("run", SHORT, seconds=-1)
            while len(run.metrics()) < 1 + level % 5 and not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG
                                                                       | os.WNOWAIT):
                time.sleep(0.001)
            os.kill(process, signal.SIGKILL)
            wait(process)
        before = [path.exists() for path in (run.checkpoint_path,)]
        room = shutil.disk_usage(small_disk).free - needed * level // 49
        filler.write_bytes(bytes(max(0, room)))
        status, log = wait(search("run", SHORT, seconds=-1)), Path("log").read_text()
        assert status in (0, 2) and "Traceback" not in log, log
        if status == 2:
            refused += 1
            assert "No space left on device" in log.splitlines()[-1], log
        finished += status == 0
        lost += before[0] and not (run.checkpoint_path.exists())
        filler.unlink()
        assert wait(search("run", SHORT)) == 0, Path("log").read_text()
        log = Path("log").read_text()
        lost += "set aside" in log or (before[0] and "starting" in log)
        assert exact_differences(expected, run) == []
    show(f"50 fill levels of a tmpfs: {refused} refused with one line, {finished} had room enough, {lost} checkpoints "
         "lost, 50 finished with the right bits after room was made")
    assert refused >= 20 and finished >= 1 and lost == 0


# ---- two at once --------------------------------------------------------------------------------------------------


def both(*names):
    processes = [subprocess.Popen(PROGRAM + arguments(name, "training.search_epochs=200"), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) for name in names]
    return [(*process.communicate(timeout=300), process.returncode) for process in processes]


def test_two_at_once(house, show):
    found = sorted(both("same", "same"), key=lambda x: x[2])
    (_, _, won), (_, err, refused) = found
    assert (won, refused) == (0, 2) and "in use by process" in err.splitlines()[-1] and err.count("hrmas: ") == 1
    caches = list(Path("data/cache").glob("*.h5"))
    assert len(caches) == 1 and not list(Path("data/cache").glob(".*"))
    shutil.rmtree("data")
    assert [status for _, _, status in both("one", "two")] == [0, 0]
    assert len(list(Path("data/cache").glob("*.h5"))) == 1 and not list(Path("data/cache").glob(".*"))
    runs = [folder.open_run(name) for name in ("same", "one", "two")]
    assert not exact_differences(runs[0], runs[1]) and not exact_differences(runs[0], runs[2])
    show(f"two searches at once on one name: one result, one refusal ({err.splitlines()[-1][:90]}...), one cache; "
         "on two names: two results, one cache")


# ---- what it costs --------------------------------------------------------------------------------------------------


def test_checkpoints_cost_little(house, tmp_path, show):
    from hrmas_sparse.settings.load import load
    for name in ("ntidigits", "ti46"):
        own = load(name, profile="paper")
        job = toys.job(tmp_path / name, own, toys.cache(tmp_path / f"{name}.h5", channels=78, classes=26,
                                                        class_names=tuple("abcdefghijklmnopqrstuvwxyz")))
        job.begin()
        network = job.networks.search()
        for adam, names in ((job.learner.w_adam, network.weight_names), (job.learner.alpha_adam, network.alpha_names)):
            adam.update(job.learner.parameters, job.learner.parameters.map(np.ones_like).only(names), 1e-3)
        took = []
        for _ in range(20):
            began = time.perf_counter()
            job.checkpoint()
            took.append(time.perf_counter() - began)
        share = np.median(took) / loop.CHECKPOINT_SECONDS
        size = job.store.run.checkpoint_path.stat().st_size
        show(f"a checkpoint of {name}: {size / 1e6:.1f} MB, {1e3 * np.median(took):.0f} ms (worst {1e3 * max(took):.0f}"
             f"), once in {loop.CHECKPOINT_SECONDS:.0f} s: {100 * share:.2f} % of the time")
        assert share < 0.01


@pytest.mark.parametrize("settings", [
    "network.neurons=[400] network.motif_sizes=[5,10,16,25,40] data.steps=300 training.batch=16",
    "network.neurons=[3200] network.motif_sizes=[5,10,16,25,40] data.steps=100 training.batch=16",
    "network.neurons=[800] network.motif_sizes=[800] network.tied=false network.inter=false data.steps=50"])
def test_the_memory_estimate(house, show, settings):
    compiled = [sys.executable, "-m", "hrmas_sparse", *arguments("first")]   # which takes memory, too
    subprocess.run(compiled, check=True, capture_output=True)
    settings = BASE + settings + " training.search_epochs=2 training.retrain_epochs=1"
    program = ("import resource, sys\nfrom hrmas_sparse import cli\nfrom hrmas_sparse.storage import memory\n"
               "needed = []\n"
               "memory.require = lambda parts: needed.append(sum(parts.values()))\n"
               f"cli.main({arguments('run')[:-1]!r} + [{settings!r}])\n"
               "print('MEMORY', needed[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)")
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    estimate, peak = map(int, out.split("MEMORY")[1].split())
    show(f"memory: estimated {memory.text(estimate)}, peak {memory.text(peak)}")
    assert 0.8 < estimate / peak < 3
