"""SHD-style HDF5, .npz and tonic: what is read is what was written; what is no such file is refused by name."""

import io
import struct
import zipfile
from collections import namedtuple

import h5py
import numpy as np
import pytest

from hrmas_sparse import cli
from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.storage.errors import InputError
from spike_files import shd_file

LABELS = np.arange(13) % 3
WAYS = {"contiguous": {}, "chunked": {"chunks": (5,)}, "packed": {"chunks": (5,), "compression": "gzip"},
        "shuffled": {"chunks": (4,), "compression": "gzip", "shuffle": True}, "growing": {"maxshape": (None,)}}


def dense(spikes, steps, step_ms, channels):
    """The same by a slow rule."""
    found = np.zeros((len(spikes), steps, channels), int)
    for n, (times, units) in enumerate(spikes):
        for time, unit in zip(times.astype(float), units):
            step = int(np.floor(time * 1000 / step_ms + 1e-6))
            if step < steps:
                found[n, step, unit] += 1
    return found


@pytest.mark.parametrize("way", WAYS)
def test_shd_files(tmp_path, way):
    train = shd_file(tmp_path / "a_train.h5", LABELS, 0, keys=["x", "y", "z"], **WAYS[way])
    test = shd_file(tmp_path / "a_test.h5", LABELS[:6], 1, **WAYS[way])
    data = Dataset.from_hdf5(tmp_path / "a_train.h5", tmp_path / "a_test.h5", steps=40, step_ms=20)
    np.testing.assert_array_equal(data.train.dense(), dense(train, 40, 20, 20))
    np.testing.assert_array_equal(data.test.dense(), dense(test, 40, 20, 20))
    assert data.train.labels.tolist() == LABELS.tolist() and data.class_names == ("x", "y", "z")
    assert (data.meta.dataset, data.meta.encoding["step_ms"]) == ("a_train", 20)
    late = sum(len(times) for times, _ in (*train, *test)) - data.train.value.sum() - data.test.value.sum()
    assert data.meta.notes == {"spikes dropped, past the last step": late} and late
    binary = Dataset.from_hdf5(tmp_path / "a_train.h5", steps=40, step_ms=20, value="binary", channels=33)
    assert (binary.train.channels, set(binary.train.value.tolist()), binary.test) == (33, {1}, None)


@pytest.mark.parametrize("times, units", [(np.float16, np.int16), (np.float32, np.uint16), (np.float64, np.int64)])
def test_shd_files_of_other_numbers(tmp_path, times, units):
    spikes = shd_file(tmp_path / "a.h5", LABELS, times=times, units=units)
    data = Dataset.from_hdf5(tmp_path / "a.h5", steps=50, step_ms=25)
    np.testing.assert_array_equal(data.train.dense(), dense(spikes, 50, 25, 20))


@pytest.mark.parametrize("chunks", [None, (3,)])
def test_shd_files_with_a_user_block(tmp_path, chunks):
    shd_file(tmp_path / "plain.h5", LABELS, chunks=chunks)
    with h5py.File(tmp_path / "plain.h5") as plain, h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        for name in ("spikes", "labels"):
            plain.copy(name, file)
    found, expected = (Dataset.from_hdf5(tmp_path / name, steps=50, step_ms=20, channels=20).train
                       for name in ("a.h5", "plain.h5"))
    assert expected.indptr[-1] > 100 and (found.dense() == expected.dense()).all()


def test_a_step_of_no_length_is_refused(tmp_path, capsys):
    shd_file(tmp_path / "a.h5", LABELS)
    assert cli.main(["data", "import", str(tmp_path / "a.h5"), "--out", str(tmp_path / "b.h5"), "--step-ms", "0"]) == 2
    assert "step_ms: expected" in capsys.readouterr().err and not (tmp_path / "b.h5").exists()


