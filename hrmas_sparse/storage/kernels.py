"""Where compiled kernels are kept on disk, and that they are of these very sources.

Numba notices when the file of a kernel changes, but not when a file it calls into does. And where it cannot write
the folder it is given, it keeps kernels beside the source or in another folder of the user. So the folder's name
carries a checksum of all that is compiled and of where it lies, and where no such folder can be written, nothing is
kept: old machine code never runs.
"""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hrmas_sparse import environment

environment.mend_numba()  # for a program that is not ours; ours has said it

from numba import config, njit  # noqa: E402

ROOM = 1 << 16  # bytes that must fit into a folder


class Place(NamedTuple):
    """Where kernels are kept.

    folder : Path, or None where nothing can be kept
    problem : why it is not the folder it should be; empty if it is
    """

    folder: Path | None
    problem: str


class Kernels:
    """The kernels of some source files.

    Parameters
    ----------
    sources : all files that are compiled
    versions : of what compiles them, where Numba does not know
    options : of ``numba.njit``
    """

    def __init__(self, sources: Sequence[str | Path], versions: str = "", /, **options):
        self._sources, self._options = [Path(source).resolve() for source in sources], options
        self._versions = versions

    @functools.cached_property
    def place(self) -> Place:
        """Where they are kept, found out once: below the folder of :func:`wanted`, or a temporary one of the user."""
        digest = hashlib.sha256(self._versions.encode())
        for source in self._sources:
            digest.update(os.fsencode(source) + b"\0" + source.read_bytes())
        name = digest.hexdigest()[:16]
        try:
            str(self._sources[0]).encode()  # Numba makes text of it
        except UnicodeError:
            return Place(None, "the path of the program is not text")
        above, problem = wanted()
        if above is not None:
            problem = unusable(above / name)
            if not problem:
                return Place(above / name, "")
            problem = f"{above} {problem}"
        temporary = _temporary()
        if temporary is not None and not unusable(temporary / name):
            return Place(temporary / name, problem)
        return Place(None, problem)

    @property
    def compiled(self) -> bool:
        """Whether some are there; Numba makes folders for those that are declared, too."""
        return self.place.folder is not None and any(self.place.folder.glob("*/*.nbc"))

    @property
    def notice(self) -> str:
        """What a user is told before kernels are compiled; empty where they are there."""
        folder, problem = self.place
        if folder is None:
            return (f"compiling the kernels, half a minute at every start: {problem}, so they are not kept; "
                    "NUMBA_CACHE_DIR=folder names a folder for them")
        if self.compiled:
            return ""
        kept = f"; {problem}, so they are kept in {folder.parent}" if problem else ""
        return f"compiling the kernels for this machine once: half a minute{kept}"

    def jit(self, function: Callable) -> Callable:
        """Compile a function of the sources on its first call; Numba's settings are then what they were before."""
        if Path(function.__code__.co_filename).resolve() not in self._sources:
            raise ValueError(f"{function.__qualname__}: not of the sources whose checksum names the folder")
        folder = self.place.folder
        if folder is None:
            return njit(**self._options, cache=False)(function)
        with _kept_in(folder):
            kernel = njit(**self._options, cache=True)(function)
        if Path(kernel._cache.cache_path).parent != folder:  # it was writable a moment ago
            return njit(**self._options, cache=False)(function)
        return kernel


@contextlib.contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def wanted() -> tuple[Path | None, str]:
    """The folder kernels are kept below: ``NUMBA_CACHE_DIR`` if set, else one of the user's; or None, and why."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if not given:
        cache = environment.user_cache()
        return (cache / "hrmas_sparse", "") if cache else (None, "there is no home folder")
    try:
        return environment.user_path(given).absolute(), ""
    except (OSError, ValueError) as error:
        return None, f"NUMBA_CACHE_DIR={environment.printable(given)}: expected {error}"


def unusable(folder: Path) -> str:
    """Make a folder; return why nothing can be kept in it, empty if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
        return ""
    except (OSError, ValueError) as error:
        return f"cannot be written ({getattr(error, 'strerror', None) or error})"


def _temporary() -> Path | None:
    """A folder for temporary things that nobody else can write to; None if there is none."""
    try:
        folder = Path(tempfile.gettempdir(), f"hrmas_sparse-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if ours else None
