"""Ten thousand runs: what planning, submitting and scheduling them takes, the runs themselves apart."""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hrmas_sparse import cli
from runs import cluster, experiment

distributed = pytest.importorskip("distributed", reason="CLUSTERS NOT TESTED: Dask is not installed")
pytestmark = pytest.mark.slow

RUNS = 10_000
WORKERS, STUB_RUNS, SECONDS = 100, 1_000, 3.0    # of the simulation: workers, runs, how long a run takes
TOML = f"""
title = "Many"
data = ["ntidigits"]
seeds = "0-{RUNS - 1}"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


def stub(task, stop):
    """What a worker does instead of a run."""
    return ""


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_ten_thousand_runs(house, monkeypatch, show, capsys):
    (house / "many.toml").write_text(TOML)
    words = ["experiment", "many.toml", "--raw", "words.hdf5", "--set", "network.neurons=[6] network.motif_sizes=[2,3]"]
    assert cli.main([*words, "--list", "--seeds", "0"]) == 0
    capsys.readouterr()
    before, began = megabytes(), time.process_time()
    assert cli.main([*words, "--list"]) == 0
    planned = time.process_time() - began
    assert len(capsys.readouterr().out.splitlines()) == RUNS
    show(f"{RUNS} runs planned and listed: {planned:.1f} s of processor time, {megabytes() - before:.0f} MB")
    times = {}

    @contextlib.contextmanager
    def connected(where, jobs):
        with distributed.LocalCluster(n_workers=1, threads_per_worker=4, processes=False, silence_logs=50,
                                      dashboard_address=cluster.LOOPBACK) as made, \
                distributed.Client(made, set_as_default=False) as client:
            times["begun"] = time.process_time()
            yield client
            times["done"] = time.process_time()
    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(cluster.worker, "carry_out", stub)
    monkeypatch.setattr(experiment, "outcome", lambda planned: "")
    submit = cluster._Submitted.__init__

    def submitting(self, *arguments):
        submit(self, *arguments)
        times["submitted"] = time.process_time()
    monkeypatch.setattr(cluster._Submitted, "__init__", submitting)
    before = megabytes()
    assert cli.main(words) == 0
    assert f"{RUNS} of {RUNS}" in capsys.readouterr().out
    submitted, ran = times["submitted"] - times["begun"], times["done"] - times["submitted"]
    show(f"submitted: {submitted:.1f} s of processor time; scheduler, worker and client: {1000 * ran / RUNS:.1f} ms of "
         f"processor time a run; {megabytes() - before:.0f} MB more")
    assert ran / RUNS < 0.02, "the time of a run must not grow with the number of runs"


class Scheduler:
    """A scheduler in a process of its own, and what it takes."""

    def __init__(self, home):
        self.file = home / "scheduler.json"
        ours = os.pathsep.join([str(Path(cluster.__file__).parents[1]), str(Path(__file__).parent)])
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("dask")), "scheduler", "--scheduler-file", self.file, "--host",
             "127.0.0.1", "--port", "0", "--no-dashboard"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": ours})      # it looks into what it hands on
        while not self.file.exists():
            assert self._process.poll() is None
            time.sleep(0.05)
        self._proc = Path(f"/proc/{self._process.pid}")

    def seconds(self):
        """Of processor time, so far."""
        fields = self._proc.joinpath("stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self):
        return int(self._proc.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def files(self):
        return len(list(self._proc.joinpath("fd").iterdir()))

    def close(self):
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def workers(file, count, home):
    """Dask's own workers, all on one thread of this process."""
    loop, ready, end = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve():
        async with contextlib.AsyncExitStack() as stack:
            for n in range(count):
                await stack.enter_async_context(distributed.Worker(
                    scheduler_file=str(file), nthreads=1, name=n, memory_limit=0, dashboard=False, host="127.0.0.1",
                    local_directory=str(home), resources={"memory": 1e12}))
            ready.set()
            await end.wait()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(300)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(120)


async def minute(task, stop):
    """What a simulated worker does instead of a run that takes a minute, here in less."""
    await asyncio.sleep(SECONDS)
    return ""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_many_workers(house, monkeypatch, show, capsys, tmp_path):
    """What one run, and one worker that does nothing, cost the scheduler: what a thousand of them would."""
    (house / "many.toml").write_text(TOML.replace(str(RUNS - 1), str(STUB_RUNS - 1)))
    monkeypatch.setattr(cluster.worker, "carry_out", minute)
    monkeypatch.setattr(experiment, "outcome", lambda planned: "")
    import dask
    scheduler = Scheduler(tmp_path)
    quiet = {"distributed.admin.system-monitor.interval": "60s", "distributed.worker.profile.enabled": False}
    try:
        small, few = scheduler.megabytes(), scheduler.files()
        with dask.config.set(quiet), workers(scheduler.file, WORKERS, tmp_path):
            large, many = scheduler.megabytes(), scheduler.files()
            time.sleep(2)
            before = scheduler.seconds()
            time.sleep(10)
            idle = (scheduler.seconds() - before) / 10
            before, began = scheduler.seconds(), time.monotonic()
            assert cli.main(["experiment", "many.toml", "--raw", "words.hdf5", "--set",
                             "network.neurons=[6] network.motif_sizes=[2,3]", "--cluster", str(scheduler.file)]) == 0
            took = time.monotonic() - began
            busy, most = scheduler.seconds() - before, scheduler.megabytes()
        assert f"{STUB_RUNS} of {STUB_RUNS}" in capsys.readouterr().out
    finally:
        scheduler.close()
    a_run = (busy - idle * took) / STUB_RUNS
    show(f"the scheduler, for each of {WORKERS} workers: {1000 * (large - small) / WORKERS:.0f} KB, "
         f"{(many - few) / WORKERS:.1f} open files, {1000 * idle / WORKERS:.2f} ms of processor "
         "time a second")
    show(f"each of {STUB_RUNS} runs: {1000 * a_run:.1f} ms, {1000 * (most - large) / STUB_RUNS:.0f} KB; "
         f"{STUB_RUNS / took:.0f} runs a second in all")
    from distributed.scheduler import heartbeat_interval
    a_beat = idle * heartbeat_interval(WORKERS) / WORKERS       # of more workers each sends fewer
    core = 1000 / 60 * a_run + 1000 / heartbeat_interval(1000) * a_beat
    show(f"so 1,000 workers, runs of a minute: {100 * core:.0f} % of a core, "
         f"{1000 * (many - few) / WORKERS + few:.0f} open files")
    assert a_run < 0.02
