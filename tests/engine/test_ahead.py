"""What is compiled before it is wanted: it is what a run wants, and a run does not depend on it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrmas_sparse.engine.backends.cpu import ahead
from hrmas_sparse.engine.backends.cpu.compile import KERNELS
from hrmas_sparse.storage.kernels import Place

# A search and a retraining in memory, as short as can be; prints which kernels of training they still had to compile.
RUN = """
import numba.core.event as event, numpy as np, hrmas_sparse as hs
names = []
class Listener(event.Listener):
    def on_start(self, e): names.append(e.data["dispatcher"].py_func.__qualname__)
    def on_end(self, e): pass
event.register("numba:compile", Listener())
x, labels = np.random.default_rng(0).random((40, 20, 8)) < 0.05, np.arange(40) % 2
data = hs.Dataset(hs.Events.from_dense(x, labels), name="noise").split(test=0.25, seed=0)
hs.search(data, hs.settings(set={"network.neurons": [16], "network.motif_sizes": [2, 4], "training.search_epochs": 2,
                                 "training.retrain_epochs": 1}), callback=lambda progress: None)
print(*sorted(set(names)), sep="\\n")
"""


@pytest.mark.slow
def test_a_run_compiles_nothing_that_training_needs(tmp_path):
    own = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}
    for part in ahead.PARTS:
        with subprocess.Popen([sys.executable, "-m", ahead.PROGRAM, part], env=own, stdin=subprocess.PIPE) as process:
            assert process.wait() == 0
    left = subprocess.run([sys.executable, "-c", RUN], env=own, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert not left.split(), left


def test_what_is_compiled_or_cannot_be_kept_is_not_started(monkeypatch, tmp_path):
    monkeypatch.setattr(ahead.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr(ahead, "_running", {})
    monkeypatch.setitem(KERNELS.__dict__, "place", Place(None, "a test"))
    ahead.start()
    (tmp_path / "cpu").mkdir()
    for part in ahead.PARTS:
        (tmp_path / "cpu" / f"blocks.{part}-1.py311.1.nbc").touch()
    monkeypatch.setitem(KERNELS.__dict__, "place", Place(tmp_path, ""))
    ahead.start()


@pytest.mark.parametrize("program", ["import sys; sys.exit(1)", "import time; time.sleep(60)"])
def test_one_that_fails_or_hangs_is_left(monkeypatch, program):
    process = subprocess.Popen([sys.executable, "-c", program])
    monkeypatch.setattr(ahead, "_running", {"forward": process})
    monkeypatch.setattr(ahead, "PATIENCE", 1)
    ahead.wait("forward", ahead.DTYPE)
    assert process.wait(10) != 0 and not ahead._running
    ahead.wait("forward", ahead.DTYPE)


def test_work_in_float64_does_not_wait_for_float32(monkeypatch):
    monkeypatch.setattr(ahead, "_running", {"forward": None, "backward": None})
    ahead.wait("backward", "float64")
    assert len(ahead._running) == 2


def test_what_compiles_ends_with_the_program_that_is_killed(tmp_path):
    program = "import os, signal; from hrmas_sparse.engine.backends.cpu import ahead; ahead.start();" \
              "print(*[p.pid for p in ahead._running.values()], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
                          stdout=subprocess.PIPE, text=True)
    children = [int(pid) for pid in done.stdout.split()]
    until = time.monotonic() + 60     # imports, on a busy machine; compiling takes longer than this says
    while any(map(running, children)) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(children) == 2 and not any(map(running, children))
    assert not list(tmp_path.rglob("blocks.*.nbc"))


def running(pid):
    """Whether there is such a process that has not ended, waited for or not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_where_no_process_can_be_started_a_run_goes_on(monkeypatch, tmp_path):
    def refused(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ahead.subprocess, "Popen", refused)
    monkeypatch.setattr(ahead, "_running", {})
    monkeypatch.setitem(KERNELS.__dict__, "place", Place(tmp_path, ""))
    ahead.start()
    assert not ahead._running
