"""The methods we are compared with: what needs no PyTorch, and a smoke test of what does where .venv-bench is there."""

import json
import os
import subprocess

import numpy as np
import pytest
from event_files import write_nmnist

from hrmas_sparse import cli
from hrmas_sparse.data.events import Events
from hrmas_sparse.settings.validators import partitions, seeds
from hrmas_sparse.storage.errors import InputError
from runs.comparison import compare, inputs, jobs, tables, worker

NO_PYTHON = ["--peer-python", "no-such-python"]


@pytest.fixture
def nmnist(tmp_path, monkeypatch):
    """Recordings to be compared on, and an empty folder to work in."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_nmnist(raw, [("Train" if i % 3 else "Test", i % 2, f"{i:05d}") for i in range(48)])
    monkeypatch.chdir(tmp_path)
    return ["nmnist", "--raw", str(raw)]


def hrmas_compare(*words):
    return cli.main(["compare", *words])


def results(tmp_path, folder="compare-nmnist"):
    return {path.parent.name: json.loads(path.read_text())
            for path in (tmp_path / "runs" / "out" / folder).glob("*/result.json")}


def events():
    """Two samples: 10 steps, 3 channels."""
    return Events(indptr=np.array([0, 3, 4]), step=np.array([0, 4, 5, 9], np.uint16),
                  channel=np.array([1, 1, 2, 0], np.uint16), value=np.array([1, 2, 1, 5], np.uint8),
                  labels=np.array([0, 1]), steps=10, channels=3)


def test_binned():
    found = inputs.binned(events(), 2)
    np.testing.assert_array_equal(found, [[[0, 3, 0], [0, 0, 1]], [[0, 0, 0], [5, 0, 0]]])
    assert found.dtype == np.float32
    fine = inputs.binned(events(), 10)
    assert fine.shape == (2, 10, 3) and fine[0, 4, 1] == 2 and fine.sum() == 9


def test_bins_that_do_not_divide_the_steps_lose_nothing():
    for bins in (3, 4, 7):
        assert inputs.binned(events(), bins).sum() == 9


def test_root_mean_square():
    assert inputs.root_mean_square(events(), 2) == pytest.approx(((9 + 1 + 25) / 12) ** 0.5)
    silent = Events(*(np.zeros(n, np.int64) for n in (2, 0, 0, 0, 1)), steps=10, channels=3)
    assert inputs.root_mean_square(silent, 2) == 1


def test_partitions_and_seeds():
    assert partitions("official,resample-1..3 resample-2") == ["official", "resample-1", "resample-2",
                                                                    "resample-3"]
    assert seeds("0-2,5,1") == [0, 1, 2, 5]
    for bad in ("", "-1", "2-1", "a"):
        with pytest.raises(ValueError, match="a seed"):
            seeds(bad)


def test_every_setting_tried_and_chosen_can_be_read():
    for method in worker.METHODS:
        title, each = jobs.trials(method)
        assert title and len(each) > 3
        assert len({json.dumps(one, sort_keys=True) for one in each}) == len(each), "a setting is tried twice"
        for dataset in ("ti46", "nmnist", "fsdd", "ntidigits", "dvsgesture"):
            assert jobs.chosen(method, dataset)[1].keys() == each[0].keys()


def test_a_misspelt_change_is_refused():
    with pytest.raises(InputError, match="unknown hiden; there are"):
        jobs._changed({"hidden": 1}, {"hiden": 2}, "methods.toml [gru]")


@pytest.mark.parametrize("text, message", [
    ("logistic = 3", r"own.toml: logistic: expected a table \[logistic\], found 3"),
    ("[grus]\nbins = 5", r"unknown section \[grus\]; there are gru, lstm, snntorch, norse, logistic; nearest: gru"),
    ("[gru]\nhiden = 5", r"own.toml \[gru\]: unknown hiden; .*; nearest: hidden"),
    ("[gru]\nbins = 10", r"expected a section \[logistic\] or \[snntorch\], found \[gru\]"),
    ("", r"expected a section \[logistic\] or \[snntorch\], found none"),
    ("[logistic]\nbins = 'x'", "bins: expected a value such as 10, found 'x'"),
    ("[logistic]\nbins = 0", "bins: expected a whole number of at least 1"),
    ("[logistic]\nridge = true", "ridge: expected a value such as 0.01, found True"),
    ("[logistic]\nridge = nan", "ridge: expected a finite number of at least 0"),
    ("[gru]\nhidden = [1]", r"hidden: expected a value such as 256, found \[1\]"),
    ("[gru]\ndropout = 1.5", "dropout: expected a finite number of at least 0 and at most 1"),
    ("[snntorch]\nsurrogate = 'attan'", "surrogate: expected one of .*atan"),
    ("[snntorch]\nlearn = 1", "learn: expected a value such as True, found 1"),
])
def test_mistakes_in_a_file_of_settings(tmp_path, text, message):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        jobs.own(tmp_path / "own.toml", ["logistic", "snntorch"])


def test_a_file_of_settings_changes_what_it_names(tmp_path):
    (tmp_path / "own.toml").write_text("[logistic]\nridge = 1\n[gru]\nhidden = 5\nshift_steps = 0")
    changes = jobs.own(tmp_path / "own.toml", ["logistic"])
    assert jobs.chosen("logistic", "ti46", changes["logistic"])[1] == jobs.chosen("logistic", "ti46")[1] | {"ridge": 1}
    assert changes["gru"] == {"hidden": 5, "shift_steps": 0}


def test_logistic_regression_on_every_partition_and_seed(nmnist, tmp_path, capsys):
    command = [*nmnist, "--methods", "logistic", "--seeds", "0-1", "--partitions", "official,resample-1", *NO_PYTHON]
    assert hrmas_compare(*command) == 0
    found = results(tmp_path)
    assert set(found) == {f"logistic-{p}-s{s}" for p in ("official", "resample-1") for s in (0, 1)}
    one = found["logistic-official-s1"]
    assert one["method"] == "logistic" and one["partition"] == "official" and one["seed"] == 1
    assert one["settings"] == jobs.chosen("logistic", "nmnist")[1] and one["test"]["samples"] == 16
    assert 0 <= one["test"]["accuracy"] <= 1 and one["train"]["samples"] == 32 and one["versions"]["numpy"]
    assert one["provenance"] == "real" and one["data"]["dataset"] == "nmnist"
    assert "| logistic regression |" in capsys.readouterr().out


def test_what_is_there_is_kept_and_what_is_missing_computed(nmnist, tmp_path, capsys, monkeypatch):
    command = [*nmnist, "--methods", "logistic", "--seeds", "0-1", *NO_PYTHON]
    assert hrmas_compare(*command) == 0
    folder = tmp_path / "runs" / "out" / "compare-nmnist"
    before = (folder / "logistic-official-s1" / "result.json").stat().st_mtime_ns
    (folder / "logistic-official-s0" / "result.json").unlink()
    capsys.readouterr()
    assert hrmas_compare(*command) == 0
    assert "1 of 2 results are there, 1 to compute" in capsys.readouterr().out
    assert (folder / "logistic-official-s1" / "result.json").stat().st_mtime_ns == before
    assert len(results(tmp_path)) == 2
    assert hrmas_compare(*command, "--fresh") == 0
    assert (folder / "logistic-official-s1" / "result.json").stat().st_mtime_ns > before


def test_a_result_of_other_settings_is_not_taken_for_ours(nmnist, capsys):
    command = [*nmnist, "--methods", "logistic", *NO_PYTHON]
    assert hrmas_compare(*command) == 0
    assert hrmas_compare(*command, "--set", "data.value=count") == 2
    assert "holds another result: data.value: 'binary' != 'count'. Give another --name" in capsys.readouterr().err
    assert hrmas_compare(*command, "--set", "data.value=count", "--name", "counts") == 0


def test_results_from_before_samples_could_be_stretched_are_kept(tmp_path):
    """Not stretched is what they are; stretched they are others."""
    settings = jobs.chosen("gru", "ti46")[1]
    before = {key: value for key, value in settings.items() if key != "stretch"}
    assert settings["stretch"] == 0 and len(before) == len(settings) - 1
    job = {"method": "gru", "title": "GRU", "settings": settings, "data": {}, "partition": "official", "seed": 0,
           "fingerprint": "f", "folder": str(tmp_path)}
    score = {"accuracy": 0.5, "samples": 2}
    (tmp_path / "result.json").write_text(json.dumps(
        {**job, "settings": before, "test": score, "train": score, "trained_weights": 1, "seconds": {"train": 1.0}}))
    assert jobs.result(job)["settings"] == settings and jobs._key(settings) == jobs._key(before)
    stretched = settings | {"stretch": 0.1}
    assert jobs._key(stretched) != jobs._key(settings)
    with pytest.raises(InputError, match="holds another result: settings.stretch: None != 0.1"):
        jobs.result(job | {"settings": stretched})


def test_an_interruption_keeps_what_is_computed(nmnist, tmp_path, capsys, monkeypatch):
    compute, computed = worker.compute, []

    def stopped(job):
        if computed:
            raise KeyboardInterrupt
        computed.append(job)
        return compute(job)

    command = [*nmnist, "--methods", "logistic", "--seeds", "0-1", *NO_PYTHON]
    monkeypatch.setattr(worker, "compute", stopped)
    assert hrmas_compare(*command) == 130 and len(results(tmp_path)) == 1
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(worker, "compute", compute)
    assert hrmas_compare(*command) == 0 and len(results(tmp_path)) == 2


def test_trials_see_the_training_part_alone(nmnist, tmp_path, capsys):
    command = [*nmnist, "--methods", "logistic", "--trials", *NO_PYTHON]
    assert hrmas_compare(*command, "--partitions", "official") == 2
    assert "settings are chosen on the training part alone" in capsys.readouterr().err
    assert hrmas_compare(*command) == 0
    found = results(tmp_path, "compare-nmnist-trials").values()
    assert {one["partition"] for one in found} == {"valid-1", "valid-2"}
    assert all(one["train"]["samples"] + one["test"]["samples"] == 32 for one in found)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + len(jobs.trials("logistic")[1])


@pytest.mark.parametrize("wrong, message", [
    (["--methods", "gruu"], "expected some of gru, lstm, snntorch, norse, logistic, found 'gruu'; nearest: gru"),
    (["--partitions", "resampled-1"], "data.partition: expected"),
    (["--partitions", ","], "--partitions: expected partitions, such as official or resample-1..4; found ','"),
    (["--methods", ","], "--methods: expected some of gru, lstm, snntorch, norse, logistic, found ','"),
    (["--seeds", "x"], "--seeds: expected a seed"),
    (["--trials", "--settings", "own.toml"], "--settings: does not go with --trials"),
    (["--settings", "own.toml"], "own.toml: "),
    (["--name", "../elsewhere"], "--name: expected a plain name of at most 200 bytes, found '../elsewhere'"),
    (["--set", "data.steps=30 training.lr=1"], "--set: training.lr: these methods take settings of [data] alone"),
    (["--set", "data.partition=resample-1"], "--set: data.partition: here it is --partitions"),
    (["--methods", "gru", *NO_PYTHON], "gru: not computed. no-such-python: No such file"),
])
def test_mistakes_are_one_line(nmnist, capsys, wrong, message):
    assert hrmas_compare(*nmnist, *wrong) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith("hrmas: ") and message in line], errors


def test_tables():
    def one(partition, seed, accuracy, **settings):
        return {"method": "m", "title": "M", "settings": {"a": 1, "b": 2, **settings}, "partition": partition,
                "seed": seed, "test": {"accuracy": accuracy}, "train": {"accuracy": 1.0}, "seconds": {"train": 2.0}}
    text = tables.scored([one("official", 0, 0.9), one("official", 1, 0.8), one("resample-1", 0, 0.5)])
    assert "| M | 85.00 ± 7.07 | 50.00 |" in text
    text = tables.tried([one(p, 0, x, **s) for s in ({}, {"b": 3}) for p, x in (("valid-1", 0.4), ("valid-2", 0.6))])
    assert "M: a 1, b 2" in text and "| b 3 | 40.00 | 60.00 | 50.00 | 100.00 | 2 |" in text


@pytest.fixture(scope="module")
def peer_python():
    """A Python with PyTorch: that of .venv-bench, or PEER_PYTHON."""
    python = os.environ.get("PEER_PYTHON", str(compare.PYTHON))
    skip_without(python, "gru")
    return python


def skip_without(python, method):
    """Leave out a test where a Python lacks what a method needs."""
    why = compare._missing(python, method)
    if why:
        pytest.skip(f"{method.upper()} NOT TESTED: {why}; make .venv-bench/installed, or give PEER_PYTHON")


@pytest.mark.parametrize("method, change", [
    ("gru", {"bidirectional": True}), ("lstm", {}), ("norse", {"hidden": 32, "epochs": 12}),
    ("snntorch", {"hidden": 32, "epochs": 12, "alpha": 0.0, "surrogate": "fast_sigmoid"}),
    ("snntorch", {"hidden": 32, "epochs": 12, "alpha": 0.5, "learn": True, "surrogate": "atan", "slope": 2.0}),
], ids=["gru", "lstm", "norse", "rleaky", "rsynaptic"])
def test_networks_learn_a_little_and_again_the_same(method, change, peer_python, stand_in, monkeypatch):
    skip_without(peer_python, method)
    monkeypatch.chdir(stand_in)
    title, settings = jobs.chosen(method, "ntidigits")
    settings = {**settings, "bins": 10, "hidden": 16, "epochs": 4, "lr": 1e-2, **change}
    monkeypatch.setattr(jobs, "chosen", lambda *_: (title, settings))
    found = []
    for words in ("0-1", "0"):
        command = ["ntidigits", "--methods", method, "--peer-python", peer_python, "--seeds", words, "--fresh"]
        assert hrmas_compare(*command) == 0
        found.append(results(stand_in, "compare-ntidigits"))
    first, other, again = (found[n][f"{method}-official-s{seed}"] for n, seed in ((0, 0), (0, 1), (1, 0)))
    assert first["provenance"] == "synthetic stand-in" and first["test"]["samples"] == 220
    assert first["train"]["accuracy"] > 1.5 * first["chance"]
    assert first["train"] == again["train"] and first["test"] == again["test"]
    assert first["train"] != other["train"], "the seed does nothing"
    assert first["versions"]["torch"] and first["settings"] == settings


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A folder to work in that keeps its cache of the stand-in."""
    return tmp_path_factory.mktemp("stand-in")


def test_only_the_worker_loads_networks(peer_python):
    loaded = subprocess.run([peer_python, "-c", "import runs.comparison.worker, sys; print('torch' in sys.modules)"],
                            capture_output=True, text=True, env=compare.surroundings(), check=True)
    assert loaded.stdout.strip() == "False"
