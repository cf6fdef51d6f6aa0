"""Compiled kernels are of the sources that are there now, wherever they can or cannot be kept."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hrmas_sparse.storage import kernels
from hrmas_sparse.storage.kernels import Kernels

PACKAGE = Path(kernels.__file__).parents[1]
# A kernel of the CPU backend that calls one of neuron.py: Numba does not see when that one changes.
KERNEL = """
from hrmas_sparse.engine.backends.cpu.compile import filtered, jit

@jit
def probe(k, a, b):
    return filtered(k, a, b)
"""
PROGRAM = """
import ctypes, os
if os.geteuid() == 0:       # obey the rights of files, though we be root: no CAP_DAC_OVERRIDE, no CAP_DAC_READ_SEARCH
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
import numpy as np
from numba import config, njit
before = config.CACHE_DIR
from hrmas_sparse.engine import neuron
from hrmas_sparse.engine.backends.cpu import probe
from hrmas_sparse.engine.backends.cpu.compile import KERNELS
assert config.CACHE_DIR == before, "the setting of the whole process"
k = neuron.constants(np.dtype(np.float32), 2.0, 1.0, 1.0, 1.0)
print(float(probe.probe(k, k.one, k.one)), KERNELS.place.folder)
"""
# What is set, what is taken away (None); {tmp} is a folder of the test, {file} a file, {shut} a folder without rights.
NO_FOLDER = {"HOME": "{file}", "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": None, "TMPDIR": "{tmp}"}
ENVIRONMENTS = {
    "a folder": {"NUMBA_CACHE_DIR": "{tmp}/kernels"},
    "no home": NO_FOLDER | {"HOME": None, "PYTHONPATH": "{tmp}/nobody"},
    "a home that is a file": NO_FOLDER,
    "a home without rights": NO_FOLDER | {"HOME": "{shut}"},
    "home /proc": NO_FOLDER | {"HOME": "/proc"},
    "home is relative": NO_FOLDER | {"HOME": "somewhere", "PYTHONPATH": "{tmp}/nobody"},
    "home is empty": NO_FOLDER | {"HOME": "", "PYTHONPATH": "{tmp}/nobody"},
    "a cache in a file": NO_FOLDER | {"XDG_CACHE_HOME": "{file}/cache"},
    "a cache that is relative": NO_FOLDER | {"XDG_CACHE_HOME": "cache"},
    "kernels in a file": NO_FOLDER | {"NUMBA_CACHE_DIR": "{file}/kernels"},
    "kernels without rights": NO_FOLDER | {"NUMBA_CACHE_DIR": "{shut}/kernels"},
    "kernels below ~": NO_FOLDER | {"HOME": "{tmp}/own", "NUMBA_CACHE_DIR": "~/kernels"},
    "kernels below nobody": NO_FOLDER | {"NUMBA_CACHE_DIR": "~nobody-of-that-name/kernels"},
    "kernels in a relative folder": NO_FOLDER | {"NUMBA_CACHE_DIR": "kernels"},
    "a temporary folder of others": NO_FOLDER | {"TMPDIR": "{taken}"},
    "no temporary folder": NO_FOLDER | {"TMPDIR": "{shut}"},
}
FAST = ("a folder", "no home", "a home without rights", "kernels in a file", "a temporary folder of others")


def copied(tmp_path):
    """A copy of the program, and the folders of ENVIRONMENTS."""
    shutil.copytree(PACKAGE, tmp_path / "checkout" / "hrmas_sparse", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "checkout" / "hrmas_sparse/engine/backends/cpu/probe.py").write_text(KERNEL)
    (tmp_path / "file").write_text("in the way")
    for folder in ("shut", "taken", "nobody", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "taken" / f"hrmas_sparse-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / "taken" / f"hrmas_sparse-{os.getuid()}").chmod(0o777)
    (tmp_path / "shut").chmod(0o500)
    (tmp_path / "nobody" / "sitecustomize.py").write_text(
        "import pwd\ndef unknown(uid):\n    raise KeyError(uid)\npwd.getpwuid = unknown\n")
    return tmp_path / "checkout"


def run(checkout, change):
    """Run PROGRAM in an environment; what the kernel returned, where kernels are kept."""
    tmp = checkout.parent
    names = {"tmp": tmp, "file": tmp / "file", "shut": tmp / "shut", "taken": tmp / "taken"}
    own = {name: value for name, value in os.environ.items() if name not in change} | {
        name: value.format(**names) for name, value in change.items() if value is not None}
    own["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout), own.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=own, cwd=tmp / "work", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value, folder = done.stdout.split()
    return float(value), folder


def check_that_an_edited_kernel_runs_at_once(tmp_path, name):
    checkout = copied(tmp_path)
    assert run(checkout, ENVIRONMENTS[name])[0] == 1.5, name
    assert run(checkout, ENVIRONMENTS[name])[0] == 1.5, name
    source = checkout / "hrmas_sparse/engine/neuron.py"
    text, stamp = source.read_text(), source.stat()
    lines = text.split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("def filtered(")) + 1
    at = next(n for n in range(at, len(lines)) if lines[n].strip().startswith("return "))
    lines[at] = lines[at].replace("return ", "return 2 * (") + ")"
    source.write_text("\n".join(lines))
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))         # as a checkout or an unpacked archive may
    value, folder = run(checkout, ENVIRONMENTS[name])
    assert value == 3.0, name
    beside = [path for path in checkout.rglob("*") if path.suffix in (".nbc", ".nbi")]
    assert not beside and not any(path.name.startswith("~") for path in checkout.parent.rglob("*"))
    kept = {path.parents[2] for path in checkout.parent.rglob("*.nbc")}
    if name == "no temporary folder" and Path(folder).parent == Path(f"/tmp/hrmas_sparse-{os.getuid()}"):  # but one
        assert not kept and list(Path(folder).glob("*/*.nbc"))
        shutil.rmtree(folder)
    else:
        assert kept == (set() if folder == "None" else {Path(folder).parent}), name


@pytest.mark.parametrize("name", FAST)
def test_an_edited_kernel_runs_at_once(tmp_path, name):
    check_that_an_edited_kernel_runs_at_once(tmp_path, name)


@pytest.mark.slow
def test_an_edited_kernel_runs_at_once_in_every_environment(tmp_path):
    """Two at a time, for there may be two cores."""
    others = [name for name in ENVIRONMENTS if name not in FAST]
    with ThreadPoolExecutor(2) as pool:
        folders = [tmp_path / str(n) for n in range(len(others))]
        assert len(list(pool.map(check_that_an_edited_kernel_runs_at_once, folders, others))) == len(others)


def test_what_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels.tempfile, "gettempdir", lambda: str(tmp_path))
    own = kernels._temporary()
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o770)
    assert kernels._temporary() is None
    own.rmdir()
    own.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    assert kernels._temporary() is None


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    return Kernels([__file__])


def plus(a, b):
    return a + b


def test_what_is_said_before_compiling(mine, monkeypatch, tmp_path):
    assert not mine.compiled and mine.notice == "compiling the kernels for this machine once: half a minute"
    assert mine.jit(plus)(1, 2) == 3
    assert mine.compiled and mine.notice == ""
    monkeypatch.setattr(kernels, "unusable", lambda folder: "cannot be written (No space left on device)")
    found = Kernels([__file__], nogil=True)
    assert found.notice == (f"compiling the kernels, half a minute at every start: {tmp_path}/kernels cannot be "
                            "written (No space left on device), so they are not kept; NUMBA_CACHE_DIR=folder names a "
                            "folder for them")
    assert found.jit(plus)(1, 2) == 3 and not found.compiled


def test_a_kernel_of_other_sources_is_refused(mine):
    with pytest.raises(ValueError, match="not of the sources"):
        mine.jit(shutil.copytree)
