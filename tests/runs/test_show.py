"""Everything that can happen to a cluster, to one experiment.

There are a scheduler and three workers in folders and, where the machine lets us, networks of their own. Workers,
schedulers and clients are killed, one worker is frozen, the disk of one is full, one is of another version. Every run
ends once, with the bits of a run made here.
"""

import os
import random
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
from runs import cluster

pytest.importorskip("distributed", reason="CLUSTERS NOT TESTED: Dask is not installed (extra `cluster`)")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not os.environ.get("HRMAS_SHOW"), reason="THE SHOW IS NOT RUN: it takes about half an hour; HRMAS_SHOW=1 runs it")]

DASK = str(Path(sys.executable).with_name("dask"))
RUNS = int(os.environ.get("HRMAS_SHOW_RUNS", "12"))
KILLS = {"worker": 20, "scheduler": 3, "client": 2}
FROZEN_SECONDS = 90
SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=600 training.retrain_epochs=1")
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
        self.environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1]),
                                         "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s",
                                         "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{FROZEN_SECONDS // 3}s",
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
        words = [sys.executable, "-m", "hrmas_sparse", "experiment", "one.toml", "--raw", "words.hdf5", "--set",
                 SETTINGS, "--cluster", self.address, "--apart"]
        with open(self.home / "client.log", "ab") as log:
            return subprocess.Popen(words, env=self.environment, cwd=self.home, stdout=log, stderr=log)

    def close(self):
        for process in [*self.workers, self.scheduler]:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        for n in range(3 if self.networks else 0):
            subprocess.run(["ip", "netns", "del", f"hrmas{n}"], check=False)
        if self.networks:
            subprocess.run(["ip", "link", "del", "hrmas-bridge"], check=False)


def _networks() -> bool:
    """Make three network namespaces behind a bridge; whether that could be done."""
    commands = ["link add hrmas-bridge type bridge", "addr add 10.77.0.1/24 dev hrmas-bridge",
                "link set hrmas-bridge up"]
    for n in range(3):
        commands += [f"netns add hrmas{n}", f"link add hrmas-out{n} type veth peer name hrmas-in{n} netns hrmas{n}",
                     f"link set hrmas-out{n} master hrmas-bridge up", f"-n hrmas{n} link set lo up",
                     f"-n hrmas{n} addr add 10.77.0.{n + 2}/24 dev hrmas-in{n}", f"-n hrmas{n} link set hrmas-in{n} up"]
    done = []
    for command in commands:
        if not shutil.which("ip") or subprocess.run(["ip", *command.split()], capture_output=True).returncode:
            for n in range(3 if done else 0):
                subprocess.run(["ip", "netns", "del", f"hrmas{n}"], capture_output=True)
            if done:
                subprocess.run(["ip", "link", "del", "hrmas-bridge"], capture_output=True)
            return False
        done.append(command)
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
    done = dict.fromkeys(KILLS, 0) | {"frozen": 0}
    runs = [folders.RunDir(house / "runs" / "out" / "one-ntidigits" / f"hrmas-s{n}") for n in range(RUNS)]
    rng = random.Random(0)
    began = time.monotonic()
    try:
        machines.start_scheduler()
        for _ in range(3):
            machines.start_worker()
        other = machines.start_worker(elsewhere / "other", PYTHONPATH=_another_version(elsewhere / "program"))
        if mounted:
            machines.start_worker(full)
        client = machines.start_client()
        plan = [kind for kind, count in KILLS.items() for _ in range(count)] + ["frozen"]
        rng.shuffle(plan)
        frozen, thaw = None, 0.0
        while client.poll() is None or not all(run.finished for run in runs):
            time.sleep(rng.uniform(1, 4))
            if client.poll() is not None:                # killed, or its scheduler was: the same command goes on
                client = machines.start_client()
                time.sleep(5)
            alive = [one for one in machines.workers if one.poll() is None and one is not frozen]
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
            elif frozen is None:
                frozen, thaw = alive[0], time.monotonic() + FROZEN_SECONDS
                frozen.send_signal(signal.SIGSTOP)
        assert other.poll() is not None, "the worker of another version is still there"
    finally:
        machines.close()
        if mounted:
            subprocess.run(["umount", "-l", str(full)], check=False)
    took = time.monotonic() - began
    log = (house / "client.log").read_text()
    assert client.returncode == 0, log[-3000:]
    assert "hrmas_sparse 0.0.0 instead of" in log
    show(f"{done}, {machines.count} workers started, {took:.0f} s")
    different = 0
    for n, run in enumerate(runs):
        assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--seeds", str(n), "--name",
                         f"straight-{n}"]) == 0
        different += exact_differences(run, folders.open_run(f"straight-{n}")) != []
    said = sum(log.count(f"{run.name}: ") - log.count(f"{run.name}: its worker") for run in runs)
    show(f"{RUNS} runs ended, {said} ends said, {different} differ from those made here; "
         f"{log.count('its worker died')} times handed on, {log.count('leaves')} workers sent away")
    assert different == 0
