"""Run folders of version 0.1.0 (commit de01b2d), made before parameters and metrics had their present form.

Their settings are ``toys.settings(*OWN)``, their data is ``toys.cache``; ``begun`` was killed in its second phase.
"""

import json
import shutil
from pathlib import Path

import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.networks import load_trained
from hrmas_sparse.run.score import evaluate
from hrmas_sparse.run.summary import summary
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import InputError

OLD = Path(__file__).parent / "old_runs"
OWN = ("training.search_epochs=2", "training.retrain_epochs=1", "training.schedule=constant", "plasticity.mode=window")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


@pytest.fixture
def begun(tmp_path):
    shutil.copytree(OLD / "begun", tmp_path / "begun")
    return RunDir(tmp_path / "begun")


def test_a_finished_one_is_read(events, capsys):
    run = RunDir(OLD / "finished")
    result = run.result()
    assert "\n".join(summary(run, result)).startswith("ntidigits, seed 0, preset default, profile demo")
    score = evaluate(*load_trained(run), events.test)
    assert score.accuracy == result["test"]["accuracy"] and score.confusion == result["test"]["confusion"]
    assert score.loss == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert exact_differences(run, run) == []
    assert cli.main(["show", str(run.path)]) == 0 and "test accuracy" in capsys.readouterr().out


def test_an_interrupted_one_goes_on_to_the_same_end(begun, events):
    position = arrayfile.load(begun.checkpoint_path, "checkpoint")[1]["position"]
    assert position["phase"] == "search-2" and position["sums"]
    run, finished = toys.run(begun.path, toys.settings(*OWN), events), RunDir(OLD / "finished")
    assert run.architecture_path.read_text() == finished.architecture_path.read_text()
    assert run.result()["test"]["confusion"] == finished.result()["test"]["confusion"]
    for ours, theirs in zip(run.metrics(), finished.metrics(), strict=True):
        assert ours.keys() == theirs.keys() and ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_one_that_does_not_fit_any_more_names_its_version(begun, events):
    arrays, meta = arrayfile.load(begun.checkpoint_path, "checkpoint")
    arrays["parameters/rec1.theta"] = arrays.pop("parameters/rec1.alpha_2", arrays.pop("parameters/rec1.alpha_3", None))
    arrayfile.save(begun.checkpoint_path, "checkpoint", arrays, meta)
    manifest = json.loads(begun.manifest_path.read_text())
    manifest["versions"]["hrmas_sparse"] = "0.0.7"
    begun.manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="arrays missing or too many.*made by hrmas_sparse 0.0.7, this is [0-9.]+;"):
        toys.run(begun.path, toys.settings(*OWN), events)


NO_LINKS = dict.fromkeys(("possible", "excitatory", "inhibitory", "none", "dense"), 0)


@pytest.mark.parametrize("file, changes, use, message", [
    ("result", {"recurrence": [None]}, RunDir.result, "expected the connections of every hidden layer"),
    ("result", {"recurrence": [NO_LINKS]}, RunDir.result, "expected the connections of every hidden layer"),
    ("diagnosis", {"reset": None}, RunDir.diagnosis, "reset, adapted: expected both or neither"),
    ("diagnosis", {"adapted": None}, RunDir.diagnosis, "reset, adapted: expected both or neither"),
    ("manifest", {"v_th": None}, load_trained, "v_th: expected the thresholds the run began with, found none"),
])
def test_files_that_contradict_each_other(tmp_path, capsys, file, changes, use, message):
    shutil.copytree(OLD / "finished", tmp_path / "run")
    path = tmp_path / "run" / f"{file}.json"
    found = json.loads(path.read_text()) | changes
    if file == "manifest":
        found["config"]["network"]["v_th"] = None
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=message):
        use(RunDir(tmp_path / "run"))
    if use is not load_trained:
        assert cli.main(["show", str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err


def test_a_run_older_than_a_setting_is_the_same_run(tmp_path):
    """Its settings lack the key; with the default it is what it was, with anything else it is not."""
    events = toys.cache(tmp_path / "toy.h5")
    old, new, other = (toys.run(tmp_path / name, toys.settings(*more), events) for name, more in (
        ("old", ()), ("new", ()), ("other", ("search.candidate_epochs=5",))))
    manifest = json.loads(old.manifest_path.read_text())
    del manifest["config"]["network"]["windows"], manifest["config"]["search"]["candidate_epochs"]
    old.manifest_path.write_text(json.dumps(manifest))
    assert exact_differences(old, new) == exact_differences(new, old) == []
    assert "manifest.json: config" in exact_differences(old, other)
