"""What is said about the GPU, on machines with and without one; a fake driver stands in for the real one."""

import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from hrmas_sparse import environment as packages

module = import_module("hrmas_sparse.engine.backends.cuda.probe")


class FakeDriver:
    """The calls of libcuda that are used, answering as an H100 with CUDA 12.4 would."""

    def __init__(self, version=12040, devices=1, init=0):
        self.version, self.devices, self.init = version, devices, init

    def cuInit(self, flags):
        return self.init

    def cuDriverGetVersion(self, out):
        out._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, out):
        out._obj.value = self.devices
        return 0

    def cuDeviceGet(self, out, ordinal):
        out._obj.value = 0
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceTotalMem_v2(self, out, device):
        out._obj.value = 80 << 30
        return 0

    def cuDeviceGetAttribute(self, out, which, device):
        out._obj.value = {module.CAPABILITY_MAJOR: 9, module.CAPABILITY_MINOR: 0}[which]
        return 0


@pytest.fixture
def ask(monkeypatch):
    """Probe a machine with a given driver (None: none) and given packages."""
    def ask(driver, **installed):
        def version(name):
            if name.replace("-", "_") not in installed:
                raise metadata.PackageNotFoundError(name)
            return installed[name.replace("-", "_")]

        def load(name):
            if driver is None:
                raise OSError
            return driver

        monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
        monkeypatch.setattr(packages.metadata, "version", version)
        monkeypatch.setattr(module.ctypes, "CDLL", load)
        return module.probe()
    return ask


@pytest.mark.parametrize("bindings", [{}, {"cuda_bindings": "12.9.10"}, {"cuda_bindings": "unknown"}])
def test_all_is_well(ask, bindings):
    found = ask(FakeDriver(), numba_cuda="0.30.4", cupy_cuda12x="14.2.0", **bindings)
    assert found == module.Probe((12, 4), "NVIDIA H100", 80 << 30, (9, 0), "0.30.4", "14.2.0", "")
    found = ask(FakeDriver(13010), numba_cuda="0.30.4", cupy_cuda12x="14.2.0", **bindings)
    assert not found.reason, "a newer driver runs what is older"
    for numba_cuda, numpy in (("0.30.4", "2.4.6"), ("0.31.0", "2.5.2"), ("0.30.4", "unknown")):
        assert not ask(FakeDriver(), numba_cuda=numba_cuda, cupy_cuda12x="14.2.0", numpy=numpy, **bindings).reason


@pytest.mark.parametrize("driver, installed, said", [
    (None, {}, "no NVIDIA driver"),
    (FakeDriver(init=100), {}, "cuInit gives error 100"),
    (FakeDriver(devices=0), {}, "finds no GPU"),
    (FakeDriver(version=11080), {"numba_cuda": "1", "cupy": "1"}, "CUDA 11.8 at most"),
    (FakeDriver(), {}, "numba-cuda and CuPy missing: {cuda12}"),
    (FakeDriver(version=13000), {"numba_cuda": "1"}, "CuPy missing: {cuda13}"),
    (FakeDriver(), {"numba_cuda": "1", "cupy_cuda13x": "1"}, "at most: uninstall cupy-cuda13x, then {cuda12}"),
    (FakeDriver(), {"numba_cuda": "1", "cupy_cuda12x": "1", "cuda_bindings": "13.0.1"},
     "compiles for CUDA 13 (cuda-bindings 13.0.1), but the NVIDIA driver runs CUDA 12.4 at most: {cuda12}"),
    (FakeDriver(), {"numba_cuda": "0.30.4", "cupy_cuda12x": "14.2.0", "numpy": "2.5.2"},
     "numba-cuda 0.30.4 does not work with NumPy 2.5.2: {cuda12}"),
    (FakeDriver(), {"numba_cuda": "0.30", "cupy_cuda12x": "14.2.0", "numpy": "3.0.0rc1"}, "with NumPy 3.0.0rc1"),
])
def test_what_is_missing_is_said(ask, driver, installed, said):
    said = said.format(cuda12=packages.install("cuda12"), cuda13=packages.install("cuda13"))
    assert said in ask(driver, **installed).reason


def test_the_install_line_is_that_of_a_checkout(monkeypatch):
    """There is no hrmas_sparse at any registry."""
    monkeypatch.setattr(packages.sys, "executable", str(Path.cwd() / ".venv" / "bin" / "python"))
    assert packages.install("cuda12") == '.venv/bin/pip install -e ".[cuda12]"'
    assert packages.install() == '.venv/bin/pip install -e "."'


def test_the_simulator_is_said_to_be_one(monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    found = module.probe()
    assert found.simulated and not found.reason


def test_asking_loads_no_package_for_gpus():
    code = ("import sys; from hrmas_sparse.engine.backends.cuda import probe; probe(); "
            "sys.exit(any(name.split('.')[0] in ('cupy', 'numba') for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
