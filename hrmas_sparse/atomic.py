"""Nothing half-written on disk."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path


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
