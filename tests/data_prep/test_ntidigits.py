from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from data_prep import prepare
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache

TRAIN = ["woman-ac-a-z", "woman-ac-b-z", "man-ad-a-o", "man-ad-b-1", "man-ad-a-123", "woman-ac-a-9"]
TEST = ["man-ae-b-9", "man-ae-a-5", "man-ae-b-oz"]


def settings(**change):
    fields = {"dataset": "ntidigits", "encoding": "bin", "value": "binary", "steps": 300, "partition": "official"}
    return SimpleNamespace(**(fields | change))


def spikes(name):
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(64, size=200), rng.uniform(0, 1.7, 200)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw" / "n-tidigits.hdf5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        for group, names in (("train", TRAIN), ("test", TEST)):
            file[f"{group}_labels"] = np.array(names, dtype="S")
            for name in names:
                file[f"{group}_addresses/{name}"], file[f"{group}_timestamps/{name}"] = spikes(name)
    return path


def build(raw, **change):
    return open_cache(prepare(settings(**change), raw, raw.parent.parent / "cache", say=lambda line: None))


def test_single_digits_and_the_stored_split(raw):
    cache = build(raw)
    verify_cache(cache.path)
    assert cache.ids("train") == [name for name in TRAIN if name != "man-ad-a-123"]
    assert cache.ids("test") == TEST[:2]
    assert cache.train.labels.tolist() == [0, 0, 10, 1, 9] and cache.test.labels.tolist() == [9, 5]
    assert cache.meta.notes["recordings of several digits skipped"] == 2
    assert cache.meta.provenance == "real" and cache.meta.encoding["partition"] == "official"
    assert (cache.meta.steps, cache.meta.channels, cache.meta.classes) == (300, 64, 11)


def test_a_damaged_cache_is_built_anew(raw):
    path = build(raw).path
    sound = path.read_bytes()
    with h5py.File(path) as file:
        at = file["train/channel"].id.get_offset()
    path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1:])
    said = []
    assert prepare(settings(), raw, path.parent, say=said.append) == path
    assert "building (not usable: " in said[0] and path.read_bytes() == sound


def test_partition_by_production(raw):
    cache = build(raw, partition="ab")
    assert cache.ids("train") == ["woman-ac-a-z", "man-ad-a-o", "woman-ac-a-9", "man-ae-a-5"]
    assert cache.ids("test") == ["woman-ac-b-z", "man-ad-b-1", "man-ae-b-9"]
    assert cache.path != build(raw).path


@pytest.mark.parametrize("value", ["binary", "count"])
def test_bins_of_five_milliseconds(raw, value):
    cache, late = build(raw, value=value), 0
    for index, name in enumerate(cache.ids("train")):
        address, time = spikes(name)
        counts = np.zeros((300, 64), int)
        for a, t in zip(address.tolist(), time.tolist()):
            if t < 1.5:
                counts[int(t / 0.005), a] += 1
        late += (time >= 1.5).sum()
        one = cache.train[np.array([index])]
        got = np.zeros_like(counts)
        got[one.step, one.channel] = one.value
        np.testing.assert_array_equal(got, np.minimum(counts, 255 if value == "count" else 1))
    late += sum((spikes(name)[1] >= 1.5).sum() for name in cache.ids("test"))
    assert cache.meta.notes["spikes dropped, past the last step"] == late


def rewrite(raw, name, array):
    with h5py.File(raw, "r+") as file:
        del file[name]
        if array is not None:
            file[name] = array


def put(raw, address, time, name="woman-ac-a-z"):
    rewrite(raw, f"train_addresses/{name}", np.asarray(address))
    rewrite(raw, f"train_timestamps/{name}", np.asarray(time))


def test_a_whole_step_starts_a_bin_whatever_its_last_bits(raw):
    put(raw, np.zeros(300, int), np.arange(300) * 5 / 1000)
    assert build(raw).train[np.array([0])].step.tolist() == list(range(300))


def test_the_end_and_far_beyond(raw):
    put(raw, [1, 2, 3, 4], [1.4999, 1.5, 4.0, 1e300])
    cache = build(raw)
    assert cache.train[np.array([0])].step.tolist() == [299]


