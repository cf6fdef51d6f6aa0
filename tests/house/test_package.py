"""What is built and installed: the files in it, and that it works from another folder without a checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = "network.neurons=[16] network.motif_sizes=[4] data.steps=30 training.search_epochs=2 training.retrain_epochs=1"
MAKE_DATA = """
import numpy as np, hrmas_sparse as hs
x = np.random.default_rng(0).random((40, 20, 6)) < 0.2
events = hs.Events.from_dense(x, np.arange(40) % 2)
hs.Dataset(events[:30], events[30:]).save("own.h5")
sample, step, channel = np.nonzero(x)
np.savez("own.npz", sample=sample, step=step, channel=channel, label=np.arange(40) % 2, split=np.arange(40) >= 30)
"""


def settings():
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def test_the_metadata():
    metadata = settings()["metadata"]
    assert metadata["author"] in (ROOT / "LICENSE").read_text() and metadata["license"] == "MIT"
    assert len(metadata["keywords"].split("\n")) > 5
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in metadata["classifiers"]
    text = (ROOT / "docs" / "package.md").read_text()
    assert "](" not in text, "a package index shows neither our relative links nor our pictures"


def test_the_extras():
    assert {"plots", "nir", "tonic", "cluster", "cuda12", "cuda13", "test", "test-cuda", "lint", "docs"} <= set(
        settings()["options.extras_require"])


def pip(python, *words):
    found = subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "-q", *words], capture_output=True,
                           text=True)
    assert found.returncode == 0, found.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and source distribution of the checkout's files, as git lists them."""
    folder = tmp_path_factory.mktemp("package")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if files.returncode:
        pytest.skip("PACKAGE NOT TESTED: not a git checkout")
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "tools"], check=True)
    tools = folder / "tools" / "bin" / "python"
    pip(tools, "install", "build", "twine")
    for words in (["build", "-o", folder / "dist", folder / "source"], ["twine", "check", "--strict", "DIST"]):
        dist = sorted(map(str, (folder / "dist").glob("*"))) if words[-1] == "DIST" else []
        done = subprocess.run([tools, "-m", *[w for w in words if w != "DIST"], *dist], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_missing(built):
    wheel, = (built / "dist").glob("*.whl")
    sdist, = (built / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    source = built / "source"
    tracked = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    tracked = {name for name in tracked if not name.startswith(("hrmas_sparse.egg-info", "build/"))}
    assert not tracked - inside, "not in the source distribution"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for name in tracked:
        ours = name.startswith("runs/") and name.endswith((".py", ".toml"))
        if ours or name.startswith(("hrmas_sparse/", "data_prep/")):
            assert name in names, f"{name} is not in the wheel"
        if name.startswith("docs/") and name.endswith(".md"):
            assert any(found.endswith(f"share/doc/hrmas_sparse/{name}") for found in names), f"{name}: not in the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(built, tmp_path, show):
    wheel, = (built / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin = tmp_path / "venv" / "bin"
    pip(bin / "python", "install", f"{wheel}[plots,cluster]")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HRMAS_HOME": str(tmp_path / "home")}

    def hrmas(*words, status=0):
        found = subprocess.run([bin / "hrmas", *words], cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert found.returncode == status and "Traceback" not in found.stderr, (words, found.stdout, found.stderr)
        return found.stdout + found.stderr

    hrmas("search", "ntidigits", "--profile", "demo", "--set", SMALL)
    assert (tmp_path / "home" / "runs" / "out" / "ntidigits-s0" / "result.json").exists()
    hrmas("show", "ntidigits-s0", "--figure", "run.png")
    assert "finished before; --fresh starts over" in hrmas("search", "ntidigits", "--profile", "demo", "--set", SMALL)
    said = hrmas("experiment", "table3", "--data", "ntidigits", "--rows", "hrmas without-ip", "--seeds", "0",
                 "--profile", "demo", "--set", SMALL)
    assert "hrmas report table3-ntidigits shows" in said
    hrmas("report", "table3-ntidigits")
    assert (tmp_path / "home" / "runs" / "out" / "table3-ntidigits" / "report.html").exists()
    hrmas("compare", "ntidigits", "--methods", "logistic", "--set", "data.steps=30")
    hrmas("doctor")
    assert "hrmas download ti46" in hrmas("search", "ti46", status=2)
    subprocess.run([bin / "python", "-c", MAKE_DATA], cwd=elsewhere, env=environment, check=True)
    hrmas("data", "import", "own.npz", "--out", "imported.h5")
    hrmas("data", "info", "imported.h5")
    own = SMALL.replace("data.steps=30 ", "")
    hrmas("search", "own.h5", "--profile", "demo", "--set", own)
    code = ("import hrmas_sparse as hs; run = hs.load_run('own-s0'); run.export('net.npz'); run.export('net.h'); "
            "print(run.predict(hs.load_dataset('own.h5').test).shape)")
    done = subprocess.run([bin / "python", "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.stdout == "(10,)\n" and (elsewhere / "net.h").exists(), done.stderr
    assert not (elsewhere / "runs").exists() and not (elsewhere / "data").exists()
    version = ".".join(map(str, sys.version_info[:2]))
    show(f"the wheel in a fresh environment of Python {version}: search, show, experiment, report, compare, doctor, "
         "import, own data, export")
