"""Drawn partitions of a data set."""

from collections import Counter

import numpy as np
import pytest
from event_files import settings, write_nmnist

from data_prep.load import configured
from data_prep import prepare
from hrmas_sparse.settings.load import load
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache

FILES = [("Train" if i % 3 else "Test", i % 10, f"{i:05d}") for i in range(150)]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    raw, root = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("cache")
    write_nmnist(raw, FILES)

    def built(name):
        data = load("nmnist", overrides=[f"data.partition={name}"]).data
        path = prepare(data, raw, root, say=lambda line: None)
        verify_cache(path)
        return open_cache(path)
    return built


def content(cache, split):
    """{official id: (label, events)}"""
    events = getattr(cache, split)
    return {name: (int(events.labels[n]), *(getattr(events, key)[events.indptr[n]:events.indptr[n + 1]].tobytes()
                                           for key in ("step", "channel", "value")))
            for n, name in enumerate(cache.ids(split))}


def official(build):
    cache = build("official")
    return {split: {f"{split}/{name}": x for name, x in content(cache, split).items()} for split in ("train", "test")}


def test_a_resampling_deals_every_sample_once_and_keeps_the_sizes(build):
    whole, drawn = official(build), build("resample-1")
    train, test = content(drawn, "train"), content(drawn, "test")
    assert {**train, **test} == {**whole["train"], **whole["test"]} and not train.keys() & test.keys()
    for split, found in (("train", train), ("test", test)):
        assert Counter(x[0] for x in found.values()) == Counter(x[0] for x in whole[split].values())
    assert any(name.startswith("train/") for name in test) and any(name.startswith("test/") for name in train)
    assert content(build("resample-2"), "test") != test


def test_a_validation_split_never_sees_the_test_part(build):
    whole, drawn = official(build), build("valid-1")
    train, test = content(drawn, "train"), content(drawn, "test")
    assert {**train, **test} == whole["train"] and not train.keys() & test.keys()
    each = Counter(x[0] for x in whole["train"].values())
    assert Counter(x[0] for x in test.values()) == {label: n // 4 for label, n in each.items()}


@pytest.mark.parametrize("name, needs_test", [("valid-1", False), ("official", True), ("resample-1", True)])
def test_a_validation_split_needs_no_official_test_part(tmp_path, name, needs_test):
    write_nmnist(tmp_path / "raw", [key for key in FILES if key[0] == "Train"])
    data = load("nmnist", overrides=[f"data.partition={name}"]).data
    if needs_test:
        with pytest.raises(InputError, match="no test sample of nmnist in it"):
            prepare(data, tmp_path / "raw", tmp_path / "cache", say=lambda line: None)
        return
    cache = open_cache(prepare(data, tmp_path / "raw", tmp_path / "cache", say=lambda line: None))
    assert (len(cache.train), len(cache.test)) == (80, 20)


def test_the_same_draw_every_time(build, tmp_path):
    cache = build("resample-3")
    before = content(cache, "train")
    cache.path.unlink()
    assert content(build("resample-3"), "train") == before
    assert cache.meta.encoding["partition"] == "resample-3" and build("resample-3").meta.provenance == "real"


@pytest.mark.parametrize("name", ["resample", "resample-0", "valid-x", "valid-1-2", "ab", "", "Official"])
def test_unknown_partitions_are_refused(name):
    with pytest.raises(InputError, match="partition"):
        configured("nmnist", overrides=[f'data.partition="{name}"'])


def test_settings_default_to_the_official_partition():
    assert load("ti46").data.partition == "official" == settings("nmnist").partition
    assert np.all([load(name).data.partition == "official" for name in ("fsdd", "nmnist", "dvsgesture")])
