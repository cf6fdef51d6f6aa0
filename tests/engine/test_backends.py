"""Which backend is taken, and what is said about it."""

import pytest

from hrmas_sparse.engine import backends, selftest
from hrmas_sparse.engine.backends import cuda, get_backend
from hrmas_sparse.engine.backends.cuda import Probe, verdict
from hrmas_sparse.storage.errors import InputError

NONE = Probe(None, None, None, None, None, None, "no NVIDIA driver: libcuda.so.1 was not found")
SIMULATED = Probe(None, "the CUDA simulator", None, None, None, None, "", True)


@pytest.fixture
def machine(monkeypatch):
    """Pretend the probe found this."""
    return lambda found: monkeypatch.setattr(cuda, "probe", lambda: found)


def test_auto_without_a_gpu_says_that_it_uses_the_cpu(machine):
    machine(NONE)
    found = get_backend("auto", 1)
    assert found.name == "cpu" and "using the CPU (no NVIDIA driver" in found.notice


def test_auto_does_not_take_the_simulator(machine):
    machine(SIMULATED)
    assert get_backend("auto", 1).name == "cpu"


def test_cpu_asks_nobody(machine, monkeypatch):
    monkeypatch.setattr(cuda, "probe", None)
    assert get_backend("cpu", 1).name == "cpu" and "using" not in get_backend("cpu", 1).notice


def test_cuda_without_a_gpu_is_one_clear_error(machine):
    machine(NONE)
    with pytest.raises(InputError, match=r"backend cuda: no NVIDIA driver.*--backend cpu"):
        get_backend("cuda")


def test_an_experiment_for_a_missing_gpu_starts_nothing(machine, capsys, tmp_path, monkeypatch):
    from hrmas_sparse.cli import main
    monkeypatch.chdir(tmp_path)
    machine(NONE)
    assert main(["experiment", "table2", "--data", "ntidigits", "--backend", "cuda"]) == 2
    said = capsys.readouterr().err
    assert "backend cuda: no NVIDIA driver" in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_whether_it_would_be_a_gpu(machine, monkeypatch):
    monkeypatch.setattr(verdict, "verdict", lambda found: [])
    for found, there in ((NONE, False), (SIMULATED, False), (NONE._replace(reason=""), True)):
        machine(found)
        assert [backends.on_gpu(name) for name in backends.NAMES] == [there, False, True]


def test_a_gpu_that_failed_is_not_meant(machine, monkeypatch):
    machine(NONE._replace(reason="", device="X"))
    for kept, said in ((None, "X has not passed the self-test yet: hrmas doctor --self-test"),
                       (["a step of W1: wrong"], "X FAILS THE SELF-TEST: a step of W1: wrong")):
        monkeypatch.setattr(verdict, "verdict", lambda found, kept=kept: kept)
        assert [backends.on_gpu(name) for name in backends.NAMES] == [False, False, True]
        taken = get_backend("auto", 1)
        assert taken.name == "cpu" and f"using the CPU ({said})" in taken.notice


@pytest.mark.parametrize("failed, loads", [
    ([], True), (["a step of W1: wrong"], True), (["ImportError: no library"], False)])
def test_auto_tests_a_gpu_on_its_first_use_and_only_then(machine, monkeypatch, tmp_path, failed, loads):
    """Once for each driver; the packages may not even load."""
    tested, gpu = [], NONE._replace(reason="", device="X", driver=(12, 9))

    def taken(name, threads=None):
        if name == "cuda" and not loads:
            raise ImportError("no library")
        return f"{name}: {verdict.verdict(cuda.probe())}"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verdict, "_TESTED", {})
    monkeypatch.setattr(selftest, "get_backend", taken)
    monkeypatch.setattr(selftest, "test", lambda backend: tested.append(backend) or failed)
    machine(gpu)
    assert selftest.tested_backend("cuda" if loads else "cpu").endswith("None") and not tested
    assert [selftest.tested_backend("auto") for _ in range(2)] == [f"auto: {failed}"] * 2
    assert tested == (["cuda: None"] if loads else [])
    machine(gpu._replace(driver=(13, 0)))
    assert verdict.verdict(cuda.probe()) is None and selftest.tested_backend("auto") == f"auto: {failed}"
    assert len(tested) == 2 * loads
    for found in (NONE, SIMULATED):
        machine(found)
        assert selftest.tested_backend("auto") == "auto: None"


def test_a_gpu_without_room_is_not_judged(machine, monkeypatch, tmp_path, capsys):
    """Nor by two processes at once."""
    def full(backend):
        raise MemoryError("out of memory")

    gpu = NONE._replace(reason="", device="X")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verdict, "_TESTED", {})
    monkeypatch.setattr(selftest, "get_backend", lambda *_: None)
    monkeypatch.setattr(selftest, "_compare", lambda *_: full(None))
    machine(gpu)
    selftest.examine_at_first("auto")
    assert verdict.verdict(gpu) is None
    assert capsys.readouterr().err == "testing X, once: most of a minute\nself-test: out of memory\n"
    with verdict.alone(gpu):
        verdict.keep(gpu, ["wrong"])
    selftest.examine_at_first("auto")
    assert verdict.verdict(gpu) == ["wrong"] and not capsys.readouterr().err


def test_unknown_names(machine):
    with pytest.raises(InputError, match="expected one of auto, cpu, cuda, found 'gpu'"):
        get_backend("gpu")
    assert backends.NAMES == ("auto", "cpu", "cuda")


def test_the_program_ends_with_2_and_one_line(machine, capsys, tmp_path):
    from hrmas_sparse.cli import main
    machine(NONE)
    assert main(["search", "ntidigits", "--backend", "cuda", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "backend cuda: no NVIDIA driver" in said and "Traceback" not in said and len(said.strip().splitlines()) == 1
