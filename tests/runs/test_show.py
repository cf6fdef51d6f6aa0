"""Everything that can happen to a cluster, to one experiment.

There are a scheduler and three workers in folders and, as root with HRMAS_NETWORKS=1, networks of their own. Workers,
schedulers and clients are killed, one worker is frozen, the disk of one is full, one is of another version. Every run
ends once, with the bits of a run made here.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrmas_sparse import __version__, cli
from hrmas_sparse.run import folder as folders
from hrmas_sparse.run.diff import exact_differences
from runs import cluster, worker

pytest.importorskip("distributed", reason="CLUSTERS NOT TESTED: Dask is not installed (extra `cluster`)")
pytestmark = pytest.mark.slow

DASK = str(Path(sys.executable).with_name("dask"))
RUNS = int(os.environ.get("HRMAS_SHOW_RUNS", "12"))
KILLS = {"worker": 20, "scheduler": 3, "client": 2}
FROZEN_SECONDS = worker.LEASE_SECONDS + 5
SLICE_SECONDS = 3       # from a run's checkpoint on a worker to the next that comes back
MOST_SECONDS = 1800
SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=400 training.retrain_epochs=1")
CLIENT = f"import sys; from runs import apart; apart.SLICE_SECONDS = {SLICE_SECONDS}; from hrmas_sparse import cli; " \
         "sys.exit(cli.main(sys.argv[1:]))"
TOML = f"""
title = "One row"
data = ["ntidigits"]
seeds = "0-{RUNS - 1}"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


