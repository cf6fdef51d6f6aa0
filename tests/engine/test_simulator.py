"""The CUDA backend's tests, in Numba's simulator, which must be switched on before Numba is loaded: a process apart."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_the_cuda_backend_in_the_simulator(show):
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "OPENBLAS_NUM_THREADS": "1"}
    files = sorted(str(path) for path in HERE.glob("test_simulated_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-o", "addopts=", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 30, done.stdout[-2000:]
    show(f"the CUDA simulator: {done.stdout.strip().splitlines()[-1].strip('= ')}")
