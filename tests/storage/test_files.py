"""The one opening place: regular files, claims held against what is stored, records against forms, plain text."""

import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from hrmas_sparse.data import npz
from hrmas_sparse.storage import files, hdf5, memory, npy, records
from hrmas_sparse.storage.atomic import append_line
from hrmas_sparse.storage.errors import Damaged, InputError, printable


# ---- regular files ----------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    return tmp_path / "x"


def replaced(path, kind):
    path.rename(path.with_name("whole"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to({"link": "whole", "device": "/dev/zero", "loop": path.name, "dangling": "no"}[kind])


@pytest.mark.parametrize("kind, said", [
    ("pipe", "a pipe"), ("folder", "a folder"), ("device", "a link"), ("link", "a link"), ("loop", "a link"),
    ("dangling", "a link"), ("nothing", "No such file")])
def test_our_own_files_are_regular_files(path, kind, said):
    replaced(path, kind)
    with pytest.raises(InputError, match=f"x: cannot be read .*{said}"):
        files.read(path, own=True)
    if kind != "nothing":
        with pytest.raises(InputError, match=f"x: cannot be written .*{said}"):
            append_line(path, "more")
    assert path.with_name("whole").read_bytes() == b"content" and not path.with_name("no").exists()


@pytest.mark.parametrize("kind, said", [
    ("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device"), ("link", None),
    ("loop", "Too many levels"), ("dangling", "No such file"), ("nothing", "No such file")])
def test_files_of_others_may_be_links_to_regular_files(path, kind, said):
    replaced(path, kind)
    if said is None:
        assert files.read(path) == b"content"
        return
    with pytest.raises(InputError, match=f"x: cannot be read .*{said}"):
        files.read(path)


def test_a_name_that_cannot_be_one():
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be read"):
            files.read(name)


def test_no_more_is_read_than_fits(path, monkeypatch):
    os.truncate(path, 1 << 43)  # takes no room
    with pytest.raises(InputError, match=r"x: 8192.0 GiB do not fit into the .* of memory that are free"):
        files.read(path)
    with pytest.raises(InputError, match=r"x: .* bytes are too many .*, 100 at most"):
        files.read(path, largest=100)
    os.truncate(path, 1 << 20)
    monkeypatch.setattr(memory, "available", lambda: 3 << 19)
    assert len(files.read(path)) == 1 << 20
    with pytest.raises(InputError, match="do not fit"):
        files.read(path, copies=2)


def test_created_never_follows_a_link(path):
    (path.with_name("link")).symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        files.created(path.with_name("link"))
    assert not path.with_name("elsewhere").exists()


def test_a_mapped_array_must_be_there(path):
    np.testing.assert_array_equal(files.mapped(path, np.dtype("u1"), 3, (4,)), list(b"tent"))
    with pytest.raises(InputError, match="7 bytes, expected 8: the file is cut short"):
        files.mapped(path, np.dtype("u1"), 3, (5,))


# ---- HDF5 --------------------------------------------------------------------------------------------------------


def test_an_array_larger_than_memory_would_be_written_by_us(tmp_path, monkeypatch):
    """What HDF5 writes into memory is its structure alone; the file is like any other, and always the same."""
    blocks = [np.full(1 << 16, n, np.uint16).tobytes() for n in range(20)]

    def write(path):
        with hdf5.new_file(path, libver="latest") as new:
            new.file.attrs["x"] = 1
            new.file["small"] = np.arange(5)
            new.file.create_group("group")
            made = new.array("group/large", np.dtype("u2"), 20 << 16, iter(blocks))
            made.attrs["note"] = np.bytes_(b"n" * 70_000)  # more than a page
            made = new.array("empty", np.dtype("u2"), 0, iter([]))
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["x"] == 1 and file["small"][:].tolist() == list(range(5)) and file["empty"].shape == (0,)
        assert (file["group/large"][:] == np.repeat(np.arange(20), 1 << 16)).all()
        assert len(file["group/large"].attrs["note"]) == 70_000


def test_pages_are_a_file():
    """Against a file in memory: the same bytes at the same places, whatever is written and read."""
    rng, ours, plain = np.random.default_rng(0), hdf5._Pages(), io.BytesIO()
    for _ in range(300):
        at, size = int(rng.integers(400_000)), int(rng.choice([1, 100, 70_000, 200_000]))
        if rng.random() < 0.5:
            data = rng.bytes(size)
            for file in (ours, plain):
                file.seek(at)
                file.write(data)
        else:
            buffer = bytearray(size)
            ours.seek(at)
            ours.readinto(buffer)
            plain.seek(at)
            assert bytes(buffer) == plain.read(size).ljust(size, b"\0")
    assert ours.seek(0, 2) == plain.seek(0, 2)
    image = bytearray(plain.seek(0, 2))
    for offset, text in ours.written():
        image[offset:offset + len(text)] = text
    assert bytes(image) == plain.getvalue()


@pytest.fixture
def zoo(tmp_path):
    """A file with everything that is no plain data set."""
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.arange(4.0)
    (tmp_path / "raw").write_bytes(bytes(32))
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
    with h5py.File(tmp_path / "zoo.h5", "w") as file:
        file["plain"] = np.arange(4.0)
        file["text"] = np.array([b"ab", b"c"])
        file.create_dataset("packed", data=np.arange(1000), chunks=(100,), compression="gzip")
        file.create_dataset("names", data=["a", "bc"], dtype=h5py.string_dtype())
        file.create_dataset("unwritten", (1 << 40,), "f4")
        file.create_dataset("some chunks", (1 << 40,), "f4", chunks=(1 << 10,))[:5] = 1
        file.create_dataset("wide", (3,), "S1000000000")
        file.create_dataset("external", (4,), "f8", external=[(str(tmp_path / "raw"), 0, 32)])
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        file["soft"] = h5py.SoftLink("/plain")
        file["soft away"] = h5py.SoftLink("/link")
        file.create_dataset("null", data=h5py.Empty("f4"))
        file.create_dataset("records", data=np.zeros(2, "f4,f4"))
    return tmp_path / "zoo.h5"


@pytest.mark.parametrize("name", ["plain", "text", "packed", "names", "unwritten", "some chunks", "wide", "external",
                                  "virtual", "link", "soft", "soft away", "null", "records"])
def test_only_what_is_plainly_stored_is_found(zoo, name):
    wanted = {"plain": np.arange(4.0), "text": [b"ab", b"c"], "packed": np.arange(1000), "names": [b"a", b"bc"]}
    with hdf5.opened(zoo) as file:
        if name in wanted:
            np.testing.assert_array_equal(hdf5.read(hdf5.find(file, name)), wanted[name])
        elif "link" in name or "soft" in name:
            assert hdf5.find(file, name) is None
        else:
            with pytest.raises(ValueError, match="claims|another file|empty|neither numbers nor text"):
                hdf5.read(hdf5.find(file, name))


def test_many_names_that_are_one_large_text(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("names", data=["x" * 1000] * 100, dtype=h5py.string_dtype())
    with hdf5.opened(tmp_path / "x.h5") as file:
        assert len(hdf5.read(hdf5.find(file, "names"), 1 << 20)) == 100
        with pytest.raises(ValueError, match="more text than fits"):
            hdf5.read(hdf5.find(file, "names"), 50_000)


def test_hdf5_that_another_process_writes_is_read_or_named(zoo):
    """HDF5's own locks are not asked: with them this would be refused, and where there are none, everything."""
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+', locking=True); print(flush=True); input()"
    writer = subprocess.Popen([sys.executable, "-c", code, str(zoo)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"\n"
        with pytest.raises(OSError, match="lock"):
            h5py.File(zoo, locking=True)
        with hdf5.opened(zoo) as file:
            assert hdf5.read(hdf5.find(file, "plain")).tolist() == [0, 1, 2, 3]
    finally:
        writer.communicate(b"\n")


@pytest.mark.parametrize("locking", [True, False, "best-effort"])
def test_hdf5_that_the_users_program_has_open(zoo, locking):
    with h5py.File(zoo, "r", locking=locking), hdf5.opened(zoo) as file:
        assert hdf5.read(hdf5.find(file, "plain")).tolist() == [0, 1, 2, 3]


# ---- NumPy -------------------------------------------------------------------------------------------------------


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def as_npy(array, shape=None):
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    return content if shape is None else content.replace(str(array.shape).encode(), shape.encode()[:30], 1)


def test_numpy_files(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3), "c": np.zeros((0, 2)), "t": np.array(["x"])}
    np.savez(tmp_path / "x.npz", **arrays)
    found = npy.load(tmp_path / "x.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        np.save(tmp_path / "x.npy", array)
        np.testing.assert_array_equal(npy.mapped(tmp_path / "x.npy"), array)


def test_numpy_files_that_claim_more_than_they_have(tmp_path):
    odd = {"claim": as_npy(np.zeros(100), "(10000000000000,)"), "negative": as_npy(np.zeros(100), "(-1,)"),
           "short": as_npy(np.zeros(100))[:-1], "long": as_npy(np.zeros(100)) + b"x",
           "objects": as_npy(np.zeros(1)).replace(b"<f8", b"|O "), "nothing": b""}
    for name, content in odd.items():
        with pytest.raises(npy.BROKEN):
            npy.load(archive(tmp_path / f"{name}.npz", a=content))
        (tmp_path / f"{name}.npy").write_bytes(content)
        with pytest.raises(npy.BROKEN):
            npy.mapped(tmp_path / f"{name}.npy")


def test_two_threads_never_parse_a_heading_at_once(tmp_path, monkeypatch):
    """`ast.literal_eval` in two threads fails at random in some Pythons: a good file would be refused."""
    parse, alone = np.lib.format.read_array_header_1_0, threading.Lock()

    def watched(file, **options):
        assert alone.acquire(blocking=False), "two at once"
        time.sleep(0.005)
        try:
            return parse(file, **options)
        finally:
            alone.release()
    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", watched)
    vector = np.arange(6)
    np.save(tmp_path / "x.npy", vector)
    np.savez(tmp_path / "x.npz", **dict.fromkeys(npz.REQUIRED, vector))
    readers = [lambda: npy.mapped(tmp_path / "x.npy"), lambda: npy.load(tmp_path / "x.npz")["step"],
               lambda: npz.read(tmp_path / "x.npz")["step"]]
    with ThreadPoolExecutor(6) as pool:
        for array in pool.map(lambda read: read(), 4 * readers):
            np.testing.assert_array_equal(array, vector)


def test_an_archive_that_unpacks_to_more_than_memory(tmp_path, monkeypatch):
    archive(tmp_path / "x.npz", a=as_npy(np.zeros(1 << 20)))
    monkeypatch.setattr(memory, "available", lambda: 1 << 20)
    with pytest.raises(InputError, match="do not fit"):
        npy.load(tmp_path / "x.npz")


# ---- records -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, said", [
    (b'{"a": NaN}', "NaN is not a number"), (b'{"a": 1e999}', "not finite"), (b'{"a": "\\ud800"}', "no Unicode"),
    (b'{"\\ud800": 1}', "no Unicode"), (b'{"a":' * 20 + b"1" + b"}" * 20, "nested deeper"),
    (b"[" * 100_000 + b"]" * 100_000, "not JSON"), (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    (b"[1]", "expected a JSON object, found list"), (b"", "not JSON"), (b"\xff", "not text in UTF-8"),
    (b'{"a": "x"}', "a: missing or not what belongs there"), (b"{}", "a: missing")])
def test_json_that_is_refused(path, text, said):
    path.write_bytes(text)
    with pytest.raises(Damaged, match=said):
        records.read_json(path, {"a": int})


def test_json_that_is_taken(path):
    path.write_text(json.dumps({"a": 1, "more": [{"b": [None, True, 1.5, "ü"]}], "types": [0, 1, 2] * 1000}))
    assert records.read_json(path, {"a": int})["more"] == [{"b": [None, True, 1.5, "ü"]}]


@pytest.mark.parametrize("text, kind", [
    ("a = [", records.NotToml), ("a = " + "[" * 3000 + "]" * 3000, InputError), ("a = " + "1" * 5000, InputError),
    ("a = " + "[" * 20 + "]" * 20, InputError)])
def test_toml_that_is_refused(path, text, kind):
    path.write_text(text)
    with pytest.raises(kind, match="x"):
        records.read_toml(path)


def test_a_message_is_one_line_of_plain_text():
    error = InputError("a\x1b[2J b\nc \udc80 \u202e d")
    assert str(error) == "a\\x1b[2J b\\nc \\udc80 \\u202e d" == printable(error) and str(error).isprintable()
