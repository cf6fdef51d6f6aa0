"""NVIDIA's compute-sanitizer over the tests that need a GPU: memory accesses, then races. `make sanitize` runs it.

    python -m runs.sanitize [-k ...]     what follows goes to pytest

memcheck finds accesses outside of allocations, racecheck threads of a block that meet in shared memory without a
barrier. CuPy's memory pool would hide the first kind, so every array is an allocation of its own here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hrmas_sparse.doctor import require_gpu
from hrmas_sparse.storage.errors import InputError

# memcheck counts it as an error when a package asks the driver for a function it may not have, as CuPy does; calls that
# fail are raised by whoever calls, so it is to look at memory alone.
TOOLS = {"memcheck": ["--report-api-errors", "no"], "racecheck": []}
FOUND = 86   # what compute-sanitizer exits with when it found something; pytest has no such status
EMPTY = 5    # pytest: no test was run
TESTS = ("import sys, cupy, pytest; cupy.cuda.set_allocator(None); "
         "sys.exit(pytest.main(['-m', 'gpu and not slow', '-p', 'no:cacheprovider', *sys.argv[1:]]))")


def sanitizer():
    """Path of the tool, on the PATH or in the CUDA toolkit; None if it is not there."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(
        [os.environ.get("PATH", ""), *(str(Path(home) / "bin") for home in homes if home)]))


def verdict(status):
    """What an exit status means."""
    return {0: "nothing found", FOUND: "FOUND SOMETHING, see above", EMPTY: "no test ran"}.get(
        status, f"the tests failed, exit status {status}")


def main(arguments):
    """Run both tools; returns 0 if all is well, 1 if not, 2 if they cannot be run here."""
    try:
        require_gpu()
    except InputError as error:
        print(f"sanitize: {error}", file=sys.stderr)
        return 2
    program = sanitizer()
    if program is None:
        print("sanitize: compute-sanitizer was not found on the PATH, in CUDA_HOME/bin or in /usr/local/cuda/bin; it "
              "comes with NVIDIA's CUDA toolkit (Debian and Ubuntu: nvidia-cuda-toolkit)", file=sys.stderr)
        return 2
    answers = {tool: subprocess.run([program, "--tool", tool, *options, "--error-exitcode", str(FOUND),
                                     "--target-processes", "all", sys.executable, "-c", TESTS, *arguments]).returncode
               for tool, options in TOOLS.items()}
    for tool, status in answers.items():
        print(f"{tool}: {verdict(status)}")
    return int(any(answers.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
