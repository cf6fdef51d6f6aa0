"""Ten thousand runs: what planning, submitting and scheduling them takes, the runs themselves apart."""

import contextlib
import resource
import time

import pytest

from hrmas_sparse import cli
from runs import cluster, experiment

distributed = pytest.importorskip("distributed", reason="CLUSTERS NOT TESTED: Dask is not installed")
pytestmark = pytest.mark.slow

RUNS = 10_000
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
