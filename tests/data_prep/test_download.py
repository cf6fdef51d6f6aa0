"""Downloads from a server on this machine that cuts connections, sends the wrong thing, redirects, ignores ranges."""

import os
import contextlib
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
import zipfile

import pytest

from data_prep import READERS
from data_prep import download as module
from data_prep.download import Remote, download, fetch
from data_prep.unpack import unpack
from hrmas_sparse.storage.errors import InputError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """`server.plan` says how to behave, request by request; the last word stays."""

    def do_GET(self):
        plan = self.server.plan
        what = plan.pop(0) if len(plan) > 1 else plan[0]
        self.server.seen.append((self.path, self.headers.get("Range"), what))
        content, start = self.server.files.get(self.path, CONTENT), 0
        if what.isdigit():
            return self.send_error(int(what))
        if what == "redirect":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/moved{self.path}")
            return self.end_headers()
        ranged = self.headers.get("Range") if what != "no-range" else None
        if ranged:
            start = int(ranged.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
        if what == "wrong-range":
            start += 1000
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if what == "short":
            content = content[: len(content) // 2]
        if what == "page":
            content, start = b"<!DOCTYPE html> please log in", 0
        body = content[start:]
        if what not in ("no-length", "no-length-cut"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if what in ("cut", "no-length-cut"):
            body = body[: max(len(body) // 3, 1)]
        if what == "cut-at-once":
            body = b""
        with contextlib.suppress(ConnectionError):  # who asked may have had enough
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.plan, server.seen, server.files = ["well"], [], {}
        server.url = f"http://127.0.0.1:{server.server_port}/file"
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.bin"


def only(path):
    return [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "plan, requests",
    [
        (["well"], 1),
        (["redirect", "redirect", "well"], 3),
        (["cut", "well"], 2),
        (["cut", "cut", "cut-at-once", "cut", "well"], 5),
        (["cut", "no-range"], 2),
        (["cut", "503", "429", "redirect", "well"], 5),
        (["no-length"], 1),
        (["cut", "wrong-range", "well"], 3),
    ],
)
def test_a_file_arrives_whole_whatever_happens(server, path, plan, requests):
    server.plan = list(plan)
    if "wrong-range" in plan:  # sent from another place than asked for: a file that does not fit, so all over again
        path.with_name("file.bin.part").write_bytes(CONTENT[:500])
    fetch(server.url, path, MD5)
    assert path.read_bytes() == CONTENT and only(path)
    assert len(server.seen) == requests or "wrong-range" in plan


@pytest.mark.parametrize("plan", ["well", "no-length"])
def test_what_does_not_end_is_refused(server, path, monkeypatch, plan):
    monkeypatch.setattr(module, "LARGEST", len(CONTENT) - 1)
    server.plan = [plan]
    with pytest.raises(InputError, match="that is not the published file"):
        fetch(server.url, path, MD5)
    assert not list(path.parent.iterdir()) and len(server.seen) == 1
    monkeypatch.setattr(module, "LARGEST", len(CONTENT))
    fetch(server.url, path, MD5)
    assert path.read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_was(server, path):
    server.plan = ["cut", "well"]
    fetch(server.url, path, MD5)
    assert [seen[1] for seen in server.seen] == [None, f"bytes={len(CONTENT) // 3}-"]


def test_a_later_run_goes_on_with_the_part(server, path):
    server.plan = ["cut", "503"]
    with pytest.raises(InputError, match=r"503.* times in a row.*goes on after the 341,333 bytes"):
        fetch(server.url, path, MD5)
    assert not path.exists() and path.with_name("file.bin.part").stat().st_size == len(CONTENT) // 3
    server.plan = ["well"]
    fetch(server.url, path, MD5)
    assert server.seen[-1][1] == "bytes=341333-" and path.read_bytes() == CONTENT and only(path)


@pytest.mark.parametrize("part", [b"something else", CONTENT, CONTENT + b"more"])
def test_a_part_that_does_not_fit_is_replaced(server, path, part):
    path.with_name("file.bin.part").write_bytes(part)
    fetch(server.url, path, MD5)
    assert path.read_bytes() == CONTENT and only(path)


@pytest.mark.parametrize("plan", ["short", "page", "no-length-cut"])
def test_another_file_is_refused(server, path, plan):
    server.plan = [plan]
    with pytest.raises(InputError, match=f"expected a file of MD5 {MD5}, found .* the first are b'") as error:
        fetch(server.url, path, MD5)
    assert server.url in str(error.value) and str(path) in str(error.value)
    assert list(path.parent.iterdir()) == [] and len(server.seen) == 1


def test_what_will_not_get_better_is_not_tried_again(server, path):
    server.plan = ["404"]
    with pytest.raises(InputError, match="the server says 404"):
        fetch(server.url, path, MD5)
    assert len(server.seen) == 1
    with pytest.raises(InputError, match="no answer .* in a row"):
        fetch("http://127.0.0.1:9/file", path, MD5)


# --- whole data sets ---------------------------------------------------------------------------------------------


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files, **attributes):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            vars_ = attributes if name in attributes.get("names", ()) else {}
            member.type, member.linkname = vars_.get("type", tarfile.REGTYPE), vars_.get("linkname", "")
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def remotes(server, monkeypatch):
    server.files = {
        "/train": zipped({"Train/3/1.bin": b"12345", "Train/4/": b"", "__MACOSX/Train/3/._1.bin": b"x"}),
        "/test": tarred({"Test/3/1.bin": b"54321"}),
        "/plain": b"as it is",
    }
    base = server.url.removesuffix("/file")

    def remote(name, file, holds=""):
        return Remote(f"{base}/{name}", file, hashlib.md5(server.files[f"/{name}"]).hexdigest(), holds)

    found = {
        "nmnist": (remote("train", "Train.zip", "Train"), remote("test", "Test.tar.gz", "Test")),
        "ntidigits": (remote("plain", "n-tidigits.hdf5"),),
    }
    for dataset, own in found.items():
        monkeypatch.setattr(READERS[dataset], "REMOTES", own)
    return found


def test_archives_are_unpacked_and_go(server, remotes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = download("nmnist")
    assert str(folder) == "data/raw/nmnist"
    assert (folder / "Train/3/1.bin").read_bytes() == b"12345" and (folder / "Test/3/1.bin").read_bytes() == b"54321"
    assert sorted(p.name for p in folder.iterdir()) == [".download.lock", "Test", "Train"]
    before, said = len(server.seen), []
    download("nmnist", say=said.append)
    assert len(server.seen) == before and [line.split(": ")[1] for line in said] == ["is there already"] * 2


def test_an_archive_fetched_by_hand_is_unpacked(server, remotes, tmp_path):
    (tmp_path / "Train.zip").write_bytes(server.files["/train"])
    download("nmnist", tmp_path)
    assert (tmp_path / "Train/3/1.bin").is_file() and [seen[0] for seen in server.seen] == ["/test"]
    (tmp_path / "n-tidigits.hdf5").write_bytes(b"Found. Redirecting")
    with pytest.raises(InputError, match="n-tidigits.hdf5: is there, but its MD5 is"):
        download("ntidigits", tmp_path)


def test_a_plain_file_stays_as_it_is(remotes, tmp_path):
    assert (download("ntidigits", tmp_path) / "n-tidigits.hdf5").read_bytes() == b"as it is"


def test_two_at_once(remotes, tmp_path):
    with module._only_one(tmp_path), pytest.raises(InputError, match="another process is downloading"):
        download("ntidigits", tmp_path)


@pytest.mark.parametrize("number", [37, 95])
def test_a_file_system_without_locks(remotes, tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(module.fcntl, "flock", flock)
    assert (download("ntidigits", tmp_path) / "n-tidigits.hdf5").read_bytes() == b"as it is"


def test_leftovers_of_a_killed_unpacking_do_not_matter(remotes, tmp_path):
    (tmp_path / ".unpacking-Train/Train/9").mkdir(parents=True)
    download("nmnist", tmp_path)
    assert not (tmp_path / "Train/9").exists() and not (tmp_path / ".unpacking-Train").exists()


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "Train/../../evil", "Train\\..\\..\\evil", "C:/evil"])
def test_paths_that_lead_elsewhere_are_refused(tmp_path, make, name):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (inside / "archive").write_bytes(make({"Train/1.bin": b"1", name: b"evil"}))
    with pytest.raises(InputError, match="leads out of the archive's folder") as error:
        unpack(inside / "archive", inside / "Train")
    assert str(inside / "archive") in str(error.value)
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "b", "archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    content = tarred({"Train/1.bin": b"", "Train/2": b""}, names=["Train/2"], type=kind, linkname="/etc/passwd")
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(InputError, match="'Train/2' is no ordinary file"):
        unpack(tmp_path / "archive", tmp_path / "Train")
    member = zipfile.ZipInfo("Train/2")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(InputError, match="'Train/2' is no ordinary file"):
        unpack(tmp_path / "archive", tmp_path / "Train")
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("make", [zipped, tarred])
def test_broken_archives_are_refused(tmp_path, make):
    """A tar file says little about its soundness: what it may not do is raise anything else, or leave a half."""
    whole = make({f"Train/{i}.bin": hashlib.sha256(bytes([i])).digest() * 20 for i in range(40)})
    archive = tmp_path / "archive"
    for damage in range(60):
        content = bytearray(whole[: len(whole) - damage * 13]) if damage % 2 else bytearray(whole)
        for byte in range(damage * 37 % len(content), len(content), 211):
            content[byte] ^= 1 << damage % 8
        archive.write_bytes(content)
        try:
            unpack(archive, tmp_path / "Train")
            assert make is tarred
            shutil.rmtree(tmp_path / "Train")
        except InputError as error:
            assert str(archive) in str(error)
        assert list(tmp_path.iterdir()) == [archive]
    archive.write_bytes(make({"Other/1.bin": b"1"}))
    with pytest.raises(InputError, match="expected Train in it, found none"):
        unpack(archive, tmp_path / "Train")


@pytest.mark.parametrize("dataset, words", [("ti46", "LDC93S9"), ("fsdd", "git clone"), ("nothing", "is not known")])
def test_what_must_be_fetched_by_hand(dataset, words, tmp_path):
    with pytest.raises(InputError, match=words):
        download(dataset, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_published_files_are_those_of_the_documentation():
    text = json.dumps([[vars(remote) for remote in remotes] for reader in READERS.values()
                       if (remotes := getattr(reader, "REMOTES", ()))])
    for part in ("39c25547-014b-4137-a934-9d29fa53c7a0", "05a4d654-7e03-4c15-bdfa-9bb2bcbea494", "38022171", "38020584",
                 "20959b8e626244a1b502305a9e6e2031", "69ca8762b2fe404d9b9bad1103e97832",
                 "3a8f0d4120a166bac7591f77409cb105", "56070e45dadaa85fff82e0fbfbc06de5",
                 "360a2d11e5429555c9197381cf6b58e0"):
        assert part in text
