"""What the self-test found of a GPU, as long as device, driver, packages and sources are the same.

It is kept in the user's cache; where nothing can be kept, for this process. Needs no GPU and no package for one.
"""

import contextlib
import functools
import hashlib
from pathlib import Path

from hrmas_sparse import environment
from hrmas_sparse.storage import files, locks, records
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.errors import InputError

_TESTED: dict[str, dict] = {}   # verdicts of this process


def verdict(gpu) -> list[str] | None:
    """Return what failed when the device of a :class:`Probe` was last tested; None where it has not been."""
    path = _place(gpu)
    try:
        kept = records.read_json(path, {"failed": [str]}) if path else _TESTED.get(_key(gpu))
    except InputError:      # none, or none of ours: it is tested anew
        kept = None
    return kept["failed"] if kept else None


def keep(gpu, failed) -> None:
    """Keep what failed when the device of a :class:`Probe` was tested, a line each."""
    kept = _TESTED[_key(gpu)] = {"device": _key(gpu), "failed": failed}
    path = _place(gpu)
    if path:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, kept)
        except (OSError, InputError):   # the next process has to be told again
            pass


@contextlib.contextmanager
def alone(gpu):
    """Test a device while no other process does; where nothing can be kept, each tests for itself."""
    path = _place(gpu)
    with contextlib.ExitStack() as stack:
        if path:
            with contextlib.suppress(OSError, InputError):
                stack.enter_context(locks.locked(path.with_suffix(".lock"), f"the test of {gpu.device}", wait=True))
        yield


def _key(gpu):
    """What a verdict is about, as text."""
    packages = (gpu.numba_cuda, gpu.cupy, *map(environment.version, ("numpy", "numba")))
    return " / ".join(map(str, (gpu.device, gpu.capability, gpu.driver, *packages, _sources())))


@functools.cache
def _sources():
    """A checksum of what computes on the GPU."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in (*sorted(folder.glob("*.py")), *(folder.parents[1] / name for name in (
            "neuron.py", "passes.py", "learning.py", "relaxation.py"))):
        digest.update(files.read(path))
    return digest.hexdigest()[:16]


def _place(gpu):
    """The file of a verdict; None where the user has no cache."""
    cache = environment.user_cache()
    name = hashlib.sha256(_key(gpu).encode()).hexdigest()[:16]
    return cache / "hrmas_sparse" / f"gpu-{name}.json" if cache else None
