"""Nothing half-written on disk."""

from __future__ import annotations

import contextlib
import os
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


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
