"""Checkpoint files: come back as written, or are refused; the one before is kept."""

import io
import os

import h5py
import numpy as np
import pytest

from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage import memory
from hrmas_sparse.storage.arrayfile import flatten, load, save, unflatten
from hrmas_sparse.storage.errors import Damaged, InputError

ARRAYS = {"parameters/w1": np.arange(12, dtype=np.float32).reshape(3, 4), "parameters/rec1.w_exc": np.zeros(0),
          "w_m/w1": np.full((3, 4), -1e308), "intrinsic/R1": np.array([-0.0, 1e-310, np.finfo(float).max]),
          "n": np.array([[1]], np.int8)}
META = {"position": {"phase": "search-1", "sums": {"loss": 0.1 + 0.2}}, "text": "ü"}


def same(a, b):
    return a.keys() == b.keys() and all((a[k].dtype, a[k].shape, a[k].tobytes()) == (
        b[k].dtype, b[k].shape, b[k].tobytes()) for k in a)


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "x.h5", "checkpoint", ARRAYS, META)
    return tmp_path / "x.h5"


def test_round_trip(path):
    arrays, meta = load(path, "checkpoint")
    assert same(arrays, ARRAYS) and meta == META
    assert same(load(path, "checkpoint", lambda meta: ARRAYS)[0], ARRAYS)


def test_arrays_laid_out_otherwise(tmp_path):
    odd = {"t": np.arange(12.0).reshape(3, 4).T, "s": np.arange(10)[::3]}
    save(tmp_path / "x.h5", "k", odd, {})
    assert same(load(tmp_path / "x.h5", "k")[0], odd)


def test_any_program_that_knows_hdf5_can_read_it(path):
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["parameters/w1"][()], ARRAYS["parameters/w1"])
        assert len(file["parameters/w1"].attrs["sha256"]) == 64


def test_groups():
    groups = {"a": {"x": 1, "y/z": 2}, "b": {}}
    assert unflatten(flatten(groups), "a", "b") == [groups["a"], {}]


# ---- the one before -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False])
def test_the_one_before_is_kept(tmp_path, monkeypatch, links):
    if not links:
        def link(*_):
            raise PermissionError(1, "Operation not permitted")
        monkeypatch.setattr(os, "link", link)
    path, previous = tmp_path / "x.h5", tmp_path / "x.previous.h5"
    for n in range(4):
        save(path, "k", {"n": np.array(n)}, {}, previous)
        assert load(path, "k")[0]["n"] == n
        assert not previous.exists() if n == 0 else load(previous, "k")[0]["n"] == n - 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.h5", "x.previous.h5"][:1 + (n > 0)]


@pytest.mark.parametrize("call", ["write", "fsync", "open", "close"])
def test_a_failed_write_leaves_both(path, monkeypatch, call):
    previous = path.with_name("previous")
    save(path, "checkpoint", ARRAYS, META, previous)
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(InputError, match=r"x.h5: cannot be written \(No space left on device\); what was there be"):
            save(path, "checkpoint", {"n": np.zeros(1000)}, {}, previous)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


def test_a_short_write_goes_on(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:100]))
    save(tmp_path / "x.h5", "k", ARRAYS, META)
    assert same(load(tmp_path / "x.h5", "k")[0], ARRAYS)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be written .No such file or directory"):
        save(tmp_path / "no" / "x.h5", "k", ARRAYS, META)


# ---- refusals ---------------------------------------------------------------------------------------------------


def test_kind_and_schema(path, monkeypatch):
    with pytest.raises(InputError, match="expected a weights of schema 2, found a 'checkpoint'") as error:
        load(path, "weights")
    assert not isinstance(error.value, Damaged)
    monkeypatch.setattr(arrayfile, "SCHEMA", 3)
    with pytest.raises(InputError, match="expected a checkpoint of schema 3, found a 'checkpoint' of schema 2"):
        load(path, "checkpoint")


