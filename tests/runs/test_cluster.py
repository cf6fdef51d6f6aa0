"""Runs on a Dask cluster: real schedulers and workers over TCP, killed, frozen, unfit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrmas_sparse import cli
from hrmas_sparse.run import folder as folders
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.storage.errors import InputError
from runs import cluster, worker

DASK = str(Path(sys.executable).with_name("dask"))
SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=60 training.retrain_epochs=1")
TOML = """
title = "One row"
data = ["ntidigits"]
seeds = "0-2"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


class Cluster:
    """A scheduler and workers, processes of their own."""

    def __init__(self, home: Path):
        self._environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1])}
        self.file = home / "scheduler.json"
        self.processes = [self._start("scheduler", "--scheduler-file", self.file, "--host", "127.0.0.1", "--port", "0",
                                      "--no-dashboard")]
        while not self.file.exists():
            assert self.processes[0].poll() is None
            time.sleep(0.05)

    def _start(self, *words):
        return subprocess.Popen([DASK, *map(str, words)], env=self._environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def worker(self):
        """One more worker of one thread, without a nanny to start it again."""
        self.processes.append(self._start("worker", "--scheduler-file", self.file, "--host", "127.0.0.1",
                                          "--nthreads", "1", "--no-nanny", "--no-dashboard"))
        return self.processes[-1]

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def dask(house):
    (house / "one.toml").write_text(TOML)
    made = Cluster(house)
    yield made
    made.close()


def words(dask):
    return ["experiment", "one.toml", "--raw", "words.hdf5", "--set", SETTINGS, "--cluster", str(dask.file)]


def working(run):
    """The process that works on a run, once one does."""
    for _ in range(12000):
        note = run.lock_path.read_text() if run.lock_path.exists() else ""
        if note and run.checkpoint_path.exists():
            return int(note.split()[1])
        time.sleep(0.01)
    raise AssertionError("nobody works on it")


def test_a_killed_worker_hands_its_run_on_and_the_bits_are_the_same(dask, capfd):
    first = dask.worker()
    client = subprocess.Popen([sys.executable, "-m", "hrmas_sparse", *words(dask)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=dask._environment)
    run = folders.RunDir("runs/out/one-ntidigits/hrmas-s0")
    working(run)
    dask.worker()
    first.kill()
    out, _ = client.communicate(timeout=200)
    assert client.returncode == 0 and "3 of 3" in out, out
    assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--name", "straight"]) == 0
    assert exact_differences(run, folders.open_run("straight")) == []


def test_a_stopped_client_stops_the_runs_with_a_checkpoint(dask):
    dask.worker()
    settings = SETTINGS.replace("search_epochs=60", "search_epochs=4000")
    client = subprocess.Popen([sys.executable, "-m", "hrmas_sparse", *words(dask), "--set", settings],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dask._environment)
    process = working(run := folders.RunDir("runs/out/one-ntidigits/hrmas-s0"))
    client.send_signal(signal.SIGINT)
    out, _ = client.communicate(timeout=60)
    assert client.returncode == 130 and "every run is checkpointed" in out, out
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert run.checkpoint_path.exists() and not run.finished


def test_a_worker_elsewhere_gets_no_run(tmp_path):
    fitness = pytest.importorskip("runs.fitness", exc_type=ModuleNotFoundError)
    probe = tmp_path / "probe"
    here = worker.facts()
    assert "does not see the folder" in fitness.Fitness(here, probe, False)._reason()
    probe.touch()
    assert fitness.Fitness(here, probe, True)._reason() == ""
    other = here | {"hrmas_sparse": "0.0.1"}
    assert fitness.Fitness(other, probe, False)._reason() == f"hrmas_sparse {here['hrmas_sparse']} instead of 0.0.1"
    other = here | {"processor": "abacus"}
    assert fitness.Fitness(other, probe, False)._reason() == ""
    assert "instead of abacus" in fitness.Fitness(other, probe, True)._reason()


@pytest.mark.parametrize("text, message", [
    ("kind = 'abacus'", "kind: expected one of slurm, pbs, sge, lsf, found 'abacus'"),
    ("kind = 'slurm'\nabacus = 1", "its keys are those of dask_jobqueue.SLURMCluster"),
])
def test_mistakes_in_a_batch_system_s_file(tmp_path, text, message):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "batch.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        with cluster.connected(str(tmp_path / "batch.toml"), 1):
            pass


@pytest.mark.parametrize("where, message", [("nowhere.json", "no such file"), ("tcp://127.0.0.1:1", "no scheduler")])
def test_no_scheduler(house, monkeypatch, where, message):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=message):
        with cluster.connected(where, 1):
            pass
