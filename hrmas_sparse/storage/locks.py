"""One process at a time: locks of the operating system, which die with their owner, and a note of who that is."""

import contextlib
import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hrmas_sparse.environment import option
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of file systems without locks
_ATTEMPTS = 20
_NOTE, _LONGEST_NOTE = "process ", 1000  # how a note begins, and bytes of it
_held: dict[Path, tuple[int, Path]] = {}  # folders that this process has locked: the lock file, open, and its path


@contextlib.contextmanager
def locked(path: Path, what: str, wait: bool = False) -> Iterator[Callable[[], None]]:
    """Hold the lock file ``path`` while the block runs.

    Nothing is written into its folder once that is no longer the folder that was locked, see :func:`check`. What is
    yielded checks this very lock: another thread may have locked a new folder of the same name meanwhile.

    Parameters
    ----------
    path : Path; its folder is made if missing
    what : str, what the lock protects, for messages
    wait : bool, wait for another owner to finish instead of refusing

    Raises
    ------
    InputError
        Another process holds it (the message says which), the file system cannot lock, or the file is somebody's own.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_locked_file(path, what, wait))
        stale = owner(path)
        if stale and not wait:
            print(f"{what}: {stale} did not end properly; going on from its last checkpoint", file=sys.stderr)
        _note(file, f"{_NOTE}{os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M')}")
        folder = _folder(path.parent)
        ours = file.fileno(), folder / path.name
        numbered = _same(*ours)  # always, but where a file system numbers its files as it likes
        if numbered:
            _held[folder] = ours
        try:
            yield lambda: _refuse_another(folder, ours) if numbered else None
        finally:
            if _held.get(folder) is ours:
                del _held[folder]
            _note(file, "")


def _folder(path):
    return Path(os.path.abspath(path))


def _same(descriptor, path):
    """Whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def _locked_file(path, what, wait):
    """The lock file, open and locked; closing it gives the lock back."""
    for attempt in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        file = files.appended(path)
        try:
            _refuse_foreign(file, path)
            _lock(file, path, what, wait)
        except BaseException:
            file.close()
            raise
        if _same(file.fileno(), path):
            break
        if attempt < _ATTEMPTS - 1:
            file.close()  # the folder was renamed or deleted between the two: this is the lock of another one
    return file


def _refuse_foreign(file, path):
    """Refuse a file that is no note of ours, whole or cut short by a full disk: it would be emptied."""
    begin = os.pread(file.fileno(), len(_NOTE), 0).decode(errors="replace")
    if not _NOTE.startswith(begin) or os.fstat(file.fileno()).st_size > _LONGEST_NOTE:
        raise InputError(f"{path}: expected no file of that name or our own lock, found another; move it, or give "
                         "another folder")


def _lock(file, path, what, wait):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise InputError(f"{what}: in use by {owner(path) or 'another process'}; wait for it or stop it, or "
                             f"give another {option('name')}") from None
        print(f"{what}: waiting for {owner(path) or 'another process'}", file=sys.stderr, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        _by_note(path, what, error)


def _note(file, text):
    with contextlib.suppress(OSError):  # a full disk must not keep anybody from working: the lock holds without a note
        file.truncate(0)
        files.pour(file, text.encode())


def _by_note(path, what, error):
    """On a file system without locks, believe the note."""
    if error.errno not in NO_LOCKS:
        raise InputError(f"{path}: cannot be locked ({error.strerror})") from error
    if _may_run(owner(path)):
        raise InputError(f"{what}: in use by {owner(path)}, and this file system has no locks to tell whether it still "
                         f"runs; if it does not, delete {path}") from error
    print(f"{what}: this file system has no locks; do not start a second process on it", file=sys.stderr)


def _may_run(note):
    """Whether the process of a note may still run: it does, or is another machine's."""
    match = re.match(r"process (\d{1,9}) on (.*), since ", note)
    return bool(note) and not (match and match[2] == socket.gethostname() and not alive(int(match[1])))


def alive(process: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def owner(path: Path) -> str:
    """The note in a lock file: who holds it or held it last and did not end properly; empty if nobody."""
    try:
        with files.opened(path, own=True) as file:
            text = file.read(200).decode(errors="replace")
    except (InputError, OSError):
        return ""
    return text if text.isprintable() else ""


def held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    try:
        with files.opened(path, own=True) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _may_run(owner(path))
    except InputError:
        return False
    return False


def check(folder: Path) -> None:
    """Refuse to write into a folder that is no longer the one this process has locked.

    Raises
    ------
    InputError
        It was renamed, deleted or replaced meanwhile.
    """
    folder = _folder(folder)
    if folder in _held:
        _refuse_another(folder, _held[folder])


def _refuse_another(folder, ours):
    if not _same(*ours):
        raise InputError(f"{folder}: was renamed, deleted or replaced while it was in use; nothing more is written. "
                         "Put it back and give the same command again")
