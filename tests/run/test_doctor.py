"""hrmas doctor: what it finds, what it says is missing, how it ends; fakes stand in for GPUs and packages."""

import configparser
import re
from importlib import import_module
from pathlib import Path

import pytest

from hrmas_sparse import cli, doctor
from hrmas_sparse.engine import backends, selftest
from hrmas_sparse import environment as packages
from hrmas_sparse.engine.backends.cuda.probe import Probe

NONE = Probe(None, None, None, None, None, None, "no NVIDIA driver: libcuda.so.1 was not found")
GOOD = Probe((13, 0), "NVIDIA H200", 140 << 30, (9, 0), "0.30.4", "14.2.0", "")
BARE = GOOD._replace(numba_cuda=None, cupy=None)
OLD = GOOD._replace(driver=(11, 8), numba_cuda=None, reason="the NVIDIA driver runs CUDA 11.8 at most")
SIMULATED = Probe(None, "the CUDA simulator", None, None, "0.30.4", None, "", True)


@pytest.fixture
def hrmas(monkeypatch, capsys):
    """Run the program on a machine with a given GPU and packages missing."""
    def run(*arguments, gpu=NONE, missing=()):
        real = packages.metadata.version

        def version(name):
            if name in missing:
                raise packages.metadata.PackageNotFoundError(name)
            return "3.10" if name == "matplotlib" else real(name)

        with monkeypatch.context() as patch:
            patch.setattr(doctor, "probe", lambda: gpu)
            patch.setattr(packages.metadata, "version", version)
            status = cli.main(["doctor", *arguments])
        return status, *capsys.readouterr()
    return run


def test_without_a_gpu_all_is_well(hrmas):
    status, out, err = hrmas()
    assert status == 0 and err == "" and out.count("\n") == 5
    assert re.search(r"^Python  3\.\d+\.\d+; numpy [\d.]+, numba [\d.]+, scipy [\d.]+, h5py [\d.]+, tqdm [\d.]+$", out,
                     re.M)
    assert re.search(r"^CPU     \d+ cores, \d+ threads, .* free; kernels are compiled for \S+, \S+", out, re.M)
    assert re.search(r"(kernels are there|the first run compiles)", out) and "matplotlib 3.10" in out
    assert "none: no NVIDIA driver: libcuda.so.1 was not found; everything runs on the CPU" in out


def test_packages_without_a_driver(hrmas):
    _, out, _ = hrmas(gpu=NONE._replace(numba_cuda="0.30.4"))
    assert "none: no NVIDIA driver" in out and "        installed, without use here: numba-cuda 0.30.4\n" in out
    _, out, _ = hrmas(gpu=NONE._replace(numba_cuda="0.30.4", cupy="14.2.0"))
    assert "here: numba-cuda 0.30.4, CuPy 14.2.0\n" in out


def test_a_gpu_that_can_be_used(hrmas):
    status, out, _ = hrmas(gpu=GOOD)
    assert status == 0 and re.search(r"NVIDIA H200, 140\.0 GiB, compute capability 9\.0; driver .*CUDA up to 13\.0; "
                                     r"numba-cuda 0\.30\.4, CuPy 14\.2\.0\n +has not been tested yet: .*-test, or", out)
    assert hrmas("--gpu", gpu=GOOD) == (0, "", "")


def test_what_the_self_test_found(hrmas, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backends, "get_backend", lambda name: name)
    for failed, status, said in (([], 0, "has passed the self-test"),
                                 (["a step: wrong"], 1, "SELF-TEST: a step: wrong")):
        monkeypatch.setattr(selftest, "test", lambda backend, failed=failed: failed)
        assert hrmas("--self-test", gpu=GOOD)[0] == status
        assert said in hrmas(gpu=GOOD)[1]
    other = GOOD._replace(driver=(13, 1))
    assert "has not been tested yet" in hrmas(gpu=other)[1], "the verdict is of this driver"
    assert len(list(tmp_path.rglob("gpu-*.json"))) == 1
    status, _, err = hrmas("--self-test", gpu=NONE)
    assert status == 2 and "no NVIDIA driver" in err