class Machines:
    """A scheduler, and workers in folders of their own; each in a network namespace of its own if that can be."""

    def __init__(self, home: Path, elsewhere: Path):
        self.home, self.elsewhere, self.count = home, elsewhere, 0
        self.environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1]), "PYTHONUNBUFFERED": "1",
                                         "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s",
                                         "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s",
                                         "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "10"}
        self.networks = _networks()
        self.address = f"tcp://{'10.77.0.1' if self.networks else '127.0.0.1'}:28786"
        self.workers = []
        self.scheduler = None

    def start_scheduler(self):
        self.scheduler = self._start([DASK, "scheduler", "--host", self.address, "--no-dashboard"], self.home)

    def start_worker(self, home=None, **environment):
        """One more worker of one thread; what was started before it in its place is dead."""
        n = self.count % 3
        self.count += 1
        home = home or self.elsewhere / f"machine{n}"
        home.mkdir(exist_ok=True)
        inside = ["ip", "netns", "exec", f"hrmas{n}"] if self.networks else []
        self.workers.append(self._start(
            [*inside, DASK, "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
             "--local-directory", str(home), "--death-timeout", "600"], home, **environment))
        return self.workers[-1]

    def _start(self, words, cwd, **environment):
        return subprocess.Popen(words, env=self.environment | environment, cwd=cwd, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def start_client(self):
        words = [sys.executable, "-c", CLIENT, "experiment", "one.toml", "--raw", "words.hdf5", "--set",
                 SETTINGS, "--cluster", self.address, "--apart"]
        with open(self.home / "client.log", "ab") as log:
            return subprocess.Popen(words, env=self.environment, cwd=self.home, stdout=log, stderr=log)

    def close(self):
        for process in filter(None, [*self.workers, self.scheduler]):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        if self.networks:
            _no_networks()


def _no_networks():
    for n in range(3):
        subprocess.run(["ip", "netns", "del", f"hrmas{n}"], capture_output=True)
    subprocess.run(["ip", "link", "del", "hrmas-bridge"], capture_output=True)


def _networks() -> bool:
    """Make three network namespaces behind a bridge, if HRMAS_NETWORKS=1 allows it; whether that could be done."""
    if os.environ.get("HRMAS_NETWORKS") != "1" or not shutil.which("ip"):
        return False
    _no_networks()
    commands = ["link add hrmas-bridge type bridge", "addr add 10.77.0.1/24 dev hrmas-bridge",
                "link set hrmas-bridge up"]
    for n in range(3):
        commands += [f"netns add hrmas{n}", f"link add hrmas-out{n} type veth peer name hrmas-in{n} netns hrmas{n}",
                     f"link set hrmas-out{n} master hrmas-bridge up", f"-n hrmas{n} link set lo up",
                     f"-n hrmas{n} addr add 10.77.0.{n + 2}/24 dev hrmas-in{n}", f"-n hrmas{n} link set hrmas-in{n} up"]
    if any(subprocess.run(["ip", *command.split()], capture_output=True).returncode for command in commands):
        _no_networks()
        return False
    return True


def _another_version(place: Path) -> str:
    """Copy the program and give it another version; returns the folder."""
    root = Path(cluster.__file__).parents[1]
    for name in ("hrmas_sparse", "data_prep", "runs"):
        shutil.copytree(root / name, place / name, ignore=shutil.ignore_patterns("out", "__pycache__"))
    text = (place / "hrmas_sparse" / "__init__.py").read_text()
    assert f'"{__version__}"' in text
    (place / "hrmas_sparse" / "__init__.py").write_text(text.replace(f'"{__version__}"', '"0.0.0"'))
    return str(place)


def _full_disk(folder: Path) -> bool:
    """Mount a file system of 400 KB; whether that could be done."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    return not subprocess.run(words, capture_output=True).returncode


def test_everything_happens(house, tmp_path_factory, show):
    (house / "one.toml").write_text(TOML)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    full = elsewhere / "full"
    mounted = _full_disk(full) if shutil.which("mount") else False
    machines = Machines(house, elsewhere)
    show(f"{RUNS} runs; networks of their own: {machines.networks}; a full disk: {mounted}")
    runs = [folders.RunDir(house / "runs" / "out" / "one-ntidigits" / f"hrmas-s{n}") for n in range(RUNS)]
    began = time.monotonic()
    try:
        machines.start_scheduler()
        for _ in range(3):
            machines.start_worker()
        unfit = [machines.start_worker(elsewhere / "other", PYTHONPATH=_another_version(elsewhere / "program"))]
        if mounted:
            unfit.append(machines.start_worker(full))
        client = _happen(machines, unfit, runs, began, show)
        assert all(one.poll() is not None for one in unfit), "a worker that is not fit is still there"
    finally:
        machines.close()
        if mounted:
            subprocess.run(["umount", "-l", str(full)], check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    show(f"{machines.count} workers started; {time.monotonic() - began:.0f} s, "
         f"{used.ru_utime + used.ru_stime:.0f} s of processor time")
    log = (house / "client.log").read_text()
    assert client.returncode == 0, log[-3000:]
    assert "hrmas_sparse 0.0.0 instead of" in log
    ends, slices, different = [], 0, 0
    for n, run in enumerate(runs):
        text = (run.path.parent / "logs" / f"{run.path.name}.log").read_text()
        ends.append(text.count("test accuracy"))
        slices += text.count("resuming")
        assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--seeds", str(n), "--name",
                         f"straight-{n}"]) == 0
        different += exact_differences(run, folders.open_run(f"straight-{n}")) != []
    show(f"ends of each run: {ends}; {slices} times one went on from a checkpoint; {log.count('leaves')} times the "
         f"client heard of a worker that left; {different} runs differ from those made here")
    assert ends == [1] * RUNS and different == 0


def _happen(machines, unfit, runs, began, show):
    """Let everything happen, and give the same command again and again until all runs have ended; the last client."""
    rng, done = random.Random(0), dict.fromkeys([*KILLS, "frozen"], 0)
    plan = [kind for kind, count in KILLS.items() for _ in range(count)]
    rng.shuffle(plan)
    plan.append("frozen")                                # is the first
    client, frozen, thaw = machines.start_client(), None, 0.0
    unfit[0].wait(60)                                    # the one of another version: a killed client could not say so
    while client.poll() is None or not all(run.finished for run in runs) or frozen is not None:
        assert time.monotonic() - began < MOST_SECONDS, (done, (machines.home / "client.log").read_text()[-3000:])
        time.sleep(rng.uniform(1, 2))
        if client.poll() is not None and not all(run.finished for run in runs):
            client = machines.start_client()             # killed, or its scheduler was: the same command goes on
            time.sleep(3)
        alive = [one for one in machines.workers if one.poll() is None and one is not frozen and one not in unfit]
        while len(alive) < 3:
            alive.append(machines.start_worker())
        if frozen is not None and time.monotonic() > thaw:
            frozen.send_signal(signal.SIGCONT)
            frozen = None
        if not plan:
            continue
        what = plan.pop()
        done[what] += 1
        if what == "worker":
            rng.choice(alive).kill()
        elif what == "scheduler":
            machines.scheduler.kill()
            machines.scheduler.wait()
            machines.start_scheduler()
        elif what == "client":
            client.kill()
            client.wait()
        else:
            frozen, thaw = alive[0], time.monotonic() + FROZEN_SECONDS
            frozen.send_signal(signal.SIGSTOP)
    assert not plan, f"all runs had ended before everything had happened: {done}"
    show(f"killed and frozen: {done}")
    return client
