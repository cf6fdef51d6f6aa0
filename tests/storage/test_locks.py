"""Locks: one process at a time, on file systems without locks too; a folder that is taken away is noticed."""

import errno
import os
import shutil
import socket

import pytest

from hrmas_sparse.storage import locks
from hrmas_sparse.storage.atomic import append_line, atomic_write, write_bytes
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import held, locked, owner


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_second_process_is_refused_and_told_who(folder):
    with locked(folder / "lock", "run"):
        assert held(folder / "lock") and str(os.getpid()) in owner(folder / "lock")
        with pytest.raises(InputError, match=f"run: in use by process {os.getpid()} on "), \
                locked(folder / "lock", "run"):
            pass
    assert not held(folder / "lock") and owner(folder / "lock") == ""


# ---- the folder is taken away ---------------------------------------------------------------------------------


def renamed(folder):
    folder.rename(folder.with_name("other"))


def renamed_and_made_anew(folder):
    renamed(folder)
    folder.mkdir()
    (folder / "lock").write_text("")


def deleted(folder):
    shutil.rmtree(folder)


def deleted_and_made_anew(folder):
    deleted(folder)
    folder.mkdir()


def linked(folder):
    renamed_and_made_anew(folder)
    shutil.rmtree(folder)
    folder.with_name("third").mkdir()
    (folder.with_name("third") / "lock").write_text("")
    folder.symlink_to("third")


@pytest.mark.parametrize("away", [renamed, renamed_and_made_anew, deleted, deleted_and_made_anew, linked])
@pytest.mark.parametrize("relative", [False, True])
def test_nothing_is_written_once_the_folder_is_another(folder, away, relative, monkeypatch):
    monkeypatch.chdir(folder.parent)
    path = folder.relative_to(folder.parent) if relative else folder
    with locked(path / "lock", "run"):
        write_bytes(path / "x", b"1")
        away(folder)
        there = sorted(folder.parent.rglob("*"))
        for write in (lambda: write_bytes(path / "x", b"2"), lambda: append_line(folder / "y", "2"),
                      lambda: atomic_write(path / "x").__enter__()):
            with pytest.raises(InputError, match="run: was renamed, deleted or replaced while it was in use"):
                write()
        assert sorted(folder.parent.rglob("*")) == there
    if away is renamed:
        write_bytes(folder.with_name("other") / "x", b"3")  # it is not ours any more


def test_folders_that_nobody_locked_are_written_to(folder):
    write_bytes(folder / "x", b"1")
    append_line(folder / "y", "1")


def test_a_lock_of_a_folder_that_was_just_set_aside_is_not_taken(folder, monkeypatch):
    """Between opening the lock file and locking it, another process renames the folder."""
    whole, count = locks._lock, []

    def lock(*arguments):
        whole(*arguments)
        count.append(1)
        if len(count) == 1:
            folder.rename(folder.with_name("run.old-1"))
    monkeypatch.setattr(locks, "_lock", lock)
    with locked(folder / "lock", "run"):
        assert len(count) == 2 and (folder / "lock").exists()
        write_bytes(folder / "x", b"1")
    assert sorted(p.name for p in folder.with_name("run.old-1").iterdir()) == ["lock"]


# ---- file systems without locks ---------------------------------------------------------------------------------


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP])
def without_locks(request, monkeypatch):
    assert request.param in (37, 95)

    def flock(*_):
        raise OSError(request.param, os.strerror(request.param))
    monkeypatch.setattr(locks.fcntl, "flock", flock)


def test_work_goes_on_with_one_line(folder, without_locks, capsys):
    with locked(folder / "lock", "run"):
        write_bytes(folder / "x", b"1")
        assert held(folder / "lock")
    assert not held(folder / "lock")
    assert capsys.readouterr().err == "run: this file system has no locks; do not start a second process on it\n"


@pytest.mark.parametrize("note, taken", [
    ("process {pid} on {host}, since 2026", True), ("process 999999999 on {host}, since 2026", False),
    ("process 1 on elsewhere, since 2026", True), ("process 999999999 on elsewhere, since 2026", True),
    ("", False), ("process something else", True)])
def test_the_note_decides(folder, without_locks, note, taken):
    (folder / "lock").write_text(note.format(pid=os.getpid(), host=socket.gethostname()))
    assert held(folder / "lock") == taken
    if not taken:
        with locked(folder / "lock", "run"):
            pass
        return
    with pytest.raises(InputError, match="no locks to tell whether it still runs; if it does not, delete .*lock"), \
            locked(folder / "lock", "run"):
        pass


@pytest.mark.parametrize("text", ["my own notes", "PROCESS 1", "process 1 on here" + 1000 * "!", "\0"])
def test_a_file_of_somebody_is_not_emptied(folder, text):
    """A folder given as --out may hold a file of that name."""
    (folder / "lock").write_text(text)
    with pytest.raises(InputError, match="lock: expected no file of that name or our own lock, found another"), \
            locked(folder / "lock", "run"):
        pass
    assert (folder / "lock").read_text() == text


@pytest.mark.parametrize("text", ["", "pro", "process 12", "process 999999999 on here, since 2026-01-01 00:00"])
def test_a_note_that_a_full_disk_cut_short_is_ours(folder, text):
    (folder / "lock").write_text(text)
    with locked(folder / "lock", "run"):
        assert str(os.getpid()) in owner(folder / "lock")


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_lock_file(folder, kind, tmp_path):
    path = folder / "lock"
    (tmp_path / "mine").write_text("mine")
    {"pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to(tmp_path / "mine"), "folder": path.mkdir}[kind]()
    with pytest.raises(InputError, match="expected a regular file"), locked(path, "run"):
        pass
    assert owner(path) == "" and not held(path)
    assert (tmp_path / "mine").read_text() == "mine"
