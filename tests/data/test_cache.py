import os
import re

import h5py
import numpy as np
import pytest

from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import SCHEMA, CacheWriter, Meta, open_cache, verify_cache
from hrmas_sparse.data.events import epoch_order, halve

STEPS, CHANNELS, CLASSES = 20, 7, 3


def meta(**change):
    fields = {"dataset": "toy", "fingerprint": "f", "encoding": {"step_ms": 5}, "steps": STEPS, "channels": CHANNELS}
    fields |= {"classes": CLASSES, "class_names": ("a", "b", "c"), "notes": {}}
    return Meta(**(fields | change))


def dense_samples(count, dtype=np.uint8, seed=0):
    """Dense samples (count, STEPS, CHANNELS); the second one is empty."""
    rng = np.random.default_rng(seed)
    x = (rng.random((count, STEPS, CHANNELS)) < 0.2) * rng.integers(1, 9, (count, STEPS, CHANNELS))
    x[1:2] = 0
    return x.astype(dtype)


def write(path, dense, test_dense=None, **change):
    """Write a cache with the events of every sample in a shuffled order."""
    rng = np.random.default_rng(1)
    with CacheWriter(path, meta(**change)) as cache:
        for split, samples in (("train", dense), ("test", dense[:3] if test_dense is None else test_dense)):
            for s, sample in enumerate(samples):
                step, channel = np.nonzero(sample)
                order = rng.permutation(len(step))
                value = sample[step, channel]
                cache.add(split, f"{split}-ä{s}", s % CLASSES, step[order], channel[order], value[order])
    return path


def to_dense(events):
    sample = np.repeat(np.arange(len(events)), np.diff(events.indptr))
    dense = np.zeros((len(events), events.steps, events.channels), events.value.dtype)
    dense[sample, events.step, events.channel] = events.value
    return dense


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "toy.h5", dense_samples(10))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_written_is_read(tmp_path, dtype):
    dense = dense_samples(10, dtype)
    cache = open_cache(write(tmp_path / "toy.h5", dense, notes={"spikes dropped": 3}))
    verify_cache(cache.path)
    assert cache.meta == meta(notes={"spikes dropped": 3})
    assert cache.train.value.dtype == dtype
    np.testing.assert_array_equal(to_dense(cache.train), dense)
    np.testing.assert_array_equal(to_dense(cache.test), dense[:3])
    np.testing.assert_array_equal(cache.train.labels, np.arange(10) % CLASSES)
    assert cache.ids("train") == [f"train-ä{s}" for s in range(10)]
    assert (len(cache.train), len(cache.test)) == (10, 3)


def test_events_are_sorted_inside_a_sample(path):
    events = open_cache(path).train
    for begin, end in zip(events.indptr[:-1], events.indptr[1:]):
        key = events.step[begin:end].astype(int) * CHANNELS + events.channel[begin:end]
        assert (np.diff(key) > 0).all()


def test_events_are_mapped_read_only(path):
    for array in (open_cache(path).train.step, open_cache(path).train.channel, open_cache(path).train.value):
        assert isinstance(array.base, np.memmap) and array.flags.aligned and not array.flags.writeable


def test_a_cache_survives_being_replaced(path):
    cache = open_cache(path)
    before = to_dense(cache.train)
    write(path, dense_samples(4, seed=5))
    np.testing.assert_array_equal(to_dense(cache.train), before)


@pytest.mark.parametrize("index", [[0], [3, 1, 3, 9], [], [1], range(10)])
def test_take(path, index):
    index = np.array(index, dtype=int)
    cache = open_cache(path)
    batch = cache.train[index]
    assert len(batch) == len(index) and batch.indptr.dtype == np.int64
    assert [a.dtype for a in (batch.step, batch.channel, batch.value)] == [np.uint16, np.uint16, np.uint8]
    np.testing.assert_array_equal(to_dense(batch), to_dense(cache.train)[index])
    np.testing.assert_array_equal(batch.labels, cache.train.labels[index])
    np.testing.assert_array_equal(to_dense(batch[np.arange(len(index))]), to_dense(batch))


def test_no_events_and_no_samples_at_all(tmp_path):
    path = write(tmp_path / "empty.h5", np.zeros((2, STEPS, CHANNELS), np.uint8), test_dense=[])
    verify_cache(path)
    cache = open_cache(path)
    assert len(cache.train) == 2 and cache.test is None and cache.ids("test") == []
    assert len(cache.train[np.array([1, 0])].step) == 0


