"""Files written whole or not at all, checked when read. JSON from others is data, not to be trusted."""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from hrmas_sparse.storage.errors import Damaged, InputError

LARGEST_JSON = 1 << 28  # bytes; an architecture in which every connection has its own type is the largest we write


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` once the block has succeeded and it is on disk.

    After an exception nothing is left and an older `path` is untouched.  Two processes may write the same `path`.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield beside
        _fsync(beside)
        os.replace(beside, path)
        _fsync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def remove_stale(folder: str | Path) -> None:
    """Remove from `folder` what `atomic_write` had begun in processes that were killed."""
    for path in Path(folder).glob(".*.tmp"):
        writer = re.search(r"\.(\d{1,9})-[0-9a-f]{8}\.tmp$", path.name)
        if writer and not _alive(int(writer[1])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left):]
    finally:
        os.close(descriptor)


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
    write_bytes(path, text.encode())


def write_json(path, value):
    """Write a JSON file atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_line(path, text):
    """Append a line to a file and see it on the disk; never through a link."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            left = memoryview(text.encode() + b"\n")
            while left:
                left = left[os.write(descriptor, left):]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); the run goes on from its last checkpoint: "
                         "make room, then give the same command again") from error


def read_json(path, form=None):
    """Read a JSON object.

    Parameters
    ----------
    path : Path
    form : what it must look like, see :func:`fits`, or None

    Raises
    ------
    InputError
        The file is missing, too large, does not hold a JSON object, or not of that form.
    """
    try:
        size = os.stat(path).st_size
        if size > LARGEST_JSON:
            raise Damaged(f"{path}: {size} bytes: too large to be ours")
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise Damaged(f"{path}: expected a JSON object, found {type(value).__name__}")
    for key, wanted in (form or {}).items():
        if key not in value or not fits(value[key], wanted):
            raise Damaged(f"{path}: {key}: missing or not what belongs there")
    return value


def fits(value, form):
    """Whether a value read from JSON has a form.

    A form is None, bool, int, float, str, a set of allowed values, [form] of every entry of a list,
    {"key": form, ...} of an object's keys, others allowed, {str: form} of any object, or a tuple of
    alternatives. Numbers are of moderate size and text is printable.
    """
    if isinstance(form, tuple):
        return any(fits(value, one) for one in form)
    if isinstance(form, set):
        return isinstance(value, (str, int)) and not isinstance(value, bool) and value in form
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(entry, form[0]) for entry in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        if str in form:
            return all(key.isprintable() and fits(entry, form[str]) for key, entry in value.items())
        return all(key in value and fits(value[key], wanted) for key, wanted in form.items())
    if form is None or form is bool:
        return value is None if form is None else isinstance(value, bool)
    if form is str:
        return isinstance(value, str) and value.isprintable()
    if form is float and isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
