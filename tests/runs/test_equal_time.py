"""Random architectures at equal time: as many as fit into the measured processor time of a search."""

import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import toys
from program import program

from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.state import Position
from hrmas_sparse.storage.errors import Damaged, InputError
from runs import equal_time, plan
from runs.report import collect, tables, write

SMALL = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
         "training.search_epochs=3 training.retrain_epochs=4")
TOML = """
title = "At equal time"
data = ["ntidigits"]
seeds = "0"
baseline = "hrmas"
[rows.best]
title = "best of many"
set = "search.method=random"
candidates_like = "hrmas"
[rows.hrmas]
title = "HRMAS"
"""


@pytest.fixture
def run(house, capfd):
    """Run that experiment."""
    Path("equal.toml").write_text(TOML)
    experiment = program(capfd, "experiment")
    return lambda *more: experiment("equal.toml", "--raw", "words.hdf5", "--set", SMALL, "--jobs", "1", *more)


def ended(seconds, epochs=40, **more):
    """A finished run that measured so much."""
    result = {"processor_seconds": seconds, **more} if seconds is not None else {}
    return SimpleNamespace(finished=True, result=lambda: result, path=Path("hrmas-s0"),
                           config=lambda: toys.settings(f"training.retrain_epochs={epochs}"))


def not_begun(tmp_path):
    return RunDir(tmp_path / "none")


@pytest.mark.parametrize("seconds, candidates", [
    ({"search-1": 60.0, "search-2": 40.0, "retrain": 80.0}, 10),                       # 10 epochs of 80 / 40 / 2 s
    ({"search-1": 60.0, "search-2": 30.0, "candidates": 15.0, "retrain": 80.0}, 10),   # 10.5 fit: ten whole ones
    ({"search-1": 0.5, "retrain": 80.0}, 1), ({"search-1": 1e9, "retrain": 1e-3}, 10_000),
    ({"search-1": 1e300, "retrain": 1e-300}, 10_000), ({"search-1": 1.0, "retrain": 5e-324}, 10_000)])
def test_as_many_as_fit(tmp_path, seconds, candidates):
    own = toys.settings("training.retrain_epochs=40")
    found = equal_time.fitting(own, not_begun(tmp_path), ended(seconds))
    assert (found.candidates, found.epochs, found.waits) == (candidates, 10, None)
    longer = toys.settings("training.retrain_epochs=40", "search.candidate_epochs=20")
    if 1 < candidates < 100:
        assert equal_time.fitting(longer, not_begun(tmp_path), ended(seconds)).candidates == candidates // 2


@pytest.mark.parametrize("seconds", [None, {"retrain": 1.0}, {"search-1": 1.0}])
def test_what_measured_nothing_is_named(tmp_path, seconds):
    reference = ended(seconds)
    assert equal_time.fitting(toys.settings(), not_begun(tmp_path), reference).waits is reference
    with pytest.raises(InputError, match="hrmas-s0: expected the processor time of a search and of retraining"):
        equal_time.check(reference)


def test_a_position_keeps_processor_time_and_older_ones_have_none(tmp_path):
    position = Position("retrain", processor={"search-1": 1.5})
    assert Position.of(position.as_dict(), tmp_path) == position
    older = position.as_dict()
    del older["processor"]
    assert Position.of(older, tmp_path).processor == {}


@pytest.mark.parametrize("measured", [None, {"search-2": 0.5}])
def test_what_an_earlier_version_began_stays_unmeasured(tmp_path, monkeypatch, measured):
    """Its checkpoint says nothing of the processor time so far; half of it is not to pass for all."""
    events, own = toys.cache(tmp_path / "toy.h5"), toys.settings()
    as_dict = Position.as_dict

    def older(position):
        found = as_dict(position) | {"processor": measured}
        return found if measured else {key: value for key, value in found.items() if key != "processor"}

    with monkeypatch.context() as before, pytest.raises(toys.Killed):
        before.setattr(Position, "as_dict", older)
        toys.kill_after(before, 9)                      # in the second stage
        toys.run(tmp_path / "run", own, events)
    run = toys.run(tmp_path / "run", own, events)
    assert run.finished and "processor_seconds" not in run.result()
    assert {"search-1", "search-2", "retrain"} <= run.result()["seconds"].keys()


