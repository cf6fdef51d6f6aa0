"""Data by name or file, for every command and for Python."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import hrmas_sparse as hs
from data_prep.load import configured, load_dataset, prepared
from hrmas_sparse.cli import main
from hrmas_sparse.settings.load import datasets, load
from hrmas_sparse.storage.errors import InputError
from spike_files import shd_file, sweeps

LABELS = np.arange(24) % 3


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with own.h5, words.h5 (of a known name's form) and spikes.h5 in the form of SHD."""
    monkeypatch.chdir(tmp_path)
    x, labels = sweeps(40)
    hs.Dataset(hs.Events.from_dense(x, labels)).split(0.3).save("own.h5")
    shd_file("spikes.h5", LABELS, keys=["a", "b", "c"])
    return tmp_path


@pytest.mark.parametrize("overrides, parts", [
    (["data.encoding=bin"], ["data.encoding: expected 'bsa' or 'intensity'", "ti46", "found 'bin'"]),
    (["data.partition=ab"], ["data.partition: expected official, resample-1 or the like for ti46", "found 'ab'"])])
def test_what_a_reader_cannot_make_is_refused_before_anything_is_read(overrides, parts):
    for refused in (lambda: configured("ti46", overrides=overrides),
                    lambda: prepared(load("ti46", overrides=overrides), "nowhere")):
        with pytest.raises(InputError) as error:
            refused()
        assert all(part in str(error.value) for part in parts), error.value
    assert configured("ntidigits", overrides=["data.partition=ab"]).data.partition == "ab"


def test_every_data_set_has_a_reader_and_settings():
    from data_prep import READERS
    assert set(READERS) == set(datasets()) >= {"shd", "ssc", "ti46"}
    for name, reader in READERS.items():
        assert configured(name).data.encoding in reader.ENCODINGS and len(reader.WHOLE) == 2
        assert getattr(reader, "REMOTES", ()) or reader.BY_HAND
        grid = getattr(reader, "GRID", None)
        assert grid is None or np.prod(grid) == reader.CHANNELS


def test_the_settings_of_a_saved_data_set(here):
    settings = configured("own.h5", overrides=["network.neurons=[16]"])
    assert settings.data.dataset == "own" and settings.data.encoding == "given" and settings.data.steps == 40
    assert settings.network.v_th is None and settings.network.neurons == (16,)
    assert configured("own.h5", overrides=["data.partition=valid-2"]).data.partition == "valid-2"
    with pytest.raises(InputError, match="spikes.h5: expected a saved data set, found spikes in .*data import"):
        configured("spikes.h5")
    with pytest.raises(InputError, match="nothing.h5: no such file; a spike cache"):
        configured("nothing.h5")


def test_partitions_of_a_saved_data_set_are_drawn(here):
    whole = hs.load_dataset("own.h5")
    drawn = prepared(configured("own.h5", overrides=["data.partition=valid-1"]), "own.h5", say=lambda line: None)
    assert len(drawn.train) + len(drawn.test) == len(whole.train) and drawn.path != whole.path
    assert drawn.meta.encoding["partition"] == "valid-1" and drawn.meta.fingerprint == whole.meta.fingerprint
    again = prepared(configured("own.h5", overrides=["data.partition=valid-1"]), "own.h5", say=lambda line: None)
    assert again.path == drawn.path


def test_a_saved_data_set_is_taken_as_it_is(here):
    settings = configured("own.h5")
    with pytest.raises(InputError, match="data.steps: expected 40, that of own.h5, found 39"):
        configured("own.h5", overrides=["data.steps=39"])
    with pytest.raises(InputError, match="own.h5: expected data.encoding 'bsa', found 'given', data.steps 100"):
        prepared(load("ti46"), "own.h5")
    hs.Dataset(hs.load_dataset("own.h5").train).save("train.h5")
    with pytest.raises(InputError, match="train.h5: has no test sample; .*split"):
        prepared(settings, "train.h5", say=lambda line: None)


def test_load_dataset(here):
    data = load_dataset("own.h5")
    assert data.path == Path("own.h5") and (len(data.train), len(data.test)) == (28, 12)
    spikes = load_dataset("spikes.h5")
    assert (spikes.meta.steps, spikes.class_names, spikes.test) == (100, ("a", "b", "c"), None)
    with pytest.raises(InputError, match="expected one of .*shd"):
        load_dataset("shdd")
    with pytest.raises(InputError, match="ti46"):
        load_dataset("ti46", raw="nowhere")


