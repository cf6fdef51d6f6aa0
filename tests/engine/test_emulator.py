"""The CUDA kernels' own machine code on the CPU, see tests/emulator; NumPy stands in for CuPy, so a process apart."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MISSING = ("numba-cuda" if importlib.util.find_spec("numba_cuda") is None else
           "a C compiler" if shutil.which(os.environ.get("CC", "cc")) is None else "")


def emulated(*words):
    environment = os.environ | {"HRMAS_EMULATED": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-o", "addopts=", *words,
               *sorted(str(path) for path in HERE.glob("test_emulated_*.py"))]
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(bool(MISSING), reason=f"KERNELS NOT EMULATED: {MISSING} is not installed (extra test-cuda)")
@pytest.mark.parametrize("which, least", [("not slow", 20), pytest.param("slow", 10, marks=pytest.mark.slow)])
def test_the_kernels_in_the_emulator(show, which, least):
    out = emulated("-m", which)
    passed = re.search(r"(\d+) passed", out)
    assert passed and int(passed[1]) >= least, out[-2000:]
    show(f"the CUDA emulator: {out.strip().splitlines()[-1].strip('= ')}")