@pytest.mark.parametrize("seconds", [1e300, 1e-300, -1.0])
def test_a_time_that_no_clock_measures_is_damage(tmp_path, seconds):
    run = toys.run(tmp_path / "run", toys.settings("training.search_epochs=2", "training.retrain_epochs=1"),
                   toys.cache(tmp_path / "toy.h5"))
    result = run.result()
    result["processor_seconds"]["search-1"] = seconds
    run.result_path.write_text(json.dumps(result))
    with pytest.raises(Damaged, match="result.json: processor_seconds: expected what a clock can measure"):
        equal_time.fitting(toys.settings(), not_begun(tmp_path), run)


def test_it_waits_for_the_search_and_takes_as_long(run, monkeypatch):
    status, out, err = run("--list", "--seeds", "0-1")
    assert status == 0 and [word for line in out.splitlines() for word in line.split() if word.startswith("hrmas-s")] \
        == ["hrmas-s0", "hrmas-s1"] and "2 runs start when those whose searches they" in err
    status, out, err = run("--rows", "best")
    assert "equal-ntidigits: 1 run, 0 finished before" in out
    assert status == 2 and "best-s0: has as many candidates as fit into the search of equal-ntidigits/hrmas-s0" in err
    status, out, err = run()
    assert status == 0 and "1 of 2: equal-ntidigits/hrmas-s0" in out, out + err
    assert "2 of 2: equal-ntidigits/best-s0" in out
    home = Path("runs/out/equal-ntidigits")
    measured = json.loads((home / "hrmas-s0" / "result.json").read_text())["processor_seconds"]
    assert measured.keys() == {"search-1", "search-2", "retrain"} and min(measured.values()) > 0
    best = RunDir(home / "best-s0")
    search = best.config().search
    fit = (measured["search-1"] + measured["search-2"]) / (measured["retrain"] / 4 / 2)     # of one epoch each
    assert (search.candidates, search.candidate_epochs) == (max(1, int(fit)), 1)
    assert sum(line["phase"] == "candidates" for line in best.metrics()) == search.candidates
    status, out, err = run("--list", "--seeds", "0-1", "--rows", "best hrmas")
    assert status == 0 and "hrmas-s1" in out and "best-s1" not in out and "1 run starts when the run" in err

    # The number stays what it was when the run began, whatever else is measured later; by hand it is the same run.
    changed = json.loads((home / "hrmas-s0" / "result.json").read_text())
    changed["processor_seconds"]["retrain"] /= 50
    (home / "hrmas-s0" / "result.json").write_text(json.dumps(changed))
    assert run("--list")[0] == 0
    (best.path / "result.json").unlink()
    line, = [line for line in run("--list")[1].splitlines() if "best-s0" in line]
    assert f"search.candidates={search.candidates} search.candidate_epochs=1" in shlex.split(line)

    assert run("--list", "--rows", "hrmas")[0] == 0, "other settings are refused, but not another number of candidates"
    assert plan.read_record(home)["rows"]["best"]["candidates_like"] == "hrmas"

    # A search that measured nothing: the run that is to take as long fails, the others are made.
    Path("equal.toml").write_text(TOML + '[rows.ff]\ntitle = "feedforward"\nset = "network.recurrence=none"\n')
    shutil.rmtree(best.path)
    (home / "hrmas-s0" / "result.json").unlink()
    with monkeypatch.context() as unmeasured:
        unmeasured.setattr(equal_time, "choosing_seconds", lambda result: None)
        status, out, err = run()
    assert status == 1, out + err
    assert re.search("of 3: equal-ntidigits/best-s0: FAILED: .*hrmas-s0: expected the processor time", out), out
    assert "of 3: equal-ntidigits/ff-s0: " in out and "1 run failed" in err
    assert (home / "ff-s0" / "result.json").exists() and not best.path.exists()
    del changed["processor_seconds"]
    (home / "hrmas-s0" / "result.json").write_text(json.dumps(changed))
    for more in ([], ["--rows", "best"], ["--list"]):
        status, out, err = run(*more)
        assert status == (0 if more == ["--list"] else 1)
        assert "failed: equal-ntidigits/best-s0" in err and "hrmas-s0: expected the processor time" in err


