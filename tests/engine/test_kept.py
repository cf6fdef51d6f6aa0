"""Kept launches against a driver that does nothing: it gets what Numba gives it, and the host needs less for it."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CC = os.environ.get("CC", "cc")
MISSING = ("numba-cuda" if importlib.util.find_spec("numba_cuda") is None else
           "a C compiler" if shutil.which(CC) is None else "")


@pytest.mark.skipif(bool(MISSING), reason=f"KEPT LAUNCHES NOT TESTED: {MISSING} is not installed (extra test-cuda)")
def test_the_driver_gets_what_numba_gives_it(tmp_path, show):
    subprocess.run([CC, "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", TESTS / "stub_driver.c"], check=True)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("LD_LIBRARY_PATH")]))
    environment = {name: x for name, x in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-m", "stubbed"], cwd=TESTS, capture_output=True, text=True,
                          env=environment | {"LD_LIBRARY_PATH": paths, "PYTHONPATH": str(TESTS.parent)})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 4
    for name, case in found.items():
        show(f"launch, {name}: {case['us']:.1f} us, Numba's {case['numba']:.0f} us of the host")
        assert case["kept"] == 1 and case["same"] == [True] * 3, name
        assert case["last"] == [1, [3, 2, 1, 64, 1, 1, 512]], name
        assert case["new thread"] and "OUT_OF_MEMORY" in case["refused"], "the thread has no context; no memory"
        assert 5 * case["us"] < case["numba"], (name, case)
