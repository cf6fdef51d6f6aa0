"""Ten thousand runs, and a thousand workers: what planning, submitting and scheduling them takes."""

import resource
import time

import pytest

from hrmas_sparse import cli
from runs import cluster, experiment

distributed = pytest.importorskip("distributed", reason="CLUSTERS NOT TESTED: Dask is not installed")
pytestmark = pytest.mark.slow

RUNS, WORKERS, THREADS, SCALE = 10_000, 50, 20, 100     # 1,000 slots; a minute takes 0.6 s
TOML = """
title = "Many"
data = ["ntidigits"]
seeds = "0-9999"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def minute(task, stop):
    """What a worker does instead of a run of a minute."""
    time.sleep(60 / SCALE)
    return ""


def test_ten_thousand_runs(house, monkeypatch, show, capsys):
    (house / "many.toml").write_text(TOML)
    words = ["experiment", "many.toml", "--raw", "words.hdf5", "--set", "network.neurons=[6] network.motif_sizes=[2,3]"]
    assert cli.main([*words, "--list", "--seeds", "0"]) == 0
    before, began = megabytes(), time.process_time()
    assert cli.main([*words, "--list"]) == 0
    planned = time.process_time() - began
    out = capsys.readouterr().out
    assert len(out.splitlines()) == RUNS + 1
    show(f"{RUNS} runs planned and listed: {planned:.1f} s of processor time, {megabytes() - before:.0f} MB")
    monkeypatch.setattr(cluster.worker, "carry_out", minute)
    monkeypatch.setattr(experiment, "outcome", lambda planned: "")

    @cluster.contextlib.contextmanager
    def connected(where, jobs):
        with distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=THREADS, processes=False,
                                      dashboard_address=None, silence_logs=50) as made, \
                distributed.Client(made, set_as_default=False) as client:
            times["submitted"] = time.process_time()
            yield client
            times["done"] = time.process_time()
    times = {}
    monkeypatch.setattr(cluster, "connected", connected)
    submit = cluster._Submitted.__init__

    def submitting(self, *arguments):
        submit(self, *arguments)
        times["running"], times["wall"] = time.process_time(), time.monotonic()
    monkeypatch.setattr(cluster._Submitted, "__init__", submitting)
    before = megabytes()
    assert cli.main(words) == 0
    wall = time.monotonic() - times["wall"]
    assert f"{RUNS} of {RUNS}" in capsys.readouterr().out
    submitted, ran = times["running"] - times["submitted"], times["done"] - times["running"]
    least = RUNS / WORKERS / THREADS * 60 / SCALE
    show(f"submitted: {submitted:.1f} s of processor time; {WORKERS * THREADS} slots, runs of {60 / SCALE} s: "
         f"scheduler, workers and client together {1000 * ran / RUNS:.2f} ms of processor time a run, {wall:.0f} s on "
         f"the clock (at least {least:.0f}); {megabytes() - before:.0f} MB more")