def test_saturation_is_counted(raw):
    put(raw, np.full(300, 7), np.full(300, 0.5))
    cache = build(raw, value="count")
    one = cache.train[np.array([0])]
    assert one.value.tolist() == [255] and cache.meta.notes["bins saturated at 255"] == 1


def test_a_silent_recording_and_other_dtypes(raw):
    put(raw, np.zeros(0, np.uint8), np.zeros(0))
    put(raw, np.array([[63.0], [0.0]], np.float32), np.array([[0.0], [0.1]], np.float32), "woman-ac-b-z")
    events = build(raw).train
    assert np.diff(events.indptr)[:2].tolist() == [0, 2]
    one = events[np.array([1])]
    assert one.channel.tolist() == [63, 0] and one.step.tolist() == [0, 20]


def test_the_file_or_its_folder_or_the_default(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    raw.parent.rename(tmp_path / "data/raw/ntidigits")
    folder = tmp_path / "data/raw/ntidigits"
    paths = {prepare(settings(), raw, tmp_path / "cache", strict=True) for raw in (folder, folder / raw.name, None)}
    assert len(paths) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (("train_addresses", None), "group /train_addresses is missing"),
        (("test_timestamps", None), "group /test_timestamps is missing"),
        (("test_labels", None), "dataset /test_labels is missing"),
        (("train_addresses/man-ad-b-1", None), "/train_addresses/man-ad-b-1: no such data set"),
        (("train_addresses/man-ad-b-1", np.full(200, 64)), "entry 0: expected a channel 0..63, found 64"),
        (("train_addresses/man-ad-b-1", np.r_[np.zeros(199), -1]), "entry 199: expected a channel 0..63, found -1"),
        (("train_addresses/man-ad-b-1", np.r_[np.zeros(199), 0.5]), "entry 199: expected a channel"),
        (("train_addresses/man-ad-b-1", np.zeros(199)), "199 addresses, but 200 timestamps"),
        (("train_timestamps/man-ad-b-1", np.r_[np.zeros(9), np.nan, np.zeros(190)]), "entry 9: expected a time .* nan"),
        (("train_timestamps/man-ad-b-1", np.r_[np.zeros(199), -1e-6]), "entry 199: expected a time .* -1e-06"),
        (("train_timestamps/man-ad-b-1", np.r_[np.zeros(199), np.inf]), "entry 199: expected a time .* inf"),
        (("train_timestamps/man-ad-b-1", np.array([b"x"])), "expected numbers, found dtype"),
        (("train_labels", np.array([b"woman-ac-a-x"])), r"record 0 \('woman-ac-a-x'\): unknown digit 'x'"),
        (("train_labels", np.array([b"woman-ac-3"])), "record 0 .* expected a name like woman-ac-a-3"),
        (("train_labels", np.array([b"woman-ac-a-z"] * 2)), "record 1 .* a second recording of that name"),
        (("train_labels", np.array([], "S9")), "no train sample"),
    ],
)
def test_a_bad_file_is_explained(raw, change, message):
    rewrite(raw, *change)
    with pytest.raises(InputError, match=message) as error:
        build(raw)
    assert str(raw) in str(error.value)
    assert list((raw.parent.parent / "cache").iterdir()) == []


def test_a_file_that_is_not_hdf5_or_not_there(raw):
    raw.write_bytes(b"Found. Redirecting to ...")
    with pytest.raises(InputError, match="n-tidigits.hdf5: expected an HDF5 file"):
        build(raw)
    raw.unlink()
    for path in (raw, raw.parent):
        with pytest.raises(InputError, match="no such file"):
            build(path)


def test_productions_other_than_a_and_b(raw):
    rewrite(raw, "test_labels", np.array([b"man-ae-c-9"]))
    with h5py.File(raw, "r+") as file:
        for part in ("addresses", "timestamps"):
            file.copy(f"test_{part}/man-ae-b-9", f"test_{part}/man-ae-c-9")
    assert build(raw).ids("test") == ["man-ae-c-9"]
    with pytest.raises(InputError, match="needs production a or b, found 'c'"):
        build(raw, partition="ab")