def test_missing(tmp_path):
    with pytest.raises(InputError, match="x.h5: cannot be read .No such file"):
        load(tmp_path / "x.h5", "checkpoint")
    with pytest.raises(InputError, match="expected a regular file, found a folder"):
        load(tmp_path, "checkpoint")


@pytest.mark.parametrize("content", [b"", b"x", b"\x89HDF\r\n\x1a\n" * 10, bytes(5000)])
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(Damaged):
        load(path, "checkpoint")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[1:], lambda b: b[:-32],
                                    lambda b: b[:900] + bytes([b[900] ^ 1]) + b[901:]])
def test_damage(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match="x.h5: damaged: does not match its checksum"):
        load(path, "checkpoint")


@pytest.mark.parametrize("expected, message", [
    ({**ARRAYS, "more": np.zeros(3)}, "arrays missing or too many: more"),
    ({k: x for k, x in ARRAYS.items() if k != "n"}, "arrays missing or too many: n"),
    ({**ARRAYS, "n": np.zeros((2, 2), np.int8)}, r"n: expected int8 \(2, 2\), found int8 \(1, 1\)"),
    ({**ARRAYS, "n": np.zeros((1, 1))}, "n: expected float64"),
])
def test_other_arrays_than_expected(path, expected, message):
    with pytest.raises(InputError, match=message):
        load(path, "checkpoint", lambda meta: expected)


def forged(path, change):
    """A file that is sound on its face, but was changed by somebody who knows the format."""
    image = io.BytesIO(path.read_bytes()[:-32])
    with h5py.File(image, "r+") as file:
        change(file)
    data = image.getvalue()
    path.write_bytes(data + arrayfile.hashlib.sha256(data).digest())


def replace(name, **how):
    def change(file):
        del file[name]
        file.create_dataset(name, **how).attrs["sha256"] = arrayfile._sha256(b"")
    return change


def external(file):
    del file["n"]
    file["n"] = h5py.ExternalLink("/etc/hostname", "/x")


def virtual(file):
    del file["n"]
    layout = h5py.VirtualLayout((1 << 40,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (1 << 40,))
    file.create_virtual_dataset("n", layout)


@pytest.mark.parametrize("change", [
    replace("n", shape=(1 << 40,), dtype="f8"),
    replace("n", shape=(1 << 40,), dtype="f8", chunks=(1 << 20,), compression="gzip"),
    replace("n", shape=(8,), dtype="u1", external=[("/etc/hostname", 0, 8)]),
    replace("n", data=np.array([b"text"], object), dtype=h5py.string_dtype()),
    replace("n", data=[[2]]),
    external, virtual,
    lambda file: file.attrs.modify("meta", "{}"),
    lambda file: file.attrs.create("meta", 5),
    lambda file: file["n"].attrs.modify("sha256", "0"),
    lambda file: file["n"].attrs.__delitem__("sha256"),
    lambda file: file.attrs.__delitem__("meta_sha256"),
    lambda file: file.attrs.create("schema", "many"),
], ids=["terabytes", "terabytes of zeros", "stored elsewhere", "text", "other numbers", "link to a file",
        "virtual", "meta", "meta a number", "checksum", "no checksum", "no checksum of meta", "schema"])
def test_forgeries(path, change):
    forged(path, change)
    with pytest.raises(InputError):
        load(path, "checkpoint", lambda meta: ARRAYS)
    try:
        assert "n" not in load(path, "checkpoint")[0]          # a link to elsewhere is not followed
    except Damaged:
        pass


def test_nothing_larger_than_memory_is_read(path, monkeypatch):
    os.truncate(path, 1 << 40)                                  # sparse: takes no room
    with pytest.raises(InputError, match="1024.0 GiB do not fit"):
        load(path, "checkpoint")


def test_available_memory_is_a_sane_number():
    assert 1 << 20 < memory.available() < 1 << 50
