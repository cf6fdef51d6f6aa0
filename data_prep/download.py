"""Fetch recordings that may be fetched, and say how to get the others.

A download goes to ``<name>.part``, which later attempts and later runs continue; it takes its name when its MD5 is that
of the published file.  An archive is unpacked beside its place and moved there complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from data_prep import READERS
from data_prep.source import Remote
from data_prep.unpack import unpack
from hrmas_sparse import __version__, places
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import NO_LOCKS


TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 6  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second attempt; doubles
LARGEST = 16 << 30  # bytes; the largest published file that a reader names has 3 GB
_BLOCK = 1 << 18
_TRANSIENT = (408, 425, 429)  # and 5xx


class _Broken(Exception):
    """A transfer that may go better next time."""


def download(dataset: str, folder: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Fetch the recordings of `dataset` into `folder`, by default ``data/raw/<dataset>``; returns the folder.

    What is there already stays.

    Raises
    ------
    InputError
        A data set to be fetched by hand (the message says from where and where to), no connection after some
        attempts, another file than the published one, an archive that is broken or reaches out of its folder.
    """
    folder = Path(folder or places.raw(dataset))
    reader = READERS.get(dataset)
    by_hand = "is not known" if reader is None else getattr(reader, "BY_HAND", "")
    remotes = getattr(reader, "REMOTES", ())
    if not remotes:
        raise InputError(f"{dataset} {by_hand.format(folder=folder)}")
    try:
        with _only_one(folder):
            for remote in remotes:
                _obtain(folder, remote, say)
    except OSError as error:
        raise InputError(f"{folder}: cannot be filled ({error})") from error
    if by_hand:
        say(by_hand.format(folder=folder))
    return folder


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep other processes from filling the same folder; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with files.appended(folder / ".download.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is downloading into it; wait for it") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def _obtain(folder: Path, remote: Remote, say: Callable[[str], None]) -> None:
    target, file = folder / (remote.holds or remote.name), folder / remote.name
    if remote.holds and target.exists():
        say(f"{target}: is there already")
        return
    if not file.exists():
        say(f"{file}: from {remote.url}")
        fetch(remote.url, file, remote.md5, say)
    elif (there := _md5(file)) != remote.md5:
        raise InputError(f"{file}: is there, but its MD5 is {there}, not {remote.md5}; remove it and start again")
    if remote.holds:
        unpack(file, target)
        file.unlink()
    say(f"{target}: complete")


def fetch(url: str, path: Path, md5: str, say: Callable[[str], None] = print) -> None:
    """Download `url` to `path`, going on with ``<path>.part`` if there is one; `path` appears complete and checked."""
    part, failures = path.with_name(f"{path.name}.part"), 0
    fresh = not part.exists()  # nothing in it is from another run
    while True:
        before = _size(part)
        try:
            _receive(url, part)
            digest = _md5(part)
        except _Broken as broken:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{url}: {broken}, {failures} times in a row; check the connection and run the same command "
                    f"again: it goes on after the {_size(part):,} bytes that are there"
                ) from broken
            say(f"  {broken}; trying again")
            time.sleep(PAUSE * 2**failures)
            continue
        if digest == md5:
            os.replace(part, path)
            return
        with files.opened(part) as file:
            start, size = file.read(40), _size(part)
        part.unlink()
        if fresh:
            raise InputError(
                f"{url}: expected a file of MD5 {md5}, found {digest} ({size:,} bytes, the first are {start!r}); the "
                f"file behind the link has changed. Get {path.name} from elsewhere and put it at {path}"
            )
        fresh = True
        say("  what was there from before does not fit; starting over")


def _receive(url: str, part: Path) -> None:
    """Append to `part` what is missing of `url`; start over if the server cannot continue."""
    have = _size(part)
    headers = {"User-Agent": f"hrmas_sparse/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        reply = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing comes after what we have: the checksum decides
            return
        if error.code in _TRANSIENT or error.code >= 500:
            raise _Broken(f"the server says {error.code} {error.reason}") from error
        raise InputError(f"{url}: the server says {error.code} {error.reason}; look for the file by hand") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"no answer ({getattr(error, 'reason', error) or type(error).__name__})") from error
    with reply:
        if have and not (reply.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            have = 0  # it sends all of it again
        length = reply.headers.get("Content-Length") or ""
        total = have + int(length) if length.isascii() and length.isdigit() else None
        _room(part, total, have)
        _copy(reply, part, have, total)
    if total is not None and _size(part) < total:
        raise _Broken(f"the connection broke after {_size(part):,} of {total:,} bytes")


def _copy(reply, part: Path, have: int, total: int | None) -> None:
    bar = tqdm(desc=part.stem, unit="B", unit_scale=True, total=total, initial=have, disable=None, leave=False)
    with files.appended(part, empty=not have) as file, bar:
        while True:
            try:
                block = reply.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(f"the connection broke ({error or type(error).__name__})") from error
            if not block:
                return
            have += len(block)
            if have > LARGEST:
                part.unlink(missing_ok=True)
                raise InputError(f"{reply.url}: sends more than {LARGEST:,} bytes; that is not the published file")
            files.pour(file, block)
            bar.update(len(block))


def _room(part: Path, total: int | None, have: int) -> None:
    if total is not None and total > LARGEST:
        raise InputError(f"{part.name}: the server says {total:,} bytes, more than {LARGEST:,}; that is not the "
                         "published file")
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise InputError(f"{part.parent}: {total - have:,} bytes are to come, {free:,} are free; make room")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with files.opened(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
