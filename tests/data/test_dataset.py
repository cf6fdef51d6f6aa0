"""Data of one's own: in memory, split, saved, read again."""

import dataclasses

import numpy as np
import pytest

from hrmas_sparse.data.cache import open_cache, verify_cache
from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.events import Events
from hrmas_sparse.settings.load import settings
from hrmas_sparse.storage.errors import InputError

LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])


def events(labels=LABELS, seed=0, steps=8, channels=5, dtype=bool):
    x = np.random.default_rng(seed).random((len(labels), steps, channels)) < 0.3
    return Events.from_dense((x * 2).astype(dtype) if dtype is not bool else x, labels)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("indptr", "step", "channel", "value",
                                                                               "labels"))


def test_what_a_data_set_says():
    data = Dataset(events(), events([0, 2], 1), class_names=["a", "b", "c"], name="words")
    assert repr(data) == "Dataset('words': 12 train, 2 test samples, 3 classes, 8 steps x 5 channels)"
    assert data.class_names == ("a", "b", "c") and data.path is None and data.grid == (1, 1, 5)
    first, *others = data.summary().splitlines()
    assert first.startswith("words: 12 train, 2 test samples (real), 3 classes, 5 channels x 8 steps, ")
    assert others == ["  classes missing: test has no b"]
    assert Dataset(events()).class_names == ("0", "1", "2") and Dataset(events()).test is None
    assert "synthetic stand-in" in repr(Dataset(events(), provenance="synthetic stand-in"))


@pytest.mark.parametrize("make, parts", [
    (lambda: Dataset([1, 2]), ["train: expected Events, found list"]),
    (lambda: Dataset(events(), 3), ["test: expected Events, found int"]),
    (lambda: Dataset(events(), events(steps=9)), ["test: expected 8 steps x 5 channels", "9 x 5"]),
    (lambda: Dataset(events(), events(dtype=float)), ["test: expected values of the same kind", "uint8", "float32"]),
    (lambda: Dataset(events()[[]]), ["train: expected at least one sample"]),
    (lambda: Dataset(events(LABELS * 2)), ["every class 0 to 4, found none of class 1", "class_names"]),
    (lambda: Dataset(events(), events([0, 3])), ["found none of class 3"]),
    (lambda: Dataset(events(), class_names=["a", "b"]), ["train.labels[9]: expected 0 to 1", "found 2"]),
    (lambda: Dataset(events(), events([0, 7]), class_names="abcdef"), ["class_names: expected a list of names"]),
    (lambda: Dataset(events(), events([0, 7]), class_names=list("abcdef")), ["test.labels[1]: expected 0 to 5"]),
    (lambda: Dataset(events(), class_names=["a", "b", "b"]), ["class_names: expected different names"]),
    (lambda: Dataset(events(), class_names=[]), ["class_names"]),
    (lambda: Dataset(events(), provenance="fake"), ["provenance: expected 'real' or", "'fake'"]),
    (lambda: Dataset(events(), name="a/b"), ["data.dataset: expected a name", "'a/b'"]),
])
def test_what_is_refused(make, parts):
    with pytest.raises(InputError) as error:
        make()
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_split_deals_every_class(share):
    data = Dataset(events(), name="words").split(share, seed=3)
    assert len(data.train) + len(data.test) == 12
    for label, count in enumerate(np.bincount(LABELS)):
        there = (data.test.labels == label).sum()
        assert there == min(max(1, round(share * count)), count - 1)
    assert sorted(data.ids("train") + data.ids("test"), key=int) == [str(n) for n in range(12)]
    whole = Dataset(events())
    for split in (data.train, data.test):
        ids = data.ids("train" if split is data.train else "test")
        assert same(split, whole.train[[int(n) for n in ids]])
    again = Dataset(events(), name="words").split(share, seed=3)
    assert same(data.train, again.train) and data.meta == again.meta
    assert not all(same(data.train, Dataset(events()).split(share, seed=seed).train) for seed in range(4, 9))


def test_a_split_of_both_parts_and_what_cannot_be_split():
    data = Dataset(events(), events(seed=1)).split(0.25)
    assert len(data.train) + len(data.test) == 24 and "test/0" in data.ids("train") + data.ids("test")
    assert data.meta.fingerprint != Dataset(events(), events(seed=1)).meta.fingerprint
    for share in (0, 1, -0.1, True, "half", float("nan")):
        with pytest.raises(InputError, match="test: expected a share above 0 and below 1"):
            data.split(share)
    with pytest.raises(InputError, match="classes of at least 2 samples"):
        Dataset(events([0, 1, 2])).split()


@pytest.mark.parametrize("seed", [-1, None, "a", 1.5, True])
def test_a_seed_that_is_none(seed):
    with pytest.raises(InputError, match="seed: expected a whole number of at least 0"):
        Dataset(events()).split(seed=seed)


@pytest.mark.parametrize("dtype, value", [(bool, "binary"), (np.int64, "count"), (float, "count")])
@pytest.mark.parametrize("test", [True, False])
def test_what_is_saved_is_read(tmp_path, dtype, value, test):
    data = Dataset(events(dtype=dtype), events(seed=1, dtype=dtype) if test else None, class_names=list("abc"))
    assert data.meta.encoding["value"] == value
    path = data.save(tmp_path / "my words.h5")
    verify_cache(path)
    found = open_cache(path)
    assert same(found.train, data.train) and (found.test is None if not test else same(found.test, data.test))
    assert found.meta == dataclasses.replace(data.meta, dataset="my-words")
    data.save(path)  # its own kind is replaced
    own = found.settings_for(settings(set={"network.neurons": [16]}))
    assert own.data.dataset == "my-words" and own.data.steps == 8 and own.data.value == value
    assert own.network.neurons == (16,)


def test_a_file_of_others_is_left_alone(tmp_path):
    path = tmp_path / "thesis.h5"
    path.write_text("ten years of work")
    with pytest.raises(InputError, match="thesis.h5: is there and no spike cache; give another name"):
        Dataset(events()).save(path)
    assert path.read_text() == "ten years of work"
    with pytest.raises(InputError, match="cannot be written"):
        Dataset(events()).save(tmp_path / "nowhere" / "own.h5")
    for read in (open_cache, verify_cache):
        with pytest.raises(InputError) as error:
            read(path)
        assert "delete" not in str(error.value)


def test_the_grid_of_an_image_stays(tmp_path):
    data = Dataset(events()).of_grid((1, 5, 1))
    assert data.split(0.2).grid == (1, 5, 1) and Dataset(events()).grid == (1, 1, 5)
