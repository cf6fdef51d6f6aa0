"""Raw data found on disk: what a reader's `find` hands over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Source:
    """The raw files of one data set, in the order in which they are read.

    `root` is what the user pointed at, `layout` tells a reader with several layouts which one it found.
    """

    root: Path
    files: tuple[Path, ...]
    layout: str = ""
    provenance: str = "real"


def fingerprint(source: Source) -> str:
    """SHA-256 over the name, size and content of every file: where the data lie does not matter, what they are does."""
    digest = hashlib.sha256(source.layout.encode())
    for path in progress(source.files, "checking raw data", "file"):
        name = path.relative_to(source.root).as_posix() if path != source.root else path.name
        digest.update(f"\n{name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def progress(items: Iterable, what: str, unit: str, total: int | None = None) -> Iterator:
    """A progress bar on stderr: none if that is no terminal, none for what is done within two seconds."""
    return tqdm(items, desc=what, unit=unit, total=total, disable=None, delay=2, leave=False)
