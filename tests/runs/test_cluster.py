"""Runs on a Dask cluster: real schedulers and workers over TCP, killed, frozen, unfit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

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
seeds = "0-1"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


class Cluster:
    """A scheduler and workers, processes of their own; the scheduler is the same for all tests here."""

    def __init__(self, home: Path):
        self._environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1])}
        self.file = home / "scheduler.json"
        self.processes = [self._start("scheduler", "--scheduler-file", self.file, "--host", "127.0.0.1", "--port", "0",
                                      "--no-dashboard")]
        while not self.file.exists():
            assert self.processes[0].poll() is None
            time.sleep(0.05)

    def _start(self, *words, cwd=None):
        return subprocess.Popen([DASK, *map(str, words)], env=self._environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, cwd=cwd)

    def worker(self, home=None):
        """One more worker of one thread, without a nanny to start it again; in a folder of its own or in ours."""
        self.processes.append(self._start("worker", "--scheduler-file", self.file.absolute(), "--host", "127.0.0.1",
                                          "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory",
                                          home or ".", cwd=home))
        return self.processes[-1]

    def close(self, first=0):
        for process in self.processes[first:]:
            process.kill()
            process.wait()
        del self.processes[first:]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("scheduler"))
    yield made
    made.close()


@pytest.fixture
def dask(house, scheduler):
    """The scheduler, with no worker yet. What it was told by clients that are gone must not matter."""
    (house / "one.toml").write_text(TOML)
    yield scheduler
    scheduler.close(1)


def words(dask, settings=SETTINGS):
    return ["experiment", "one.toml", "--raw", "words.hdf5", "--set", settings, "--cluster", str(dask.file)]


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
    out, _ = client.communicate(timeout=600)
    assert client.returncode == 0 and "2 of 2" in out, out
    assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--name", "straight"]) == 0
    assert exact_differences(run, folders.open_run("straight")) == []


def test_a_machine_that_sleeps_goes_on_when_it_wakes(house):
    """The program and its runs stand still for longer than a scheduler waits for a word of its workers."""
    (house / "one.toml").write_text(TOML.replace("0-1", "0-3"))
    impatient = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1 s"}     # 300 s unless it is said
    client = subprocess.Popen([sys.executable, "-m", "hrmas_sparse", "experiment", "one.toml", "--raw", "words.hdf5",
                               "--set", SETTINGS, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=impatient, start_new_session=True)
    one = working(folders.RunDir("runs/out/one-ntidigits/hrmas-s0"))
    asleep = {client.pid, one, *(int(pid) for pid in subprocess.run(
        ["pgrep", "-P", str(client.pid)], capture_output=True, text=True).stdout.split())}
    for signum in (signal.SIGSTOP, signal.SIGCONT):
        for process in asleep:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signum)
        time.sleep(8 if signum == signal.SIGSTOP else 0)
    try:
        out, _ = client.communicate(timeout=120)
    finally:
        client.kill()
    assert client.returncode == 0 and "4 of 4" in out, out


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


@pytest.mark.slow
def test_runs_are_sent_to_workers_in_other_folders_and_come_back_with_the_same_bits(dask, tmp_path_factory):
    homes = [tmp_path_factory.mktemp(f"machine{n}") for n in range(2)]
    first = dask.worker(homes[0])
    client = subprocess.Popen([sys.executable, "-m", "hrmas_sparse", *words(dask), "--apart"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=dask._environment)
    for _ in range(30000):
        if list(homes[0].glob("**/checkpoint.h5")):
            break
        time.sleep(0.01)
    assert len(list(homes[0].glob("**/ntidigits-*.h5"))) == 1
    dask.worker(homes[1])
    first.kill()
    out, _ = client.communicate(timeout=600)
    assert client.returncode == 0 and "2 of 2" in out, out
    run = folders.RunDir("runs/out/one-ntidigits/hrmas-s0")
    assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", SETTINGS, "--name", "straight"]) == 0
    straight = folders.open_run("straight")
    assert exact_differences(run, straight) == []
    assert run.manifest()["raw"] == straight.manifest()["raw"] == "words.hdf5"
    assert Path(run.manifest()["data"]["cache"]).resolve() == Path(straight.manifest()["data"]["cache"]).resolve()
    assert {path.name for path in run.path.iterdir()} == {path.name for path in straight.path.iterdir()}
    assert "search-1" in Path("runs/out/one-ntidigits/logs/hrmas-s0.log").read_text()


def test_a_run_that_is_away_comes_back_at_each_checkpoint(dask, tmp_path_factory, monkeypatch):
    from runs.apart import Apart
    call, calls = Apart.call, []

    def first_for_a_moment(self, task):
        calls.append(task.name)
        return *call(self, task)[:-1], 0.0 if len(calls) == 1 else 600.0
    monkeypatch.setattr(Apart, "call", first_for_a_moment)
    dask.worker(tmp_path_factory.mktemp("machine"))
    long = SETTINGS.replace("search_epochs=60", "search_epochs=400")  # it must not end before it is asked back
    assert cli.main([*words(dask, long), "--apart", "--seeds", "0"]) == 0
    run = folders.RunDir("runs/out/one-ntidigits/hrmas-s0")
    assert run.finished and len(calls) == 2
    log = Path("runs/out/one-ntidigits/logs/hrmas-s0.log").read_text()
    assert log.count("stopped and checkpointed") == 1 and "resuming" in log
    assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", long, "--name", "straight"]) == 0
    assert exact_differences(run, folders.open_run("straight")) == []


@pytest.mark.slow
def test_detached_runs_go_on_without_the_client(dask, capfd):
    dask.worker()
    assert cli.main([*words(dask), "--detach"]) == 0
    assert "2 runs are left to the cluster" in capfd.readouterr().out
    for _ in range(3000):
        assert cli.main(["status", "one-ntidigits"]) == 0
        out = capfd.readouterr().out
        if "2 runs: 2 finished" in out:
            break
        time.sleep(0.1)
    assert "2 runs: 2 finished" in out
    assert cli.main(words(dask)) == 0
    assert "2 runs, 2 finished before" in capfd.readouterr().out


@pytest.mark.parametrize("more", [[], ["--cluster", "slurm.toml"], ["--cluster", "scheduler.json", "--apart"]])
def test_what_cannot_be_left_alone(house, capfd, more):
    (house / "one.toml").write_text(TOML)
    assert cli.main(["experiment", "one.toml", "--detach", *more]) == 2
    assert "goes with --cluster" in capfd.readouterr().err


def test_a_worker_elsewhere_gets_no_run(tmp_path):
    fitness = pytest.importorskip("runs.fitness", exc_type=ModuleNotFoundError)
    probe = tmp_path / "probe"
    here = worker.facts()
    def reason(expected, same_processor=False):
        return fitness.Fitness("me", expected, probe, same_processor)._reason()
    assert "does not see the folder" in reason(here)
    probe.touch()
    assert reason(here, True) == ""
    assert reason(here | {"hrmas_sparse": "0.0.1"}) == f"hrmas_sparse {here['hrmas_sparse']} instead of 0.0.1"
    assert reason(here | {"processor": "abacus"}) == ""
    assert "instead of abacus" in reason(here | {"processor": "abacus"}, True)


def test_nothing_is_asked_of_workers_for_clients_that_are_gone():
    """What a client asks of workers that join would else send a newer version away for ever."""
    fitness = pytest.importorskip("runs.fitness", exc_type=ModuleNotFoundError)

    def left(tasks, owner=""):
        names = [fitness.NAME + of for of in ("here", "ended", "killed", "detached /runs")] + ["another's"]
        scheduler = SimpleNamespace(worker_plugins=dict.fromkeys(names), tasks=tasks, clients={"here", "ended"})
        fitness.forget(scheduler, owner)
        return [name.removeprefix(fitness.NAME) for name in scheduler.worker_plugins]
    assert left(["a run"]) == ["here", "ended", "detached /runs", "another's"]
    assert left(["a run"], owner="ended") == ["here", "detached /runs", "another's"]
    assert left([]) == ["here", "ended", "another's"]


@pytest.mark.parametrize("how", [cluster.How(), cluster.How(detach=True)])
def test_a_client_that_fails_at_the_start_leaves_nothing(tmp_path, how):
    pytest.importorskip("runs.fitness", exc_type=ModuleNotFoundError)
    forgotten = []

    def fails(plugin):
        assert list(tmp_path.glob(".probe-*"))
        raise OSError("the scheduler is gone")
    client = SimpleNamespace(id="me", dashboard_link="", status="running", register_plugin=fails,
                             subscribe_topic=lambda topic, handler: None,
                             run_on_scheduler=lambda function, owner: forgotten.append(owner))
    task = worker.Task("run", [], tmp_path / "run", tmp_path, tmp_path / "log", 1, 1.0, 1)
    with pytest.raises(OSError, match="the scheduler is gone"):
        cluster.run_all([task], client, lambda: False, lambda task: 0.0, lambda task: "", how)
    assert forgotten == ["", f"detached {tmp_path}" if how.detach else "me"] and not list(tmp_path.iterdir())


def test_runs_in_two_folders_are_stopped_in_both(tmp_path):
    tasks = [worker.Task(name, [], tmp_path / name / "run", tmp_path, tmp_path / "log", 1, 1.0, 1) for name in "ab"]
    assert [cluster.Shared(".stop-x").call(one)[2] for one in tasks] == [tmp_path / n / ".stop-x" for n in "ab"]


def test_what_comes_back_is_not_written_over_another_run(tmp_path):
    pytest.importorskip("distributed")
    from runs.apart import Apart, Returned
    run = folders.RunDir(tmp_path / "run")
    task = worker.Task("run", [], run.path, tmp_path, tmp_path / "log", 1, 1.0, 1, cache=tmp_path / "cache.h5")
    (tmp_path / "cache.h5").touch()
    way = Apart(None, "stop")
    way._sent[task.cache] = "cache"
    way.call(task)
    run.path.mkdir()
    run.manifest_path.write_text("another")
    reason = way.received(task, Returned("", {"metrics.jsonl": b"line"}, b"", False, "tcp://there"))
    assert "another run was begun there" in reason and not run.metrics_path.exists()


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


BATCH = """
kind = "slurm"
jobs = 0
queue = "long"
account = "lab"
cores = 8
processes = 1
memory = "32GB"
walltime = "04:00:00"
job_extra_directives = ["--constraint=epyc"]
worker_extra_args = ["--resources memory=32e9"]
"""


def test_the_job_of_a_batch_system_is_what_its_file_asks_for(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="BATCH SYSTEMS NOT TESTED: dask-jobqueue is not installed")
    (tmp_path / "slurm.toml").write_text(BATCH)
    with cluster._batch_system(tmp_path / "slurm.toml") as made:
        lines = made.job_script().splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert asked >= {"-p long", "-A lab", "--cpus-per-task=8", "--mem=30G", "-t 04:00:00", "--constraint=epyc"}
    command = next(line for line in lines if "dask_worker" in line or "dask worker" in line)
    assert "--nthreads 8" in command and "--resources memory=32e9" in command and command.startswith(sys.executable)


@pytest.mark.parametrize("where, message", [("nowhere.json", "no such file"), ("tcp://127.0.0.1:1", "no scheduler")])
def test_no_scheduler(house, monkeypatch, where, message):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=message):
        with cluster.connected(where, 1):
            pass