def test_blocks_do_not_change_what_is_written(tmp_path, monkeypatch):
    whole = write(tmp_path / "a.h5", dense_samples(10)).read_bytes()
    monkeypatch.setattr("hrmas_sparse.data.writer._BLOCK", 7)
    path = write(tmp_path / "b.h5", dense_samples(10))
    assert path.read_bytes() == whole
    verify_cache(path)


def test_notes_counted_while_writing_are_kept(tmp_path):
    about = meta()
    with CacheWriter(tmp_path / "toy.h5", about) as cache:
        cache.add("train", "a", 0, np.array([1]), np.array([2]), np.ones(1, np.uint8))
        about.notes["late"] = 5
    assert open_cache(tmp_path / "toy.h5").meta.notes == {"late": 5}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_middle_leaves_nothing(tmp_path, error):
    with pytest.raises(error), CacheWriter(tmp_path / "toy.h5", meta()) as cache:
        cache.add("train", "a", 0, np.array([1]), np.array([2]), np.ones(1, np.uint8))
        raise error
    assert os.listdir(tmp_path) == []


def test_an_exception_while_closing_leaves_the_old_cache(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("hrmas_sparse.data.writer._blocks", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(path, dense_samples(4))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "sample",
    [
        ("valid", "x", 0, [1], [1], [1]),
        ("train", "there", 0, [1], [1], [1]),
        ("train", "x", CLASSES, [1], [1], [1]),
        ("train", "x", -1, [1], [1], [1]),
        ("train", "x", 0, [STEPS], [1], [1]),
        ("train", "x", 0, [-1], [1], [1]),
        ("train", "x", 0, [1], [CHANNELS], [1]),
        ("train", "x", 0, [1], [1], [0]),
        ("train", "x", 0, [1, 2], [1], [1]),
        ("train", "x", 0, [1, 2, 1], [3, 3, 3], [1, 1, 1]),
        ("train", "x", 0, [1.5], [1], [1]),
    ],
)
def test_the_writer_refuses_a_bad_sample(tmp_path, sample):
    *front, value = sample
    with pytest.raises(ValueError), CacheWriter(tmp_path / "toy.h5", meta()) as cache:
        cache.add("train", "there", 0, np.array([1]), np.array([2]), np.ones(1, np.uint8))
        cache.add(*front, np.array(value, np.uint8))


@pytest.mark.parametrize("value", [np.array([np.nan], "f4"), np.ones(1, "f8"), np.ones(1, "i8")])
def test_the_writer_refuses_bad_values(tmp_path, value):
    with pytest.raises(ValueError, match="value"), CacheWriter(tmp_path / "toy.h5", meta()) as cache:
        cache.add("train", "x", 0, np.array([1]), np.array([2]), value)


def test_values_keep_one_dtype(tmp_path):
    with pytest.raises(ValueError, match="changed"), CacheWriter(tmp_path / "toy.h5", meta()) as cache:
        cache.add("train", "x", 0, np.array([1]), np.array([2]), np.ones(1, "f4"))
        cache.add("train", "y", 0, np.array([1]), np.array([2]), np.ones(1, "u1"))


@pytest.mark.parametrize("change", [{"steps": 0}, {"channels": 70000}, {"class_names": ("a",)}, {"provenance": "?"}])
def test_meta_refuses_nonsense(change):
    with pytest.raises(ValueError):
        meta(**change)


def test_open_names_a_file_that_is_no_cache(tmp_path):
    other = tmp_path / "other.h5"
    with pytest.raises(InputError, match="other.h5: no such file; a spike cache"):
        open_cache(other)
    other.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="other.h5: expected an HDF5"):
        open_cache(other)
    h5py.File(other, "w").close()
    with pytest.raises(InputError, match=f"schema {SCHEMA}, found none"):
        open_cache(other)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_open_refuses_a_file_cut_short(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=re.escape(str(path))):
        open_cache(path)


