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
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep.unpack import unpack
from hrmas_sparse import __version__, places
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError


@dataclass(frozen=True)
class Remote:
    """A published file.  `holds` is the folder that an archive has inside; empty for a file that stays as it is."""

    url: str
    name: str
    md5: str
    holds: str = ""


_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"
_FIGSHARE = "https://figshare.com/ndownloader/files"
REMOTES = {
    "nmnist": (
        Remote(
            f"{_MENDELEY}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
            "Train.zip",
            "20959b8e626244a1b502305a9e6e2031",
            "Train",
        ),
        Remote(
            f"{_MENDELEY}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
            "Test.zip",
            "69ca8762b2fe404d9b9bad1103e97832",
            "Test",
        ),
    ),
    "ntidigits": (
        Remote(
            "https://www.dropbox.com/scl/fi/1x4lxt9yyw25sc3tez8oi/n-tidigits.hdf5"
            "?e=2&rlkey=w8gi5udvib2zqzosusa5tr3wq&dl=1",
            "n-tidigits.hdf5",
            "360a2d11e5429555c9197381cf6b58e0",
        ),
    ),
    "dvsgesture": (
        Remote(
            f"{_FIGSHARE}/38022171",
            "ibmGestureTrain.tar.gz",
            "3a8f0d4120a166bac7591f77409cb105",
            "ibmGestureTrain",
        ),
        Remote(
            f"{_FIGSHARE}/38020584",
            "ibmGestureTest.tar.gz",
            "56070e45dadaa85fff82e0fbfbc06de5",
            "ibmGestureTest",
        ),
    ),
}
BY_HAND = {
    "ti46": "is licensed (LDC93S9, https://catalog.ldc.upenn.edu/LDC93S9) and nobody may pass it on. Order it and put "
    "its folder ti_alpha, or Lyon-ear features of it, into {folder}",
    "fsdd": "is in a git repository: git clone https://github.com/Jakobovski/free-spoken-digit-dataset {folder} "
    "(what counts is {folder}/recordings)",
}
ALSO_BY_HAND = {
    "dvsgesture": "This is a preprocessed copy, times in ms. The original recordings need a click of consent: get "
    "DvsGesture.tar.gz from https://research.ibm.com/interactive/dvsgesture and unpack it to {folder}/DvsGesture; "
    "then set aside {folder}/ibmGestureTrain and Test, or give RAW={folder}/DvsGesture."
}

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 6  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second attempt; doubles
LARGEST = 16 << 30  # bytes; the largest file of REMOTES has 3 GB
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
    if dataset not in REMOTES:
        raise InputError(f"{dataset} {BY_HAND.get(dataset, 'is not known').format(folder=folder)}")
    try:
        with _only_one(folder):
            for remote in REMOTES[dataset]:
                _obtain(folder, remote, say)
    except OSError as error:
        raise InputError(f"{folder}: cannot be filled ({error})") from error
    if dataset in ALSO_BY_HAND:
        say(ALSO_BY_HAND[dataset].format(folder=folder))
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
        yield


def _obtain(folder: Path, remote: Remote, say: Callable[[str], None]) -> None:
    target, file = folder / (remote.holds or remote.name), folder / remote.name
    if remote.holds and target.exists():
        say(f"{target}: is there already")
        return
    if not file.exists():
        say(f"{file}: from {remote.url}")
        fetch(remote.url, file, remote.md5, say)
    elif (found := _md5(file)) != remote.md5:
        raise InputError(f"{file}: is there, but its MD5 is {found}, not {remote.md5}; remove it and start again")
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
            found = _md5(part)
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
        if found == md5:
            os.replace(part, path)
            return
        with files.opened(part) as file:
            start, size = file.read(40), _size(part)
        part.unlink()
        if fresh:
            raise InputError(
                f"{url}: expected a file of MD5 {md5}, found {found} ({size:,} bytes, the first are {start!r}); the "
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
