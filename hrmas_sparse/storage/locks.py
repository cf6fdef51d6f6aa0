"""One process at a time: locks of the operating system, which die with their owner, and a note of who that is."""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time

from hrmas_sparse.storage.errors import InputError


@contextlib.contextmanager
def locked(path, what, wait=False):
    """Hold the lock file ``path`` while the block runs.

    Parameters
    ----------
    path : Path; its folder is made if missing
    what : str, what the lock protects, for messages
    wait : bool, wait for another owner to finish instead of refusing

    Raises
    ------
    InputError
        Another process holds it (the message says which), or the file system cannot lock.
    """
    descriptor = _opened(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise InputError(f"{what}: in use by {owner(path) or 'another process'}; wait for it or stop it, or "
                                 "give another --name (NAME=)") from None
            print(f"{what}: waiting for {owner(path) or 'another process'}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            _by_note(path, what, error)
        stale = owner(path)
        if stale and not wait:
            print(f"{what}: {stale} ended without a goodbye; taking over from its last checkpoint", file=sys.stderr)
        _note(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M')}")
        try:
            yield
        finally:
            _note(descriptor, "")
    finally:
        os.close(descriptor)  # gives the lock back


def _opened(path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _note(descriptor, text):
    with contextlib.suppress(OSError):  # a full disk must not keep anybody from working: the lock holds without a note
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _by_note(path, what, error):
    """On a file system without locks, believe the note."""
    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
        raise InputError(f"{path}: cannot be locked ({error.strerror})") from error
    if owner(path):
        raise InputError(f"{what}: in use by {owner(path)}, and this file system has no locks to tell whether it still "
                         f"runs; if it does not, delete {path}") from error


def owner(path):
    """The note in a lock file: who holds it or held it last and did not end properly; empty if nobody."""
    try:
        with open(path, "rb") as file:
            text = file.read(200).decode(errors="replace")
    except OSError:
        return ""
    return text if text.isprintable() else ""


def held(path):
    """Whether some process holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
