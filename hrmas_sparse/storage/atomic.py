"""Files written whole or not at all; records appended. Nothing is written through a link or into another's folder."""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from hrmas_sparse import process
from hrmas_sparse.storage import files, locks
from hrmas_sparse.storage.errors import InputError


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` once the block has succeeded and it is on disk.

    After an exception nothing is left and an older `path` is untouched.  Two processes may write the same `path`.
    """
    path = Path(path)
    locks.check(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    process.unfinished.add(str(beside))
    try:
        yield beside
        _fsync(beside)
        os.replace(beside, path)
        _fsync(path.parent)
    finally:
        beside.unlink(missing_ok=True)
        process.unfinished.discard(str(beside))


def remove_stale(folder: str | Path) -> None:
    """Remove from `folder` what `atomic_write` had begun in processes that were killed."""
    for path in Path(folder).glob(".*.tmp"):
        writer = re.search(r"\.(\d{1,9})-[0-9a-f]{8}\.tmp$", path.name)
        if writer and not locks.alive(int(writer[1])):
            path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path, data, previous=None):
    """Write a file atomically.

    Parameters
    ----------
    path : Path; data : bytes
    previous : Path under which the file that was there before is kept, or None

    Raises
    ------
    InputError
        The disk is full, the folder is read-only, ...; what was there before is still there.
    """
    try:
        with atomic_write(path) as beside:
            _pour(beside, data)
            if previous is not None and os.path.exists(path):
                _keep(path, previous)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); what was there before is kept. Make room or "
                         "give the right to write, then give the same command again") from error


def _pour(path, data):
    with files.created(path) as file:
        files.pour(file, data)


def _keep(path, previous):
    """Let ``previous`` be the file that ``path`` is now."""
    beside = f"{previous}.{os.getpid()}.link"
    try:
        os.link(path, beside)
    except OSError:                  # a file system without hard links: for a moment there is no ``path``
        os.replace(path, previous)
        return
    os.replace(beside, previous)     # does nothing where both are one file already
    if os.path.lexists(beside):
        os.unlink(beside)


def write_text(path, text):
    """Write a text file atomically."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # a name in it may not be text


def write_json(path, value):
    """Write a JSON file atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_line(path, text):
    """Append a line to a file of our own and see it on the disk."""
    locks.check(Path(path).parent)
    try:
        with files.appended(path) as file:
            files.pour(file, text.encode() + b"\n")
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); the run goes on from its last checkpoint: "
                         "make room, then give the same command again") from error