@pytest.mark.parametrize("driver, extra", [((12, 4), "cuda12"), ((13, 0), "cuda13"), ((13, 3), "cuda13")])
def test_the_install_line_fits_the_driver(hrmas, driver, extra):
    bare = BARE._replace(driver=driver)
    bare = bare._replace(reason=import_module("hrmas_sparse.engine.backends.cuda.probe")._missing(bare, None))
    status, out, _ = hrmas(gpu=bare)
    assert status == 0
    assert re.search(rf'not used: numba-cuda and CuPy missing: \S*pip install -e "\.\[{extra}\]"\n$', out)
    status, out, err = hrmas("--gpu", gpu=bare)
    assert (status, out) == (2, "") and err.count("\n") == 1 and f'pip install -e ".[{extra}]"' in err


def test_what_is_to_be_installed_can_be():
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    extras = settings["options.extras_require"]
    assert {BARE._replace(driver=(major, 0)).extra for major in (12, 13, 14)} | {"plots"} <= set(extras)


@pytest.mark.parametrize("gpu, said", [(OLD, "CUDA 11.8 at most"), (NONE, "no NVIDIA driver"), (SIMULATED, "CUDASIM")])
def test_what_no_package_would_change_is_said(hrmas, gpu, said):
    status, out, _ = hrmas(gpu=gpu)
    assert status == 0 and said in out and "cuda1" not in out
    status, _, err = hrmas("--gpu", gpu=gpu)
    assert status == 2 and said in err and err.startswith("hrmas: GPU: ") and err.count("\n") == 1


def test_missing_packages(hrmas):
    status, out, _ = hrmas(missing=("matplotlib",))
    assert status == 0 and re.search(r'matplotlib is missing: \S*pip install -e "\.\[plots\]"', out)
    status, out, _ = hrmas(missing=("scipy",))
    assert status == 1 and "scipy is missing" in out and re.search(r'\S*pip install -e "\."\n$', out)


def test_kernels_that_compute_nonsense(hrmas, monkeypatch):
    monkeypatch.setattr(doctor, "kernels_work", lambda: False)
    status, out, _ = hrmas()
    assert status == 1 and "THEY DO NOT WORK" in out


@pytest.mark.parametrize("folder, problem, said", [
    (None, "there is no home folder", "at every start, half a minute: there is no home folder, so they are not kept"),
    ("/tmp/x", "/ cannot be written (Read-only file system)", "/tmp/x: the first run compiles .* a temporary folder,"
     " for / cannot be written .Read-only file system.; NUMBA_CACHE_DIR=folder names another"),
    ("/tmp/x", "", "/tmp/x: the first run compiles the kernels, half a minute$")])
def test_where_kernels_are_kept(hrmas, monkeypatch, folder, problem, said):
    from hrmas_sparse.engine.backends.cpu.compile import KERNELS
    from hrmas_sparse.storage.kernels import Place
    monkeypatch.setattr(KERNELS, "place", Place(folder and Path(folder), problem))
    status, out, _ = hrmas()
    assert status == 0 and re.search(said, out, re.M), out


def test_a_checkout_that_git_does_not_trust(hrmas, monkeypatch):
    monkeypatch.setattr(packages, "commit", lambda: (None, "it belongs to another user"))
    status, out, _ = hrmas()
    assert status == 0 and out.endswith("git     runs do not note their commit: it belongs to another user\n")


@pytest.mark.parametrize("name, features, expected", [
    ("znver5", "+sse4.2,+avx,+avx2,+avx512f", "AVX-512"), ("haswell", "+sse4.2,+avx,+avx2,-avx512f", "AVX2"),
    ("generic", None, "no vector instructions"), ("apple-m1", "+neon,+fp-armv8", "NEON")])
def test_instruction_set(monkeypatch, name, features, expected):
    from numba import config
    monkeypatch.setattr(config, "CPU_NAME", name)
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert doctor.instruction_set() == (name, expected)


def test_driver_version(tmp_path):
    path = tmp_path / "version"
    path.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build\n")
    assert doctor.driver(path) == "580.159.03 "
    path.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n")
    assert doctor.driver(path) == "550.54.15 "
    path.write_text("nothing of the kind")
    assert doctor.driver(path) == doctor.driver(tmp_path / "none") == ""
