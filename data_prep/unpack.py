"""Archives unpacked into one folder, and nothing outside it."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from data_prep.source import progress
from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

Member = tuple[str, IO[bytes] | None]  # name; content, None for a folder


def unpack(archive: Path, target: Path) -> None:
    """Unpack the folder or file `target` is named after from a zip or tar file; it appears complete or not at all.

    Anything else in the archive is left out.  Call it for one process at a time.

    Raises
    ------
    InputError
        Naming archive and member: a broken archive, a link, a path that leads elsewhere, the folder missing.
    """
    beside = target.with_name(f".unpacking-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    beside.mkdir()
    try:
        _fill(beside, archive, target.name)
        (beside / target.name).rename(target)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); get it again, or make room") from error
    except Exception as error:  # zipfile, tarfile, zlib and lzma have many for a broken archive
        raise InputError(f"{archive}: broken ({str(error)[:120]}); remove it and get it again") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fill(folder: Path, archive: Path, holds: str) -> None:
    members = _zip(archive) if zipfile.is_zipfile(archive) else _tar(archive)
    for name, content in progress(members, f"unpacking {archive.name}", "file"):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise InputError(f"{archive}: member {name[:80]!r} leads out of the archive's folder; do not use this file")
        if not path.parts or path.parts[0] != holds:
            continue
        if content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with files.created(folder / path) as file:
            while block := content.read(1 << 20):
                files.pour(file, block)
    if not (folder / holds).exists():
        raise InputError(f"{archive}: expected {holds} in it, found none; get it again")


def _zip(archive: Path) -> Iterator[Member]:
    with files.opened(archive) as opened, zipfile.ZipFile(opened) as file:
        for member in file.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                _refuse_link(archive, member.filename)
            if member.is_dir():
                yield member.filename, None
            else:
                with file.open(member) as content:
                    yield member.filename, content


def _tar(archive: Path) -> Iterator[Member]:
    with files.opened(archive) as opened, tarfile.open(fileobj=opened) as file:
        for member in file:
            if not (member.isfile() or member.isdir()):
                _refuse_link(archive, member.name)
            yield member.name, file.extractfile(member) if member.isfile() else None


def _refuse_link(archive: Path, name: str):
    raise InputError(f"{archive}: member {name[:80]!r} is no ordinary file; do not use this archive")