@pytest.mark.parametrize("setting", ["network.recurrence=none", "search.method=random"])
def test_nothing_is_started_if_there_is_no_search_to_take_as_long_as(run, setting):
    status, _, err = run("--set", setting)
    assert status == 2 and "row best: has as many candidates as fit into the search of row hrmas, which has none" in err
    assert not Path("runs/out").exists()


def test_no_rows_are_not_all_rows(run):
    status, _, err = run("--rows", "")
    assert status == 2 and "ROWS=): expected some of best, hrmas, found none" in err


def test_the_report_says_how_many_and_how_long(tmp_path):
    events = toys.cache(tmp_path / "toy.h5")
    rows = {"hrmas": (), "best": ("search.method=random", "search.candidates=3", "search.candidate_epochs=1")}
    for row, overrides in rows.items():
        for seed in (0, 1):
            toys.run(tmp_path / f"{row}-s{seed}", toys.settings(*overrides), events, seed)
    record = {"schema": 1, "experiment": "toy", "title": "toy", "paper": "", "baseline": "hrmas", "rows": {
        "hrmas": {"title": "HRMAS", "set": ""}, "best": {"title": "best", "set": "", "candidates_like": "hrmas"}},
        "runs": {f"{row}-s{seed}": {"row": row, "neurons": [12], "partition": "official", "seed": seed}
                 for row in rows for seed in (0, 1)}}
    (tmp_path / "experiment.json").write_text(json.dumps(record))
    study = collect.read(str(tmp_path))
    found, = tables.equal_times(study)
    spent = {row: sum(value for seed in (0, 1) for phase, value in json.loads(
        (tmp_path / f"{row}-s{seed}" / "result.json").read_text())["processor_seconds"].items() if phase != "retrain")
        for row in rows}
    assert found["share"] == pytest.approx(spent["best"] / spent["hrmas"], rel=1e-12) and found["candidates"] == [3, 3]
    text, = write._equal_times(study)
    assert "best: 3 candidates fitted into the processor time that the search of HRMAS took" in text
    assert f"took {100 * found['share']:.0f} % of it, both measured (2 pairs)" in text
    times = {row["row"]: row for row in tables.times(study)}
    assert times["hrmas"]["candidates"] == 1 and times["best"]["candidates"] == 3
    assert times["hrmas"]["choosing_hours"] == pytest.approx(spent["hrmas"] / 2 / 3600)
    assert 0 < times["best"]["choosing_hours"] < times["best"]["processor_hours"]
    for seed in (0, 1):         # of a version that did not measure it
        path = tmp_path / f"hrmas-s{seed}" / "result.json"
        older = json.loads(path.read_text())
        del older["processor_seconds"]
        path.write_text(json.dumps(older))
    study = collect.read(str(tmp_path))
    assert tables.equal_times(study) == [] and tables.times(study)[0]["processor_hours"] is None


@pytest.mark.parametrize("like", ["best", "nothing", "gru"])
def test_a_row_that_cannot_be_like_another(tmp_path, like):
    method = '[rows.gru]\ntitle = "GRU"\nmethod = "gru"\n'
    file = tmp_path / "equal.toml"
    file.write_text(TOML.replace('candidates_like = "hrmas"', f'candidates_like = "{like}"') + method)
    with pytest.raises(InputError, match="rows.best: candidates_like: expected another row"):
        plan.read(str(file))
    file.write_text(TOML.replace('baseline = "hrmas"', 'baseline = "gru"') + method)
    with pytest.raises(InputError, match="baseline: expected a row of our networks, one of best, hrmas, found 'gru'"):
        plan.read(str(file))
