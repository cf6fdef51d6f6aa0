"""Fixtures that several files of tests share; the engine's own conversions are in dense.py."""

import os
import shutil
import signal

import pytest
from event_files import write_words

from hrmas_sparse.settings.load import RUNS
from hrmas_sparse.engine.backends import get_backend

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
EMULATED = os.environ.get("HRMAS_EMULATED") == "1"
MOST_SECONDS = 3600     # of a slow test
SPARSE = 0.07           # share of non-zero input that tests of the CUDA backend take to be sparse: theirs is small
# test_simulator.py and test_emulator.py start these, each in a process apart.
collect_ignore_glob = ([] if SIMULATED else ["engine/test_simulated_*.py"]) + (
    [] if EMULATED else ["engine/test_emulated_*.py"])
if EMULATED:
    from emulator.emulator import install
    EMULATOR = install()
if SIMULATED:
    import simulator
    simulator.install()
if EMULATED or SIMULATED:
    from hrmas_sparse.engine.backends.cuda.backend import CudaBackend
    CudaBackend.dense = SPARSE


def pytest_addoption(parser):
    parser.addoption("--backend", default="cpu", help="where the tests simulate: cpu or cuda")


@pytest.fixture(scope="session")
def backend(request):
    """One backend for all tests, on purpose: whatever an earlier test left in its buffers must not matter."""
    found = get_backend(request.config.getoption("--backend"))
    if found.name == "cuda":
        found.dense = SPARSE
    return found


@pytest.fixture(scope="module")
def cuda():
    """The backend of a GPU, real or simulated; one for each file of tests."""
    return get_backend("cuda")


@pytest.fixture(autouse=True)
def slow_tests_end(request):
    """A slow test that takes for ever has failed: it must not keep the others from being run."""
    if not request.node.get_closest_marker("slow"):
        yield
        return

    def late(signum, frame):
        pytest.fail(f"no end after {MOST_SECONDS} seconds")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(MOST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard():
    """A shell or nohup that starts the tests in the background has signals ignored, for us and for what we start."""
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A few recordings in the format of N-TIDIGITS."""
    path = tmp_path_factory.mktemp("raw") / "words.hdf5"
    write_words(path)
    return path


@pytest.fixture
def house(tmp_path, words, monkeypatch):
    """An empty working directory with recordings in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(words, tmp_path / "words.hdf5")
    return tmp_path


@pytest.fixture
def own_settings(house):
    """A settings file whose profile demo has samples of 20 steps, else 30."""
    text = (RUNS / "ntidigits.toml").read_text().replace("steps = 300", "steps = 30")
    (house / "own.toml").write_text(text + "\n[profile.demo.data]\nsteps = 20\n")
    return "own.toml"


@pytest.fixture
def show(capsys):
    """Print a measured figure although the test passes: the slow tests are run for them."""
    def show(text):
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)
    return show
