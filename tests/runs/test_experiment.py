"""Experiments: what they consist of, that they skip, resume, stop and fail as they should."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from program import program

from hrmas_sparse import cli
from hrmas_sparse.cli.parser import parser
from hrmas_sparse.run.folder import RunDir, all_runs, open_run
from hrmas_sparse.engine.backends import cuda
from hrmas_sparse.engine.backends.cuda import Probe
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import held
from hrmas_sparse.data.cache import open_cache
from runs import cluster, experiment, plan

SMALL = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
         "training.search_epochs=2 training.retrain_epochs=1")
TOML = """
title = "Two rows"
data = ["ntidigits"]
seeds = "0"
baseline = "hrmas"
[rows.hrmas]
title = "HRMAS"
[rows.ff]
title = "feedforward"
set = "network.recurrence=none"
[rows.untied]
title = "one motif"
set = "network.motif_sizes=[{neurons}] network.tied=false network.inter=false"
"""
SHORT_ROWS = ("--rows", "hrmas ff", "--jobs", "2")
COMMAND = [sys.executable, "-m", "hrmas_sparse", "experiment"]


@pytest.fixture
def house(house):
    """The working directory of all tests with an experiment in it, too."""
    Path("two.toml").write_text(TOML)
    return house


def words_of(*more, settings=SMALL):
    return ["two.toml", "--raw", "words.hdf5", "--set", settings, *more]


@pytest.fixture
def run(capfd):
    """Run an experiment."""
    return program(capfd, "experiment")


def arguments_of(*words):
    return parser().parse_args(["experiment", *map(str, words)])


def planned(*arguments):
    options = arguments_of(*arguments)
    return plan.plan(plan.read(options.experiment), options.data[0] if options.data else "ntidigits", options, None)


# ---- what an experiment consists of -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", plan.known())
def test_ours_can_be_read_and_planned(name):
    found = plan.read(name)
    for dataset in found.data:
        runs = planned(name, "--data", dataset, "--seeds", "0-2")
        assert len(runs) == len(found.rows) * max(1, len(found.neurons)) * 3 * len(found.partitions)
        assert len({one.folder for one in runs}) == len(runs)
        settings = [one.settings for one in runs if one.seed == 0 and not one.method]
        assert all(a != b for n, a in enumerate(settings) for b in settings[:n]), "two rows are the same network"
        assert {one.folder.parent for one in runs} == {Path(f"runs/out/{name}-{dataset}")}


def test_what_the_rows_change():
    def changes(name, row):
        base, other = (planned(name, "--data", "ti46", "--rows", key)[0].settings for key in ("hrmas", row))
        return {line.partition(":")[0] for line in plan.differences(base, other)}
    assert changes("table3", "without-ip") == {"plasticity.mode"}
    assert changes("table3", "without-inter") == {"network.inter"}
    assert changes("table3", "without-motif") == {"network.motif_sizes", "network.tied", "network.inter"}
    assert changes("comparison", "random") == changes("comparison", "size-only") == {"search.method"}
    assert changes("table3", "fully-connected") == {"network.recurrence"}
    assert changes("table2", "feedforward") == {"network.recurrence"}
    assert planned("table3", "--data", "ti46", "--rows", "without-motif")[0].settings.network.motif_sizes == (800,)
    sizes = [one.settings.network.neurons for one in planned("table4", "--data", "ti46", "--rows", "random",
                                                             "--seeds", "0")]
    assert sizes == [(800,), (1600,), (2400,), (3200,)]
    assert [one.settings.network.neurons for one in planned(
        "table4", "--data", "ti46", "--rows", "random", "--seeds", "0", "--neurons", "1600")] == [(1600,)]


def test_partitions_make_runs_of_their_own(house):
    runs = planned(*words_of("--rows", "hrmas", "--seeds", "0-1", "--partitions", "official ab"))
    assert [(one.folder.name, one.settings.data.partition) for one in runs] == [
        ("hrmas-s0", "official"), ("hrmas-s1", "official"), ("hrmas-ab-s0", "ab"), ("hrmas-ab-s1", "ab")]
    Path("two.toml").write_text(TOML.replace('title = "HRMAS"', 'title = "HRMAS"\npartitions = ["ab"]'))
    assert {one.partition for one in planned(*words_of("--rows", "hrmas"))} == {"ab"}
    assert {one.partition for one in planned(*words_of("--rows", "ff"))} == {"official"}


def test_words_that_are_no_numbers():
    for option, message in (("--neurons", "expected whole numbers, such as 800 1600; found 'x'"),
                            ("--seeds", "expected a seed, a range or a list"),
                            ("--partitions", "expected partitions, such as official or resample-1..4")):
        with pytest.raises(InputError, match=re.escape(message)):
            arguments_of("table4", option, "x" if option != "--partitions" else ",")
    found = arguments_of("table4", "--neurons", "800,1600", "--partitions", "ab resample-2..3")
    assert (found.neurons, found.partitions) == ([800, 1600], ["ab", "resample-2", "resample-3"])


def test_what_a_row_names_wins(house):
    one, = planned(*words_of("--rows", "ff", settings="network.recurrence=motif training.lr=0.5"))
    assert (one.settings.network.recurrence, one.settings.training.lr) == ("none", 0.5)


@pytest.mark.parametrize("change, message", [
    (lambda text: text + "[rows", "not a TOML file"),
    (lambda text: text.replace("title = \"Two", "titel = \"Two"), "two.toml: unknown key titel; expected one of title"),
    (lambda text: text.replace('"ntidigits"', "3"), "data: found .3., which is not what belongs there"),
    (lambda text: text.replace('["ntidigits"]', "[]"), "data: found .., which is not"),
    (lambda text: text.replace('baseline = "hrmas"\n', ""), "two.toml: missing baseline"),
    (lambda text: text.replace('baseline = "hrmas"', 'baseline = "x"'), "a row of our networks, one of hrmas, ff"),
    (lambda text: text.replace('seeds = "0"', 'seeds = "x"'), "seeds: expected a seed, a range or a list"),
    (lambda text: text.replace("[rows.ff]", '[rows."f/f"]'), "letters, digits and dashes only"),
    (lambda text: text.replace('"network.recurrence', '"network.recurence'), "unknown key network.recurence; nearest"),
    (lambda text: text.replace("{neurons}", "4"), r"expected sizes that divide .*found \[4\]"),
    (lambda text: text.replace('title = "feedforward"', "title = 1"), "rows.ff: title: found 1"),
    (lambda text: text.replace('title = "feedforward"\n', ""), "rows.ff: missing title"),
    (lambda text: "title = 1", "title: found 1"),
], ids=range(13))
def test_bad_files(house, run, change, message):
    Path("two.toml").write_text(change(TOML))
    status, _, err = run(*words_of())
    assert status == 2 and re.search(message, err) and err.count("\n") == 1, err
    assert not list(Path(".").glob("runs/out/*/*/manifest.json"))


@pytest.mark.parametrize("arguments, message", [
    (["nothing"], "experiment: expected one of comparison, figures, ranking, table2, .* found 'nothing'"),
    (words_of("--rows", "hrmas fff"), r"--rows \(ROWS=\): two has the rows hrmas, ff, untied, found 'fff'"),
    (words_of("--neurons", "800"), "has no list of layer sizes"),
    (words_of("--partitions", "valid-2..x"), "data.partition: expected official, ab.*found 'valid-2..x'"),
    (words_of("--data", "ntidigits fsdd"), "goes with one data set"),
    (words_of("--data", "fsd"), "nearest: fsdd"),
    (words_of("--name", "a/b"), "expected a plain name"),
    (words_of("--jobs", "0"), "a whole number of at least 1"),
    (words_of("--backend", "gpu"), "backend: expected one of auto, cpu, cuda, found 'gpu'"),
    (words_of("--partitions", "abc"), "partition"),
    (["two.toml", "--raw", "nowhere"], "nowhere: no such file"),
], ids=str)
def test_mistakes(house, run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2 and re.search(message, err) and err.count("\n") == 1, err


def test_what_is_added_to_a_folder_has_the_settings_of_what_is_there(house):
    def refuse(*more, settings=SMALL):
        options = arguments_of(*words_of(*more, settings=settings))
        own = plan.read(options.experiment)
        plan.refuse_other_settings(own, "ntidigits", options, plan.plan(own, "ntidigits", options, None))

    runs = planned(*words_of("--rows", "hrmas ff"))
    for one in runs:
        one.folder.mkdir(parents=True)
        one.run.manifest_path.write_text(json.dumps({
            "schema": 1, "seed": one.seed, "config": one.settings.as_dict(), "raw": None,
            "data": {"fingerprint": "f", "provenance": "real"}}))
    plan.record(plan.read("two.toml"), runs)
    for more in ((), ("--seeds", "1-2"), ("--rows", "untied"), ("--partitions", "ab")):
        refuse(*more)
        with pytest.raises(InputError, match="-s0: was run with other settings: training.lr: 0.002 != 0.5. Give"):
            refuse(*more, settings=SMALL + " training.lr=0.5")
    Path("two.toml").write_text(TOML.replace("recurrence=none", "recurrence=full"))
    with pytest.raises(InputError, match="ff-s0: was run with other settings: network.recurrence"):
        refuse("--rows", "hrmas", "--seeds", "1")


def test_many_runs_take_a_thread_each(monkeypatch):
    monkeypatch.setattr("hrmas_sparse.environment.cores", lambda: 8)
    assert cluster.threads_for(tasks=20, jobs=8) == 1
    assert cluster.threads_for(tasks=20, jobs=2) == 4
    assert cluster.threads_for(tasks=2, jobs=8) == 4
    assert cluster.threads_for(tasks=1, jobs=8) == 8
    assert cluster.threads_for(tasks=0, jobs=8) == 8
    assert cluster.threads_for(tasks=20, jobs=99) == 1


def test_the_longest_runs_start_first():
    runs = {one.folder.name: plan.work(one.settings) for one in planned("table4", "--data", "ti46", "--seeds", "0")}
    assert max(runs, key=runs.get) == "hrmas-3200-s0" and min(runs, key=runs.get) == "feedforward-800-s0"


# ---- running one ------------------------------------------------------------------------------------------------


def test_an_experiment_runs_and_then_is_done(house, run):
    status, out, err = run(*words_of("--seeds", "0", "--jobs", "2"))
    assert status == 0 and "3 runs, 0 finished before" in out and "3 of 3: two-ntidigits/" in out, err
    status, out, err = run(*words_of("--seeds", "0-1", "--rows", "untied"))
    assert status == 0 and "2 runs, 1 finished before" in out and "1 of 1: two-ntidigits/untied-s1" in out, err
    folders = {"hrmas-s0", "ff-s0", "untied-s0", "untied-s1"}
    found = all_runs()
    assert {one.name for one in found} == {f"two-ntidigits/{name}" for name in folders}
    assert all(one.finished for one in found)
    record = json.loads(Path("runs/out/two-ntidigits/experiment.json").read_text())
    assert record["runs"].keys() == folders and record["runs"]["untied-s1"]["row"] == "untied"
    assert record["baseline"] == "hrmas"
    threads = {one.name: Path(f"{one.path.parent}/logs/{one.path.name}.log").read_text() for one in found}
    assert all("test accuracy" in text for text in threads.values())

    before = {path: path.stat().st_mtime_ns for path in Path("runs/out").glob("*/*/*")}
    status, out, _ = run(*words_of())
    assert status == 0 and "3 runs, 3 finished before" in out and "make report NAME=two-ntidigits" in out
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs/out").glob("*/*/*")}

    assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", SMALL, "--name", "alone"]) == 0
    alone, part = open_run("alone"), open_run("two-ntidigits/hrmas-s0")
    assert exact_differences(alone, part) == [], "a run of an experiment is a run like any other"

    assert "holds another run" not in run(*words_of("--rows", "hrmas", settings=SMALL))[2]
    status, _, err = run(*words_of(settings=SMALL + " training.lr=0.5"))
    assert status == 2 and "was run with other settings: training.lr: 0.002 != 0.5. Give another --name" in err
    shutil.copy("two.toml", "three.toml")
    status, _, err = run("three.toml", *words_of("--name", "two-ntidigits")[1:])
    assert status == 2 and "holds the experiment two; give another --name" in err


@pytest.mark.parametrize("real", [True, False])
def test_the_caches_are_those_that_the_runs_use(house, own_settings, run, real):
    """With a profile that changes the data; that of the stand-in is chosen once the recordings are seen to be none."""
    if not real:
        with h5py.File("words.hdf5", "r+") as file:
            file.attrs["provenance"] = "synthetic stand-in"
    words = words_of("--data", own_settings, "--rows", "hrmas", settings=SMALL.replace("data.steps=30 ", ""))
    status, out, err = run(*words, *(["--profile", "demo"] if real else []))
    assert status == 0 and "1 of 1: two-own/hrmas-s0" in out, out + err
    caches = [open_cache(path) for path in Path("data/cache").glob("ntidigits-*.h5")]
    assert sorted(cache.meta.steps for cache in caches) == ([20] if real else [20, 30])


@pytest.mark.parametrize("words, gpu, jobs", [((), False, 8), (("--backend", "cpu"), True, 8), ((), True, 1),
                                              (("--backend", "cuda"), True, 1), (("--jobs", "3"), True, 3)], ids=str)
def test_runs_do_not_share_a_gpu_unless_asked_to(monkeypatch, words, gpu, jobs):
    monkeypatch.setattr("hrmas_sparse.environment.cores", lambda: 8)
    monkeypatch.setattr(cuda, "probe", lambda: Probe(*[None] * 6, "" if gpu else "no NVIDIA driver"))
    passed = []     # what has failed of its self-test
    for place in ("backends.cuda.verdict.verdict", "selftest.verdict"):
        monkeypatch.setattr(f"hrmas_sparse.engine.{place}", lambda found: passed)
    assert experiment.jobs_for(arguments_of("table3", *words)) == jobs


def test_a_failing_run_is_named_and_the_others_finish(house, run):
    Path("runs/out/two-ntidigits/ff-s0").mkdir(parents=True)
    Path("runs/out/two-ntidigits/ff-s0/metrics.jsonl").mkdir()          # cannot be written
    status, out, err = run(*words_of(*SHORT_ROWS))
    assert status == 1 and "two-ntidigits/ff-s0: FAILED: exit status" in out
    assert "failed: two-ntidigits/ff-s0: exit status" in err and "1 run failed" in err
    assert [one.finished for one in all_runs()] == [True], "nothing is written into a folder that is no run's"
    Path("runs/out/two-ntidigits/ff-s0/metrics.jsonl").rmdir()
    assert run(*words_of(*SHORT_ROWS))[0] == 0 and [one.finished for one in all_runs()] == [True, True]


def test_several_runners_share_a_folder(house):
    """On one machine or on many: each run has a lock of its own, and is made once."""
    words = [*COMMAND, *words_of("--rows", "hrmas ff", "--seeds", "0-1", "--jobs", "2")]
    path = os.environ | {"PYTHONPATH": str(Path(experiment.__file__).parent.parent)}
    runners = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=path)
               for _ in range(2)]
    for runner in runners:
        out, err = runner.communicate(timeout=300)
        assert runner.returncode == 0 and "all finished" in out, out + err
    logs = list(Path("runs/out/two-ntidigits/logs").iterdir())
    assert len(logs) == 4 and all(log.read_text().count(": starting, seed") == 1 for log in logs)


def test_a_list_of_commands_for_other_engines(house, run):
    status, out, err = run(*words_of("--seeds", "0-1", "--list"))
    lines = out.splitlines()
    assert status == 0 and len(lines) == 6 and "6 runs, 0 finished before" in err
    assert cli.main(shlex.split(lines[0])[1:]) == 0 and open_run("two-ntidigits/hrmas-s0").finished
    assert run(*words_of("--seeds", "0-1", "--list"))[1].splitlines()[-5:] == lines[1:]


# ---- stopped, killed --------------------------------------------------------------------------------------------


LONG = SMALL.replace("search_epochs=2", "search_epochs=3000")


def started(settings, more_than=2, rows=("--rows", "hrmas")):
    """An experiment in a process of its own, one run of it already searching beyond so many epochs."""
    process = subprocess.Popen([*COMMAND, *words_of(*rows, settings=settings)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=os.getcwd(),
                               env=os.environ | {"PYTHONPATH": str(Path(experiment.__file__).parent.parent)})
    found = RunDir("runs/out/two-ntidigits/hrmas-s0")
    for _ in range(6000):
        if held(found.lock_path) and len(found.metrics()) > more_than:
            return process, found
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("never")


def worker(found):
    """Number of the process that works on a run."""
    return int(re.match(r"process (\d+) on", found.lock_path.read_text())[1])


def ended(pid):
    for _ in range(3000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_a_signal_stops_everything_and_it_can_be_resumed(house):
    lines, log = 2, Path("runs/out/two-ntidigits/logs/hrmas-s0.log")
    for times, (signum, status) in enumerate([(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]):
        process, found = started(LONG, more_than=lines)
        child = worker(found)
        assert log.read_text().count("resuming") == times
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status and "Traceback" not in out + err
        assert ("stopped; every run is checkpointed, and the same command goes on from here" in err) == (status > 0)
        assert ended(child), "children of a killed runner end, too"
        assert not held(found.lock_path) and found.checkpoint_path.exists()
        assert log.read_text().count("stopped and checkpointed") == times + 1
        lines = len(found.metrics())


def test_a_killed_child_is_named_and_resumed_to_the_same_bits(house, run):
    settings = SMALL.replace("search_epochs=2", "search_epochs=40")
    process, found = started(settings, rows=SHORT_ROWS)
    os.kill(worker(found), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "failed: two-ntidigits/hrmas-s0: killed by SIGKILL" in err, out + err
    assert not found.finished and open_run("two-ntidigits/ff-s0").finished
    assert run(*words_of(*SHORT_ROWS, settings=settings))[0] == 0
    assert cli.main(["search", "ntidigits", "--raw", "words.hdf5", "--set", settings, "--name", "straight"]) == 0
    assert exact_differences(found, open_run("straight")) == []