def replace(file, name, array):
    checksum = file[name].attrs["sha256"]
    del file[name]
    file[name] = array
    file[name].attrs["sha256"] = checksum


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: f.attrs.update(schema=SCHEMA + 1), "schema"),
        (lambda f: f.attrs.pop("steps"), "attribute"),
        (lambda f: f.attrs.update(encoding=np.bytes_("{")), "attribute"),
        (lambda f: f.attrs.update(class_names=np.bytes_('["a"]')), "class names"),
        (lambda f: f.pop("test"), "/test/indptr is missing"),
        (lambda f: f.pop("train/value"), "/train/value is missing"),
        (lambda f: replace(f, "train/value", f["train/value"][:-1]), "/train/value has"),
        (lambda f: replace(f, "train/step", f["train/step"][:].astype(int)), "dtype int64, expected uint16"),
        (lambda f: replace(f, "train/step", f["train/step"][:].reshape(-1, 1)), "contiguous vector"),
        (lambda f: replace(f, "train/ids", f["train/ids"][1:]), "/train/ids has 9 entries, expected 10"),
        (lambda f: replace(f, "train/indptr", np.flip(f["train/indptr"][:])), "/train/indptr does not rise"),
        (lambda f: replace(f, "train/label", f["train/label"][:] + 1), "label leaves 0..2"),
    ],
)
def test_open_checks_the_schema(path, spoil, message):
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(InputError, match=message):
        open_cache(path)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["indptr", "label", "ids", "step", "channel", "value"])
def test_verify_finds_a_flipped_bit_in_any_array(path, split, name):
    with h5py.File(path) as file:
        dataset = file[split][name]
        where = dataset.id.get_offset() + dataset.size * dataset.dtype.itemsize // 2
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}: /{split}/"):
        verify_cache(path)


def test_verify_finds_changed_attributes(path):
    with h5py.File(path, "r+") as file:
        file.attrs["dataset"] = np.bytes_("other")
    open_cache(path)
    with pytest.raises(InputError, match="attributes"):
        verify_cache(path)


@pytest.mark.parametrize("name, bad", [("step", STEPS), ("channel", CHANNELS), ("value", 0), ("step", "disorder")])
@pytest.mark.parametrize("block", [1 << 20, 5])
def test_verify_checks_events_even_if_their_checksum_is_right(path, monkeypatch, name, bad, block):
    monkeypatch.setattr("hrmas_sparse.data.cache._sha256_of", lambda dataset: dataset.attrs["sha256"].decode())
    monkeypatch.setattr("hrmas_sparse.data.cache._BLOCK", block)
    verify_cache(path)
    with h5py.File(path, "r+") as file:
        array = file["train"][name][:]
        array[5] = array[4] if bad == "disorder" else bad
        file["train"][name][:] = array
        if bad == "disorder":
            file["train/channel"][5] = file["train/channel"][4]
    with pytest.raises(InputError, match="/train event 5 is out of range or out of order"):
        verify_cache(path)


@pytest.mark.parametrize("labels", [np.arange(100) % 7, np.r_[0, 0, 0, 1, 2, 2, 2, 2, 2], np.zeros(5, int), [0, 1]])
def test_halve_is_even_stratified_and_repeatable(labels):
    labels = np.array(labels)
    train, valid = halve(labels, 3)
    np.testing.assert_array_equal(np.sort(np.r_[train, valid]), np.arange(len(labels)))
    assert abs(len(train) - len(valid)) <= 1
    for label in np.unique(labels):
        assert abs((labels[train] == label).sum() - (labels[valid] == label).sum()) <= 1
    for half, again in zip((train, valid), halve(labels, 3)):
        np.testing.assert_array_equal(half, again)


def test_halve_depends_on_the_seed_and_needs_two_samples():
    labels = np.arange(100) % 7
    assert not np.array_equal(halve(labels, 0)[0], halve(labels, 1)[0])
    with pytest.raises(InputError, match="1 cannot be halved"):
        halve([0], 0)


def test_epoch_order_is_stateless_and_keeps_the_rest():
    batches = epoch_order(23, 5, [0, 4])
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(23))
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(epoch_order(23, 5, [0, 4])))
    assert not np.array_equal(np.concatenate(batches), np.concatenate(epoch_order(23, 5, [0, 5])))
    assert [len(batch) for batch in epoch_order(3, 50, [1])] == [3]


def test_a_damaged_byte_anywhere_is_refused_or_harmless(path):
    content = path.read_bytes()
    for where in range(0, len(content), 101):
        damaged = bytearray(content)
        damaged[where] ^= 0x41
        path.write_bytes(damaged)
        try:
            verify_cache(path)
        except InputError as error:
            assert str(path) in str(error)