def test_shd_files_as_matrices(tmp_path):
    """As tonic's own tests write them."""
    rng = np.random.default_rng(0)
    times, units = rng.random((9, 30)).astype(np.float16), rng.integers(0, 7, (9, 30)).astype(np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spikes/times"], file["spikes/units"], file["labels"] = times, units, LABELS[:9]
    data = Dataset.from_hdf5(tmp_path / "a.h5", steps=20, step_ms=50)
    np.testing.assert_array_equal(data.train.dense(), dense(list(zip(times, units)), 20, 50, 7))


def change(name, value=None):
    def spoil(file):
        del file[name]
        if value is not None:
            file[name] = value
    return spoil


def entry(name, place, value):
    def spoil(file):
        list_of = file[name][place]
        list_of[3] = value
        file[name][place] = list_of
    return spoil


def external(file):
    with h5py.File(file.filename + ".other", "w") as other:
        other["labels"] = LABELS
    del file["labels"]
    file["labels"] = h5py.ExternalLink(file.filename + ".other", "labels")


@pytest.mark.parametrize("spoil, parts", [
    (change("labels"), ["found no labels"]), (change("spikes/units"), ["found no spikes/units"]),
    (change("spikes"), ["found no spikes/times"]),
    (change("labels", LABELS[:5]), ["/spikes/times: expected one entry for each of the 5 labels"]),
    (change("labels", LABELS.astype(float)), ["/labels: expected a vector of whole numbers", "float64"]),
    (change("labels", LABELS - 1), ["/labels: sample 0: expected 0 to", "found -1"]),
    (change("labels", LABELS * 2), ["found none of class 1"]),
    (change("spikes/units", np.zeros(13)), ["/spikes/units: expected whole numbers, found float64"]),
    (change("spikes/units", np.zeros(13, int)), ["expected a vector of lists or a matrix"]),
    (change("spikes/units", np.zeros((13, 4), int)), ["sample 0: ", "times, but 4 units"]),
    (entry("spikes/units", 2, -3), ["/spikes/units: sample 2, spike 3: expected 0 to", "found -3"]),
    (entry("spikes/units", 5, 21), ["/spikes/units: sample 5, spike 3: expected 0 to 19, found 21"]),
    (entry("spikes/times", 4, np.nan), ["/spikes/times: sample 4, spike 3: expected seconds, not negative", "nan"]),
    (entry("spikes/times", 4, -0.5), ["sample 4, spike 3", "-0.5"]),
    (external, ["found no labels"]),
    (lambda file: file.create_dataset("x", data=1), []),
])
def test_shd_files_that_are_refused(tmp_path, spoil, parts):
    path = tmp_path / "a.h5"
    shd_file(path, LABELS, seed=5)
    with h5py.File(path, "r+") as file:
        spoil(file)
    if not parts:
        Dataset.from_hdf5(path, steps=9, step_ms=9, channels=20)
        return
    with pytest.raises(InputError) as error:
        Dataset.from_hdf5(path, steps=9, step_ms=9, channels=20)
    assert all(part in str(error.value) for part in [str(path), *parts]), error.value


@pytest.mark.parametrize("options, part", [
    ({"steps": 0}, "steps: expected"), ({"step_ms": 0}, "step_ms: expected a number above 0, found 0"),
    ({"step_ms": float("nan")}, "step_ms"), ({"step_ms": "ten"}, "step_ms"), ({"channels": 0}, "channels: expected"),
    ({"channels": 5}, "expected 0 to 4"), ({"value": "rate"}, "value: expected 'binary' or 'count'")])
def test_options_that_are_refused(tmp_path, options, part):
    shd_file(tmp_path / "a.h5", LABELS)
    with pytest.raises(InputError, match=part):
        Dataset.from_hdf5(tmp_path / "a.h5", **{"steps": 9, "step_ms": 9} | options)


def test_no_such_file(tmp_path):
    for path, content in ((tmp_path / "none.h5", None), (tmp_path / "text.h5", b"some text")):
        if content:
            path.write_bytes(content)
        with pytest.raises(InputError, match=path.name):
            Dataset.from_hdf5(path, steps=9, step_ms=9)


def test_lists_that_claim_more_than_there_is(tmp_path):
    """A length of 4 billion, a heap elsewhere, an object that is not there: refused, without HDF5 or much memory."""
    path = tmp_path / "a.h5"
    shd_file(path, LABELS)
    with h5py.File(path) as file:
        offset = file["spikes/units"].id.get_offset()
    whole = path.read_bytes()
    length, heap, index = struct.unpack_from("<IQI", whole, offset)
    for bad, part in (((2**32 - 1, heap, index), "claims more"), ((length, 1 << 60, index), "beyond the end"),
                      ((length, heap + 8, index), "no heap at byte"), ((length, heap, 60000), "has no object 60000"),
                      ((length + 4, heap, index), "expected")):
        path.write_bytes(whole[:offset] + struct.pack("<IQI", *bad) + whole[offset + 16:])
        with pytest.raises(InputError, match=f"/spikes/units: cannot be read .*{part}"):
            Dataset.from_hdf5(path, steps=9, step_ms=9)


# ---- .npz ------------------------------------------------------------------------------------------------------

ARRAYS = {"sample": [0, 1, 1, 2, 3], "step": [3, 1, 1, 0, 4], "channel": [0, 1, 1, 2, 0], "label": [0, 1, 0, 1]}


def npz(path, **changes):
    arrays = {name: value for name, value in (ARRAYS | changes).items() if value is not None}
    np.savez(path, **arrays)
    return path


def test_npz(tmp_path):
    data = Dataset.from_npz(npz(tmp_path / "my.npz"))
    assert repr(data) == "Dataset('my': 4 train samples, 2 classes, 5 steps x 3 channels)"
    assert data.meta.notes == {"duplicate events merged": 1} and data.train.dense().sum() == 4
    data = Dataset.from_npz(npz(tmp_path / "my.npz", value=[1, 2, 3, 4, 5], split=["train", "train", "test", "test"]),
                            steps=9, channels=4)
    assert (len(data.train), len(data.test), data.meta.steps, data.meta.channels) == (2, 2, 9, 4)
    assert data.train.value.tolist() == [1, 5] and data.test.value.tolist() == [4, 5]
    assert len(Dataset.from_npz(npz(tmp_path / "my.npz", split=[0, 0, 1, 1])).test) == 2


def test_two_npz(tmp_path):
    """Sizes are the larger ones; a test part need not have every class."""
    train = npz(tmp_path / "a.npz")
    test = npz(tmp_path / "b.npz", sample=[0, 1], step=[8, 0], channel=[3, 0], label=[1, 1])
    data = Dataset.from_npz(train, test)
    assert repr(data) == "Dataset('a': 4 train, 2 test samples, 2 classes, 9 steps x 4 channels)"
    assert data.train.dense()[:, 5:].sum() == 0 and data.test.dense()[0, 8, 3] == 1
    with pytest.raises(InputError, match="b.npz: split: expected none"):
        Dataset.from_npz(train, npz(tmp_path / "b.npz", split=[0, 0, 0, 1]))


@pytest.mark.parametrize("changes, parts", [
    ({"label": None}, ["expected the arrays sample, step, channel, label"]),
    ({"extra": [1]}, ["found", "extra"]), ({"split": ["train", "test", "x", "test"]}, ["split[2]", "'x'"]),
    ({"split": [0, 1, 2, 0]}, ["split[2]"]), ({"split": [0, 1]}, ["split: expected one entry a sample, 4, found 2"]),
    ({"step": [3, 1, 1, 0, 70000]}, ["step[4] (sample 3): expected 0 to 65535, found 70000"]),
    ({"step": [3, 1, 1, 0, -4]}, ["step[4]"]), ({"sample": [0, 1, 1, 2, 4]}, ["sample[4]: expected 0 to 3"]),
    ({"value": [1.0, 1, np.nan, 1, 1]}, ["value[2]"]), ({"channel": np.zeros(5)}, ["channel: expected whole numbers"]),
    ({"channel": np.zeros((5, 1), int)}, ["channel: expected a vector, found shape (5, 1)"]),
    ({"label": np.array([{}, 1, 2, 3])}, ["label: expected numbers or text, found dtype object"]),
    ({"label": [0, 2, 0, 2]}, ["found none of class 1"]),
])
def test_npz_that_is_refused(tmp_path, changes, parts):
    with pytest.raises(InputError) as error:
        Dataset.from_npz(npz(tmp_path / "my.npz", **changes))
    assert all(part in str(error.value) for part in parts), error.value


def test_npz_that_claims_more_than_it_holds(tmp_path):
    npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, zipfile.ZipFile(tmp_path / "a.npz") as source:
        for name in source.namelist():
            content = source.read(name)
            if name == "step.npy":
                buffer = io.BytesIO()
                np.lib.format.write_array_header_1_0(buffer, {"descr": "<i8", "fortran_order": False,
                                                              "shape": (10**12,)})
                content = buffer.getvalue() + b"\0" * 40
            archive.writestr(name, content)
    with pytest.raises(InputError, match="b.npz: step: claims 8,000,000,000,000 bytes"):
        Dataset.from_npz(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(InputError, match="c.npz: expected a NumPy archive"):
        Dataset.from_npz(tmp_path / "c.npz")


# ---- tonic -----------------------------------------------------------------------------------------------------

EVENTS = np.array([(5, 0, 1, True), (10, 1, 0, False), (2000, 2, 1, True), (3500, 3, 1, True), (99000, 3, 0, False)],
                  [("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])


class Recordings(list):
    """A list with the size of a sensor, as tonic's data sets have it: columns, rows, polarities."""

    sensor_size = (5, 3, 2)


def test_tonic():
    train = Recordings([(EVENTS, 0), (EVENTS[:2], 1), (EVENTS[[0, 0]], 1)])
    data = Dataset.from_tonic(train, Recordings([(EVENTS, 1)]), steps=10, step_us=1000)
    assert data.grid == (2, 3, 5) and data.meta.channels == 30 and data.meta.dataset == "recordings"
    wanted = np.zeros((10, 2, 3, 5), int)
    for t, x, y, p in EVENTS[:4].tolist():
        wanted[t // 1000, int(p), y, x] += 1
    np.testing.assert_array_equal(data.train[0].dense()[0], wanted.reshape(10, 30))
    assert data.train[2].value.tolist() == [2] and data.meta.notes == {"spikes dropped, past the last step": 2}
    plain = Dataset.from_tonic(list(train), steps=10, step_us=1000)
    assert plain.grid == (2, 2, 4) and plain.meta.dataset == "own" and plain.test is None
    named = Dataset.from_tonic([(EVENTS, "yes"), (EVENTS, "no")], steps=10, step_us=1000)
    assert named.class_names == ("no", "yes") and named.train.labels.tolist() == [1, 0]
    sound = EVENTS[["t", "x"]]
    assert Dataset.from_tonic([(sound, 0)], steps=10, step_us=1e4).grid == (1, 1, 4)


Pair = namedtuple("Pair", "events label")


@pytest.mark.parametrize("sample, parts", [
    (EVENTS, ["train[1]: expected (events, label)"]),
    ((np.zeros((3, 4)), 0), ["train[1]: expected a structured array"]),
    ((EVENTS[["x", "y"]], 0), ["fields t and x"]), (Pair(EVENTS, -1), ["labels[1]: expected 0 to", "-1"]),
    ((EVENTS, 3), ["found none of class 1"]), ((EVENTS, "no"), []),
    ((np.array([(-5, 0)], [("t", int), ("x", int)]), 1), ["train[1] t[0]: expected microseconds", "-5"]),
    ((np.array([(np.nan, 0)], [("t", float), ("x", int)]), 1), ["train[1] t[0]", "nan"]),
    ((np.array([(5, -1)], [("t", int), ("x", int)]), 1), ["train[1] x[0]: expected 0 to", "-1"]),
    ((np.array([(5, 70000)], [("t", int), ("x", int)]), 1), ["train[1] x[0]: expected 0 to 65535"]),
    ((np.array([(5, 0.5)], [("t", int), ("x", float)]), 1), ["train[1] x: expected whole numbers"]),
])
def test_tonic_that_is_refused(sample, parts):
    if not parts:  # a number and a name: both are names
        assert Dataset.from_tonic([(EVENTS, 0), sample], steps=9, step_us=1000).class_names == ("0", "no")
        return
    with pytest.raises(InputError) as error:
        Dataset.from_tonic([(EVENTS, 0), sample], steps=9, step_us=1000)
    assert all(part in str(error.value) for part in parts), error.value


def test_what_is_no_data_set():
    for source, part in ((iter([]), "train: expected something with a length"), (5, "found int"),
                         ([], "train: expected at least one sample")):
        with pytest.raises(InputError, match=part):
            Dataset.from_tonic(source, steps=9, step_us=1000)
