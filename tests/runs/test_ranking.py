"""Other methods as rows of an experiment, and the tables that all rows are in."""

import json
import shlex
import shutil
import statistics
from pathlib import Path
from types import SimpleNamespace

import pytest
import toys
from program import program

from hrmas_sparse.storage.errors import InputError
from runs import plan
from runs.report import collect, ranking, tables
from runs.report import write as report

SMALL = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
         "training.search_epochs=2 training.retrain_epochs=1")
TOML = """
title = "Ours and another"
data = ["ntidigits"]
seeds = "0-1"
partitions = ["official", "resample-1"]
other_seeds = "0"
baseline = "ff"
[rows.ff]
title = "feedforward"
set = "network.recurrence=none"
[rows.logistic]
title = "logistic regression"
method = "logistic"
"""
PEER = {"method": "logistic", "title": "x", "settings": {}, "data": {"dataset": "ntidigits"}, "partition": "official",
        "seed": 0, "fingerprint": "f", "test": {"accuracy": 0.25, "samples": 9},
        "train": {"accuracy": 1.0, "samples": 22}, "trained_weights": 7, "seconds": {"train": 1.0},
        "processor_seconds": 7200.0, "provenance": "synthetic stand-in"}


@pytest.fixture
def run(house, capfd):
    """Run that experiment."""
    Path("both.toml").write_text(TOML)
    experiment = program(capfd, "experiment")
    return lambda *more: experiment("both.toml", "--raw", "words.hdf5", "--set", SMALL, "--jobs", "1", *more)


@pytest.mark.slow
def test_the_whole_table_by_one_command(run, capfd):
    status, out, err = run("--list")
    lines = out.splitlines()
    assert status == 0 and len(lines) == 6, err
    by_hand = shlex.split(next(line for line in lines if "logistic" in line and "resample-1" in line))
    assert by_hand[:2] == ["hrmas", "compare"] and "data.steps=30" in by_hand
    assert program(capfd)(*by_hand[1:])[0] == 0          # the same result, made on another engine
    status, out, err = run()
    assert status == 0 and "6 runs, 1 finished before" in out and "5 of 5" in out, out + err
    home = Path("runs/out/both-ntidigits")
    folders = {"ff-s0", "ff-s1", "ff-resample-1-s0", "logistic-official-s0", "logistic-official-s1",
               "logistic-resample-1-s0"}
    assert {path.parent.name for path in home.glob("*/result.json")} == folders
    found = {name: json.loads((home / name / "result.json").read_text()) for name in folders}
    score = {name: 100 * one["test"]["accuracy"] for name, one in found.items()}
    text = Path("runs/out/both.md").read_text()
    assert text in out
    table = {cells[1]: cells[2:] for line in text.splitlines() if (cells := [c.strip() for c in line.split("|")])[1:]}
    logistic = [value for name, value in score.items() if name.startswith("logistic")]
    differences = [score["ff-s0"] - score["logistic-official-s0"], score["ff-s1"] - score["logistic-official-s1"],
                   score["ff-resample-1-s0"] - score["logistic-resample-1-s0"]]
    overview = next(line for line in text.splitlines() if line.startswith("| logistic"))
    assert overview == f"| logistic regression | {statistics.mean(logistic):.2f} (3) |"
    cells = table["logistic regression"]
    assert cells[0] == "3" and float(cells[1]) == pytest.approx(statistics.mean(logistic), abs=0.006)
    assert cells[2].startswith(f"{score['logistic-official-s0']:.2f} ± 0.00")        # the seed changes nothing
    assert float(cells[3]) == pytest.approx(score["logistic-resample-1-s0"], abs=0.006)
    assert cells[4] == "3" and float(cells[5].replace("\N{MINUS SIGN}", "-")) == pytest.approx(
        statistics.mean(differences), abs=0.006)
    assert " to " in cells[6] and " to " in cells[7]
    hours = sum(found[name]["processor_seconds"] for name in folders if name.startswith("logistic")) / 3600
    assert float(cells[9]) == pytest.approx(hours, abs=0.0006)
    before = {path: path.stat().st_mtime_ns for path in home.glob("*/*")}
    status, out, _ = run()
    assert status == 0 and "6 runs, 6 finished before" in out and text in out
    assert before == {path: path.stat().st_mtime_ns for path in home.glob("*/*")}
    assert "6 runs: 6 finished" in program(capfd)("status", "both-ntidigits")[1]

    study = collect.read("both-ntidigits")
    assert [row["title"] for row in tables.scores(study)] == ["feedforward", "logistic regression"]
    row, = tables.differences(study)
    assert row["n"] == 3 and 100 * row["mean"] == pytest.approx(-statistics.mean(differences))

    path = home / "logistic-official-s0" / "result.json"
    path.write_text(json.dumps(found["logistic-official-s0"] | {"settings": {"bins": 3, "ridge": 0.01}}))
    status, _, err = run()
    assert status == 2 and "holds another result: settings.bins: 3 != 10" in err and "delete that file" in err
    path.write_text("")
    status, _, err = run()
    assert status == 2 and "not JSON" in err and "delete that file" in err
    shutil.rmtree(home / "logistic-official-s0")
    (home / "logistic-official-s0").write_text("a file")
    status, _, err = run()
    assert status == 2 and "logistic-official-s0: no folder can be made there (File exists)" in err


