import multiprocessing
import os
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep import prepare, synthetic
from hrmas_sparse.search import counts
from hrmas_sparse.search.counts import count_baseline, count_features
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache
from hrmas_sparse.data.events import Events


def settings(**change):
    fields = {"dataset": "ntidigits", "encoding": "bin", "value": "binary", "steps": 300, "partition": "official"}
    return SimpleNamespace(**(fields | change))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("standin")


@pytest.fixture(scope="module")
def cache(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        return open_cache(prepare(settings(), None, folder / "cache", say=lambda line: None))
    finally:
        os.chdir(before)


def test_it_is_balanced_and_says_what_it_is(cache):
    assert cache.meta.provenance == "synthetic stand-in"
    assert np.bincount(cache.train.labels).tolist() == [40] * 11
    assert np.bincount(cache.test.labels).tolist() == [20] * 11
    names = cache.ids("train") + cache.ids("test")
    assert len(set(names)) == 660 and "woman-ab-a-3" in names
    train, test = ({name.split("-")[1] for name in cache.ids(split)} for split in ("train", "test"))
    assert train and test and not train & test


def test_density_is_alike_in_all_classes(cache):
    counts = np.diff(cache.train.indptr)
    mean = np.array([counts[cache.train.labels == label].mean() for label in range(11)])
    assert 0.035 < counts.mean() / (300 * 64) < 0.065
    assert np.ptp(mean) < 0.06 * mean.mean()


def test_counts_alone_do_not_tell_classes_apart_but_time_does(cache):
    assert count_baseline(cache) <= 0.4
    assert count_baseline(cache, bins=10) > 0.85


def test_the_same_seed_is_the_same_file(tmp_path):
    one, two, other = (tmp_path / name for name in "ABC")
    for path, seed in ((one, 0), (two, 0), (other, 1)):
        synthetic.write(path, seed)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_one_loud_line_and_no_stand_in_if_strict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    prepare(settings(), None, tmp_path / "cache", say=said.append)
    loud = [line for line in said if "SYNTHETIC STAND-IN" in line]
    assert len(loud) == 1 and "\n" not in loud[0]
    assert all(part in loud[0] for part in ("data/raw/ntidigits/n-tidigits.hdf5", "STRICT=1", "--strict", "RAW="))
    with pytest.raises(InputError, match="data/raw/ntidigits/n-tidigits.hdf5: no such file"):
        prepare(settings(), None, tmp_path / "cache", strict=True)
    with pytest.raises(InputError, match="nowhere"):
        prepare(settings(), tmp_path / "nowhere", tmp_path / "cache")


def test_given_as_raw_it_is_still_a_stand_in(folder, cache, tmp_path):
    raw = folder / "cache" / "synthetic-ntidigits-0.hdf5"
    said = []
    path = prepare(settings(), raw, tmp_path, say=said.append)
    assert open_cache(path).meta.provenance == "synthetic stand-in" and "synthetic stand-in" in "".join(said)
    with pytest.raises(InputError, match="STRICT=1"):
        prepare(settings(), raw, tmp_path, strict=True)


def test_it_is_made_once_and_again_if_broken(folder, cache, tmp_path):
    path = synthetic.stand_in(tmp_path, 0)
    whole, made = path.read_bytes(), path.stat().st_mtime_ns
    assert synthetic.stand_in(tmp_path, 0).stat().st_mtime_ns == made
    path.write_bytes(whole[:1000])
    assert synthetic.stand_in(tmp_path, 0).read_bytes() == whole
    assert synthetic.stand_in(tmp_path, 1) != path


def test_a_failure_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_word", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        synthetic.stand_in(tmp_path, 0)
    assert os.listdir(tmp_path) == []


def _prepare(folder):
    return prepare(settings(steps=100), folder / "cache" / "synthetic-ntidigits-0.hdf5", folder / "two", say=id)


def test_two_processes_build_the_same_cache(folder, cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(_prepare, [folder, folder], chunksize=1)
    assert one == two and os.listdir(folder / "two") == [one.name]


@pytest.mark.parametrize("block", [1000, 2])
def test_count_features(monkeypatch, block):
    monkeypatch.setattr(counts, "_BLOCK", block)
    events = Events(
        indptr=np.array([0, 3, 3, 4]),
        step=np.array([0, 4, 9, 5], np.uint16),
        channel=np.array([1, 1, 0, 2], np.uint16),
        value=np.array([1, 2, 3, 4], np.uint8),
        labels=np.array([0, 0, 0]),
        steps=10,
        channels=3,
    )
    assert count_features(events, 1).toarray().tolist() == [[3, 3, 0], [0, 0, 0], [0, 0, 4]]
    assert count_features(events, 2).toarray().tolist() == [[0, 3, 0, 3, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 4]]
