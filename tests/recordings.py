"""Real recordings for tests, from beside the checkout; without them a test is skipped, loudly."""

import atexit
import functools
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest

UNPACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "unpack"


@functools.cache
def _unpacked() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hrmas-recordings-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run([UNPACK, folder], check=True)
    return folder


def recordings(name: str) -> Path:
    """Folder of the real recordings `name` (ti46_alpha_lyon, fsdd, nmnist), unpacked once per test session."""
    if not UNPACK.exists():
        warnings.warn(f"NOT TESTED on real recordings of {name}: {UNPACK} is absent", stacklevel=2)
        pytest.skip(f"no real recordings: {UNPACK} is absent")
    return _unpacked() / name