@pytest.mark.parametrize("more, message", [
    (["--apart"], "does not go with the rows logistic, gru, which need a common folder"),
    (["--rows", "gru", "--peer-python", "no-such-python"], "gru: not computed. no-such-python")])
def test_what_methods_cannot(run, more, message):
    Path("both.toml").write_text(TOML + '[rows.gru]\ntitle = "GRU"\nmethod = "gru"\n')
    status, _, err = run(*more)
    assert status == 2 and message in err


@pytest.mark.parametrize("change, message", [
    (('method = "logistic"', 'method = "logistics"'), "rows.logistic: method: expected one of gru, lstm"),
    (('method = "logistic"', 'method = "logistic"\nset = "network.tied=false"'), "rows.logistic: method"),
    (('other_seeds = "0"', 'other_seeds = "x"'), "other_seeds: expected a seed, a range or a list")])
def test_bad_files(tmp_path, change, message):
    (tmp_path / "both.toml").write_text(TOML.replace(*change))
    with pytest.raises(InputError, match=message):
        plan.read(str(tmp_path / "both.toml"))


def test_methods_alone(tmp_path):
    """Where none of our networks has been asked for there is nothing to compare with, but the accuracies are there."""
    write(tmp_path, ())
    assert "no run has finished yet" in ranking.text([tmp_path])
    (tmp_path / "logistic-official-s0").mkdir()
    (tmp_path / "logistic-official-s0" / "result.json").write_text(json.dumps(PEER))
    text = ranking.text([tmp_path])
    assert "| test accuracy, % (pairs) | ntidigits, stand-in |" in text and "| regression | 25.00 (1) |" in text
    assert f"| regression | 1 | 25.00 | 25.00 | {' | '.join([ranking.NONE] * 6)} | 2.000 | 2.0000 |" in text
    assert "No run of our networks has finished yet" in text and "Left out" not in text
    (tmp_path / "logistic-official-s0" / "result.json").write_text(json.dumps(PEER | {"provenance": "real"}))
    assert "### ntidigits\n" in ranking.text([tmp_path])


def test_the_report_of_methods_alone(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    write(tmp_path, ())
    (tmp_path / "logistic-official-s0").mkdir()
    (tmp_path / "logistic-official-s0" / "result.json").write_text(json.dumps(PEER))
    assert report.run(SimpleNamespace(name=str(tmp_path))) == 0
    out = capsys.readouterr().out
    assert "| regression |" in out and "| 25.00 |" in out and "no run of our networks has finished yet" in out


def test_a_mean_of_what_is_there_and_what_is_not_is_named(tmp_path):
    """Two data sets, of which one has a row that the other lacks, and a third without a finished run."""
    events = toys.cache(tmp_path / "toy.h5")
    for name, rows in (("a", ("hrmas", "random")), ("b", ("hrmas",))):
        for row in rows:
            words = ["search.method=random"] if row == "random" else []
            toys.run(tmp_path / name / f"{row}-s0", toys.settings("training.search_epochs=2", *words), events)
        write(tmp_path / name, rows)
    shutil.copytree(tmp_path / "b", tmp_path / "c", ignore=shutil.ignore_patterns("hrmas-*"))
    (tmp_path / "a" / "logistic-official-s0").mkdir()
    (tmp_path / "a" / "logistic-official-s0" / "result.json").write_text(json.dumps(PEER))
    text = ranking.text([tmp_path / name for name in "abc"])
    study = collect.read(str(tmp_path / "a"))
    difference = next(row for row in tables.differences(study) if row["row"] == "logistic")
    ours = study.groups["hrmas", (12,)][0].accuracy
    assert difference["n"] == 1 and difference["mean"] == pytest.approx(0.25 - ours)
    assert tables.scores(study)[-1]["trained_weights"] == 7 and tables.scores(study)[-1]["neurons"] == []
    assert "| regression | 25.00 (1) | \N{EN DASH} |" in text
    assert f"| 1 | 25.00 | 25.00 | {ranking.NONE} | 1 | {tables.points(ours - 0.25)} | {ranking.NONE} |" in text
    assert "| 2.000 | 2.0000 |" in text
    score = {one: 100 * json.loads((tmp_path / one / "result.json").read_text())["test"]["accuracy"]
             for one in ("a/hrmas-s0", "a/random-s0", "b/hrmas-s0")}
    assert f"| row hrmas | {score['a/hrmas-s0']:.2f} (1) | {score['b/hrmas-s0']:.2f} (1) |" in text
    assert f"| row random | {score['a/random-s0']:.2f} (1) | {ranking.NONE} |" in text
    assert "Left out: " in text and "no run has finished yet" in text and "Not finished: random-s1." in text


def write(folder, rows):
    runs = {f"{row}-s0": {"row": row, "neurons": [12], "partition": "official", "seed": 0} for row in rows}
    if "random" in rows or not rows:
        runs["logistic-official-s0"] = {"row": "logistic", "neurons": [], "partition": "official", "seed": 0}
    runs["random-s1"] = {"row": "random", "neurons": [12], "partition": "official", "seed": 1}
    (folder / "experiment.json").write_text(json.dumps({
        "schema": 1, "experiment": "toy", "title": "toy", "paper": "", "baseline": "hrmas",
        "rows": {row: {"title": f"row {row}", "set": ""} for row in ("hrmas", "random")} | {
            "logistic": {"title": "regression", "set": "", "method": "logistic"}}, "runs": runs}))
