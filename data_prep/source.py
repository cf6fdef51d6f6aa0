"""Raw data found on disk: what a reader's `find` hands over."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from hrmas_sparse import environment
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

_BLOCK = 1 << 22
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Source:
    """The raw files of one data set, in the order in which they are read.

    `root` is what the user pointed at, `layout` tells a reader with several layouts which one it found, `samples` how
    many samples there are, if that is known and not the number of files: the progress bar wants it.  `class_names` are
    the reader's unless the files have their own.  A file of more than `largest` bytes is none of theirs.
    """

    root: Path
    files: tuple[Path, ...]
    layout: str = ""
    provenance: str = "real"
    samples: int | None = None
    class_names: tuple[str, ...] = ()
    largest: int = 8 << 30


@dataclass(frozen=True)
class Remote:
    """A published file.  `holds` is what an archive has inside, a folder or a file; empty for one that stays as it is.

    Without a published checksum `md5` is empty: what comes is taken as it is, and said to be unverified.
    """

    url: str
    name: str
    md5: str
    holds: str = ""


def recordings(folder: Path, pattern: str) -> list[Path]:
    """What has a matching name, in any case, sorted; what is no file is among them, for it stands for a recording.

    Hidden files, what file managers and archives leave behind, are none.
    """
    above, _, ending = pattern.rpartition("*")
    return sorted(path for path in folder.glob(f"{above}*") if path.name.lower().endswith(ending)
                  and not path.name.startswith("."))


def check_there(source: Source) -> None:
    """Refuse recordings that are not there: links to nothing, and pointers that Git LFS leaves in place of files.

    What is larger than any recording is refused too: it would take for ever to read.
    """
    lost = [path for path in source.files if not path.is_file()]
    if lost:
        raise InputError(f"{lost[0]}: expected a recording, found {files.kind_of(lost[0])}; {len(lost)} of "
                         f"{len(source.files)} recordings are missing; get them, or remove what stands for them")
    for path in source.files:
        if path.stat().st_size > source.largest:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes are too many for a recording, {source.largest:,} "
                             "at most; get the file again")
    pointers = []
    for path in source.files:
        if path.stat().st_size < 1024:
            with files.opened(path) as file:
                pointers += [path] if file.read(len(_POINTER)) == _POINTER else []
    if pointers:
        raise InputError(f"{pointers[0]}: expected a recording, found a pointer of Git LFS; {len(pointers)} of "
                         f"{len(source.files)} files are such; `git lfs pull` in their folder fetches the recordings")


def fingerprint(source: Source) -> str:
    """SHA-256 over the name, size and content of every file: where the data lie does not matter, what they are does."""
    check_there(source)
    digest = hashlib.sha256(source.layout.encode())
    for path in progress(source.files, "checking raw data", "file"):
        name = path.relative_to(source.root).as_posix() if path != source.root else path.name
        digest.update(os.fsencode(f"\n{name} {path.stat().st_size}\n"))  # a name is bytes, not always text
        with files.opened(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def in_order(function: Callable, items: Iterable, workers: int | None = None) -> Iterator:
    """Yield ``function(item)`` for each item, in the order of `items`, computed ahead by threads.

    At most three results a worker wait, so memory stays flat however many items there are.  An exception comes out
    where its result would have, and what has not begun is given up.  `workers` is `environment.threads` by default.
    """
    workers = workers or environment.threads()
    if workers == 1:
        yield from map(function, items)
        return
    pool, waiting = ThreadPoolExecutor(workers), deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def progress(items: Iterable, what: str, unit: str, total: int | None = None) -> Iterator:
    """A progress bar on stderr: none if that is no terminal, none for what is done within two seconds."""
    return tqdm(items, desc=what, unit=unit, total=total, disable=None, delay=2, leave=False)
