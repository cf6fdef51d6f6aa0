"""Fixtures that several files of tests share; the engine's own conversions are in dense.py."""

import os
import signal

import pytest

from hrmas_sparse.backends import get_backend

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
collect_ignore_glob = [] if SIMULATED else ["test_simulated_*.py"]  # test_simulator.py starts them, a process apart
if SIMULATED:
    import simulator
    simulator.install()


def pytest_addoption(parser):
    parser.addoption("--backend", default="cpu", help="where the tests simulate: cpu or cuda")


@pytest.fixture(scope="session")
def backend(request):
    """One backend for all tests, on purpose: whatever an earlier test left in its buffers must not matter."""
    return get_backend(request.config.getoption("--backend"))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts():
    """A shell that starts the tests in the background has SIGINT ignored, for us and for what we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def show(capsys):
    """Print a measured figure although the test passes: the slow tests are run for them."""
    def show(text):
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)
    return show
