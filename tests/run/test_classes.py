"""What a run tells about its classes, its settings and its architecture: show, evaluate, warnings."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.run.classes import confusion_table, recall_table
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir, open_run
from hrmas_sparse.run.score import recall
from hrmas_sparse.run.summary import changed, summary
from hrmas_sparse.run.warnings import complaints_of_test
from hrmas_sparse.settings.load import load

CONFUSION = [[3, 1, 0], [0, 0, 0], [2, 0, 12]]


@pytest.fixture
def finished(house, capsys):
    assert cli.main([*toys.SEARCH, "--baseline", "off"]) == 0
    capsys.readouterr()
    return RunDir("runs/out/ntidigits-s0")


def test_recall():
    np.testing.assert_array_equal(recall(CONFUSION), [0.75, np.nan, 12 / 14])


def test_tables():
    assert recall_table(CONFUSION, ["a", "b", "long name"]) == [
        "class     samples recall decided", "a               4  75.0%       5", "b               0      -       1",
        "long name      14  85.7%      12"]
    assert confusion_table(CONFUSION, ["a", "b", "long name"]) == [
        "true         a    b long  <- decided", "a            3    1    .", "b            .    .    .",
        "long name    2    .   12"]


def test_classes_that_nobody_decides_for():
    sound = {"confusion": [[3, 1], [2, 2]], "output_rates": [0.1, 0.2]}
    assert complaints_of_test(sound, "ab") == [] == complaints_of_test({"confusion": sound["confusion"]}, "ab")
    never = [[3, 0, 0], [2, 0, 0], [1, 0, 0]]
    assert complaints_of_test({"confusion": never}, "abc") == ["classes b, c are never decided for"]
    assert complaints_of_test({"confusion": [[3, 0], [2, 0]]}, "ab") == ["class b is never decided for"]
    silent, = complaints_of_test(sound | {"output_rates": [0.1, 0.0005]}, "ab")
    assert silent == "the output neuron of class b nearly never spikes: less than 2 % of the mean"
    many = complaints_of_test({"confusion": np.diag([1, *[0] * 9]).tolist()}, "abcdefghij")
    assert many == ["classes b, c, d, e, f and 4 more are never decided for"]


def test_a_run_says_so(tmp_path):
    """A threshold that the output neurons never reach: all are silent, and the first class always wins."""
    run = toys.run(tmp_path / "run", toys.settings("network.v_th_out=1e6"), toys.cache(tmp_path / "toy.h5"))
    assert "warning: test: classes b, c are never decided for" in summary(run, run.result())
    assert run.result()["test"]["output_rates"] == [0.0, 0.0, 0.0]


def test_show(finished, capsys):
    assert cli.main(["show", "ntidigits-s0"]) == 0
    out, test = capsys.readouterr().out, finished.result()["test"]
    names = finished.manifest()["data"]["class_names"]
    assert "\n".join(recall_table(test["confusion"], names)) in out
    assert "\n".join(confusion_table(test["confusion"], names)) in out
    line, = re.findall("not as in preset default, profile paper: .*", out)
    assert "network.neurons = [6] (theirs: [" in line and "training.batch = 8 (theirs: " in line
    assert "learning" not in line and "training.lr" not in line and "architecture of" not in out


def test_show_says_whose_architecture_it_is(finished, capsys):
    assert cli.main(["retrain", "ntidigits-s0", "--name", "again", "--baseline", "off"]) == 0
    assert cli.main(["show", "again"]) == 0
    assert f"architecture of {finished.path}" in capsys.readouterr().out
    assert cli.main(["retrain", "again", "--name", "third", "--seeds", "1", "--baseline", "off"]) == 0
    assert open_run("third").manifest()["architecture_of"] == "runs/out/again"


def test_settings_that_were_changed():
    settings = load("ti46", overrides={"training.lr": 0.5, "network.neurons": [400]})
    assert changed(settings) == [f"network.neurons = [400] (theirs: {list(load('ti46').network.neurons)})",
                                 f"training.lr = 0.5 (theirs: {load('ti46').training.lr})"]
    assert changed(load("ti46", preset="accurate")) == []


@pytest.mark.parametrize("split", ["test", "train"])
def test_evaluate_for_programs(finished, capsys, split):
    assert cli.main(["evaluate", "ntidigits-s0", "--split", split, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    result = finished.result()[split]
    assert (found["accuracy"], found["samples"], found["split"]) == (result["accuracy"], result["samples"], split)
    assert found["accuracy"] == np.mean([one["class"] == one["decided"] for one in found["predicted"]])
    assert list(found["recall"]) == found["class_names"] and len(found["confusion"]) == len(found["class_names"])
    assert cli.main(["evaluate", "ntidigits-s0", "--split", split, "--csv"]) == 0
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["id", "class", "decided"]
    assert rows == [[one["id"], one["class"], one["decided"]] for one in found["predicted"]]


def test_runs_of_before_compare_with_runs_of_now(finished, tmp_path):
    """Keys that came later count where both have them."""
    shutil.copytree(finished.path, tmp_path / "old")
    old, whole = RunDir(tmp_path / "old"), finished.result()
    assert "output_rates" in whole["test"]
    for change, expected in ((None, []), ([9.0] * len(whole["test"]["output_rates"]), ["result.json"])):
        test = {key: value for key, value in whole["test"].items() if key != "output_rates"}
        test |= {} if change is None else {"output_rates": change}
        old.result_path.write_text(json.dumps(whole | {"test": test}))
        assert exact_differences(old, finished) == expected