def test_import_by_command(here, capsys):
    assert main("data import spikes.h5 --out a.h5 --steps 50 --step-ms 20".split()) == 0
    assert hs.load_dataset("a.h5").meta.steps == 50 and "has no test part" in capsys.readouterr().out
    assert main("data import spikes.h5 spikes.h5 --out b.h5 --channels 33".split()) == 0
    assert hs.load_dataset("b.h5").test.channels == 33
    x, labels = sweeps(12)
    sample, step, channel = np.nonzero(x)
    np.savez("c.npz", sample=sample, step=step, channel=channel, label=labels, split=np.arange(12) % 3 == 0)
    assert main("data import c.npz --out c.h5".split()) == 0
    found = hs.load_dataset("c.h5")
    np.testing.assert_array_equal(found.test.dense(), x[::3, :found.meta.steps, :found.meta.channels])
    np.savez("d.npz", sample=sample, step=step, channel=channel, label=labels)
    assert main("data import d.npz d.npz --out d.h5".split()) == 0
    assert len(hs.load_dataset("d.h5").test) == 12
    assert main("data info d.h5".split()) == 0 and main("data verify d.h5".split()) == 0
    assert "12 train, 12 test samples" in capsys.readouterr().out


@pytest.mark.parametrize("words, part", [
    ("data import", "expected one file, or two"), ("data import spikes.h5", "where to? For example --out own.h5"),
    ("data import spikes.h5 --out spikes.h5", "is there and no spike cache"), ("data import x.npz --out y.h5", "x.npz"),
    ("data import x.txt --out y.h5", "expected .npz or .h5 files"), ("data info a b", "expected one data set or file"),
    ("data import own.h5 --out y.h5", "found no spikes/units"), ("search spikes.h5", "data import"),
    ("data import spikes.h5 --out own.h5", "own.h5: is there already; --fresh replaces it"),
    ("data import spikes.h5 spikes.h5 --test spikes.h5 --out y.h5", "expected one file, or two"),
    ("search nix.h5", "nix.h5: no such file; a spike cache is made by"),
    ("search nix.npz", "found a name of flat arrays; make one of them: hrmas data import nix.npz --out nix.h5"),
    ("data import milli.h5 --out y.h5", "spikes past the 1 s of all steps, the last at 9"),
])
def test_import_that_is_refused(here, capsys, words, part):
    if "milli" in words:
        shd_file("milli.h5", [0, 1, 2])
        with h5py.File("milli.h5", "r+") as file:
            for n in range(3):
                file["spikes/times"][n] = file["spikes/times"][n] * 1000
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1


def test_a_part_that_is_not_there(here, capsys):
    """A saved set without a test part has none when it is opened; one class is said to be one."""
    assert main("data import --out a.h5 spikes.h5".split()) == 0         # an option may come first
    assert hs.load_dataset("a.h5").test is None
    assert main("data verify a.h5".split()) == 0 and main("data info a.h5".split()) == 0
    capsys.readouterr()
    for more in ((), ("--set", "data.partition=resample-1")):
        assert main(["search", "a.h5", *more]) == 2
        assert capsys.readouterr().err.startswith("hrmas: a.h5: has no test sample; in Python, Dataset.split makes")
    assert main("data import spikes.h5 --test spikes.h5 --out a.h5 --fresh".split()) == 0
    assert len(hs.load_dataset("a.h5").test) == len(hs.load_dataset("a.h5").train)
    np.savez("one.npz", sample=[0, 1], step=[0, 1], channel=[0, 1], label=[0, 0])
    capsys.readouterr()
    assert main("data import one.npz --out one.h5".split()) == 0
    assert "every training sample is of one class" in capsys.readouterr().out


def test_spikes_instead_of_a_saved_set(here, capsys):
    """hrmas evaluate --raw spikes.h5"""
    own = configured("own.h5")
    with pytest.raises(InputError, match="spikes.h5: expected a saved data set, found spikes in seconds; make one"):
        prepared(own, "spikes.h5")


@pytest.mark.slow
def test_own_data_for_every_command(here, capsys):
    small = ["--set", "network.neurons=[16] training.search_epochs=2 training.retrain_epochs=2 training.batch=8"]
    assert main(["search", "own.h5", *small]) == 0
    assert main("evaluate own-s0".split()) == 0 and main("evaluate own-s0 --raw own.h5 --split train".split()) == 0
    assert main("retrain own-s0".split()) == 0
    assert main(["experiment", "table3", "--data", "own.h5", "--seeds", "0", "--rows", "hrmas fully-connected",
                 "--jobs", "1", *small]) == 0
    assert main("compare own.h5 --methods logistic".split()) == 0
    assert "accuracy" in capsys.readouterr().out
