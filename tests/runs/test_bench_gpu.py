"""The bench on a GPU, as far as it can be seen without one: formulas, harness, refusals, and the peers on the CPU."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from hrmas_sparse import doctor
from hrmas_sparse.engine.backends.cuda.probe import Probe
from runs import sanitize
from runs.bench import bench, entrants, measure, ours, report, roofline, worker
from runs.bench import workloads as w
from runs.bench.launches import Launch, by_kernel

NONE = Probe(None, None, None, None, None, None, "no NVIDIA driver: libcuda.so.1 was not found")
GOOD = Probe((13, 0), "NVIDIA H200", 140 << 30, (9, 0), "0.30.4", "14.2.0", "")
TINY = w.Workload("tiny", 30, 0.1, 80, 4, 25, (5, 10, 16), {kind: 10.5 for kind in w.KINDS})
PEER_PYTHON = report.ROOT / ".venv-bench" / "bin" / "python"


# ---- formulas ----------------------------------------------------------------------------------------------------


def test_work_of_a_step_counted_by_hand():
    """2 samples, 5 steps, 3 inputs, 8 hidden neurons, 4 outputs; 6 links; every fourth step a spike; 7 events."""
    meta = {"samples": 2, "steps": 5, "inputs": 3, "hidden": 8, "outputs": 4, "sizes": [2, 4]}
    found = roofline.work(meta, links=6, events=7, rate=0.25, dense=False)
    # 10 rows of 8 neurons: 80 cells; 20 spikes, heard by 6 / 8 neurons each: 15; 4 outputs: 40 cells
    assert found["forward"] == (80 * 4 + 80 * 4 + 2 * 80 / 8 + 6 * 8, 80 * 10 + 15)
    assert found["backward"] == (80 * 4 * 3 + 80 / 8 + 6 * 5, 80 * 20 + 10 * 6 * 2)
    assert found["output"] == (4 * 40 * 4 + 2 * 12 * 4, 40 * (10 + 8 + 20)) and found["select"] == (6 * 12, 0)
    assert found["spread"] == (80 / 8 + 80 * 4, 0)
    assert found["links_gradient"] == (80 / 8 + 80 * 4 + 6 * (4 + 12), 15)
    # motifs of 2: 16 connections inside and 12 between; of 4: 32 and 8; 8 and 24 rows of types
    assert found["relax"] == (6 * (4 + 4 + 2 * 4), 68 * 4)
    assert found["pull_back"] == (6 * (4 + 4 + 4 + 2 * 4) + 68 * (4 + 4 + 4), 68 * 5)
    assert found["pull_back_sizes"] == (32 * 8, 32)
    assert found["scatter"] == (7 * 12 + 30 * 4, 0) and found["membrane"] == (12 * 4 * 4, 24)
    assert found["columns"] == (6 * 2 * 2 * 8, 0) and found["multiply"] == ((24 + 32 + 6) * 8, 62)
    assert found["feedforward"] == found["feedforward_gradient"] == (7 * 8 + 24 * 4 + 80 * 4, 7 * 8 * 2)
    # three products of 10 x 8 and 8 x 4: of the output layer, its errors' way back, its gradient
    assert found["GEMM"] == (3 * 4 * (80 + 32 + 40), 3 * 2 * 320)
    # and two of 10 x 3 and 3 x 8 where input is multiplied
    assert roofline.work(meta, 6, 7, 0.25, True)["GEMM"] == (3 * 4 * 152 + 2 * 4 * (30 + 24 + 80), 3 * 640 + 2 * 480)


def test_rates_next_to_the_device():
    found = {"kernels": {"forward": {"launches": 2, "ms": 2.0}, "strange": {"launches": 1, "ms": 1.0}}, "ms": 4.5,
             "work": {"forward": (1e9, 4e9)}, "ceilings": {"bytes": 1e12, "flops": 8e12}}
    lines = roofline.table(found).splitlines()[2:]
    assert lines[0] == "| forward | 2 | 2.000 | 1e+03 | 500 | 50 % | 4e+03 | 2e+03 | 25 % |"
    assert lines[1].startswith("| strange | 1 | 1.000 |  |") and lines[2].startswith("| everything else |  | 1.500 |")
    assert lines[3].startswith("| whole step |  | 4.500 |") and len({line.count("|") for line in lines}) == 1


def test_launches_are_summed_by_kernel():
    found = by_kernel([Launch("a", 0, 2), Launch("b", 2, 3), Launch("a", 3, 7)], lambda start, end: end - start)
    assert found == {"a": {"launches": 2, "ms": 6.0}, "b": {"launches": 1, "ms": 1.0}}


# ---- rows and targets ----------------------------------------------------------------------------------------------


def test_rows_and_targets_of_the_gpu():
    rows = {entrant.key: entrant for entrant in entrants.GPU_ENTRANTS}
    assert len(rows) == len(entrants.GPU_ENTRANTS) and all(row.device == "cuda" for row in rows.values())
    for key in ("blocks", "dense", "supernet"):
        ways = {(rows[key + way].compiled, rows[key + way].graph) for way in entrants.WAYS}
        assert ways == {(False, False), (True, False), (False, True), (True, True)}
    assert rows["dense-compiled-graph"].flags == ["--device=cuda", "--framework=torch", "--compiled",
                                                    "--graph"]
    assert all(row.workloads == entrants.ALL for row in rows.values())
    for target in entrants.GPU_TARGETS:
        assert all(target.workload in rows[key].workloads for key in target.over + target.under)
    assert rows["ours"].our_rule and rows["quadratic"].our_rule and not entrants.ENTRANTS[0].our_rule


def test_targets_may_be_at_most():
    def result(key, *ms):
        return {"workload": "W1", "key": key, "runs": [{"ms": x, "mb": 1} for x in ms]}
    answers = report.ratios({"results": [result("ours", 0.5, 0.9, 2), result("dense-graph", 5, 18, 30)]},
                            entrants.GPU_TARGETS)
    found = {target.text: (ratio, target.met(ratio)) for target, ratio, _ in answers}
    assert found["ours, ms (wanted on an H200)"] == (0.9, True)
    assert found["best PyTorch / ours"] == (15, True) and found["best dense PyTorch / ours"] == (15, None)
    assert entrants.Target("", "W1", (), (), most=1.5).met(1.6) is False
    assert "| 0.90 ±83 % | at most 1 | yes |" in report.ratio_table(answers, 3)


# ---- measuring ---------------------------------------------------------------------------------------------------


class FakeGpu(measure.Gpu):
    """A clock that a step moves by 2 ms, and memory of which every entrant takes 10 MB that only a release returns."""

    def __init__(self):
        self.now, self.taken, self.alive, self.waits = 0, 100, 0, 0

    def wait(self):
        self.waits += 1

    def free(self):
        return (1000 - self.taken) << 20, 1000 << 20

    def release(self):
        self.taken = 100 + 10 * self.alive

    def mark(self):
        return self.now

    def between(self, start, end):
        return end - start

    def launches(self, entrant):
        return {"calls": 1, "kernels": 3}

    def make(self, problem):
        gpu = self

        class Entrant:
            def __init__(self):
                gpu.alive += 1
                gpu.taken += 10

            def step(self):
                gpu.now += 2
                gpu.taken = max(gpu.taken, 125)  # buffers of the step, kept

            def __del__(self):
                gpu.alive -= 1

        return Entrant()


def test_measuring_on_a_device():
    gpu = FakeGpu()
    found = measure.measure(gpu.make, None, None, seconds=0, least=4, device=gpu)
    assert found["device_ms"] == 2 and len(found["all_ms"]) == 4 and found["launches"] == {"calls": 1, "kernels": 3}
    assert found["baseline_mb"] == 100 and found["mb"] == 25  # what the warm-up took was given back
    assert gpu.waits >= 4 + measure.DROPPED
    json.dumps(found)


# ---- the whole bench with workers that are not there ---------------------------------------------------------------


@pytest.fixture
def on(monkeypatch):
    """Let doctor and bench see a machine with a given GPU."""
    def on(found):
        monkeypatch.setattr(doctor, "probe", lambda: found)
        monkeypatch.setattr(bench, "probe", lambda: found)
    return on


def test_without_a_gpu_one_line_and_status_2(on, capsys):
    on(NONE)
    with pytest.raises(SystemExit) as exit:
        bench.main(["--backend", "cuda"])
    out, err = capsys.readouterr()
    assert exit.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith(f"bench: GPU: {NONE.reason}. Without one, make test")


def test_processor_time_says_nothing_about_a_gpu(on, capsys):
    with pytest.raises(SystemExit) as exit:
        bench.main(["--backend", "cuda", "--cpu"])
    assert exit.value.code == 2 and "processor time" in capsys.readouterr().err


def test_the_whole_bench(on, monkeypatch, tmp_path, capsys):
    asked = []

    def process(entrant, problem, options, *flags):
        asked.append((entrant.key, flags))
        if "--check" in flags:
            return {"error": 1e-12}
        if "--kernels" in flags:
            return {"kernels": {"forward": {"launches": 2, "ms": 0.1}}, "work": {"forward": (1e6, 1e6)}, "ms": 0.4,
                    "ceilings": {"bytes": 4e12, "flops": 5e13}}
        if entrant.key == "blocks":
            return {"failed": "out of memory"}
        ms = 0.5 if entrant.key == "ours" else 8.0
        return {"ms": ms, "mb": 100.0, "device_ms": ms / 2, "launches": {"calls": 3, "kernels": 9}, "load": 0.1,
                "rates": [0.03, 0.1], "versions": {"torch": "2.13.0"}}

    on(GOOD)
    monkeypatch.setattr(bench, "process", process)
    monkeypatch.setattr(bench, "missing", lambda entrants, python: {})
    monkeypatch.setitem(w.WORKLOADS, "W1", TINY)
    path = bench.main(["--backend", "cuda", "--quick", "--peers", "ours,blocks*,dense-graph", "--out", str(tmp_path)])
    found, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert path.name.startswith("bench-cuda-") and found["gpu"]["device"] == "NVIDIA H200"
    assert "NVIDIA H200, 140 GiB, driver for CUDA 13.0, numba-cuda 0.30.4, CuPy 14.2.0" in printed
    assert "| W1 | ours, ms (wanted on an H200) | 0.50 | at most 1 | yes |" in printed
    assert "| W1 | best PyTorch / ours | 16.00 | 10 | yes |" in printed
    assert "0.25 / 3 / 9" in printed and "Kernels of a step, W1 motif:" in printed and "| forward | 2 |" in printed
    assert found["skipped"] == {"W1 blocks": "out of memory"}
    assert found["gradients"]["W1 ours"] == "1.0e-12"  # ours on the GPU is checked against ours on the CPU, too
    assert ("ours", ("--seconds", "0.5", "--least", "2", "--most", "300")) in asked


def test_a_worker_is_told_where_and_how(monkeypatch):
    seen = {}

    def run(command, **options):
        seen.update(options, command=command)
        return SimpleNamespace(stdout=f'{worker.MARK}{{"ms": 1}}\n')

    monkeypatch.setattr(bench.subprocess, "run", run)
    row = next(entrant for entrant in entrants.GPU_ENTRANTS if entrant.key == "blocks-graph")
    options = bench.arguments(["--backend", "cuda"])
    assert bench.process(row, "p.npz", options) == {"ms": 1}
    assert ".venv-bench-cuda" in seen["command"][0] and seen["command"][3:5] == ["peers.tssl.blocks", "p.npz"]
    told = set(seen["command"])
    assert {"--device=cuda", "--framework=torch", "--graph"} <= told and "--compiled" not in told


def test_a_worker_in_jax_is_told_too(monkeypatch):
    seen = {}
    monkeypatch.setattr(bench.subprocess, "run", lambda command, **options: seen.update(options, command=command) or
                        SimpleNamespace(stdout=f'{worker.MARK}{{"ms": 1}}\n'))
    rows = [entrant for entrant in entrants.GPU_ENTRANTS if entrant.framework == "jax"]
    assert {row.key for row in rows} == {"jax-blocks", "jax-links", "jax-dense", "jax-supernet", "jax-band"}
    for row in rows:
        assert row.our_rule and bench.process(row, "p.npz", bench.arguments(["--backend", "cuda"])) == {"ms": 1}
        assert {"--device=cuda", "--framework=jax"} <= set(seen["command"]) and "--graph" not in seen["command"]
        assert seen["env"]["JAX_PLATFORMS"] == "cuda" and seen["env"]["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
        assert "XLA_FLAGS" not in set(seen["env"]) - set(os.environ), "the CPU's devices are none of a GPU's"


def test_who_cannot_see_the_gpu_is_left_out(monkeypatch):
    """Each framework is asked its own way."""
    def run(command, **options):
        return SimpleNamespace(returncode=int("jax" in command[2]), stderr="RuntimeError: no CUDA in JAX\n")

    monkeypatch.setattr(bench.subprocess, "run", run)
    reasons = bench.missing(entrants.GPU_ENTRANTS, "python")
    assert set(reasons.values()) == {"RuntimeError: no CUDA in JAX"}
    assert set(reasons) == {row.key for row in entrants.GPU_ENTRANTS if row.framework == "jax"}


# ---- the peers, through the same source on the CPU -----------------------------------------------------------------


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """Run Python with PyTorch in it, in the folder of the checkout; problems with our gradients beside it."""
    if not PEER_PYTHON.exists():
        pytest.skip("no .venv-bench: make bench makes it")
    folder = tmp_path_factory.mktemp("problems")
    for kind in w.KINDS:
        problem = w.problem(TINY, kind, samples=3)
        gradients = ours.Step(problem, 1, "float64").gradients()
        w.save(folder / f"{kind}.npz", problem | {f"g.{name}": value for name, value in gradients.items()})

    def run(*command):
        answer = subprocess.run([PEER_PYTHON, *command], cwd=report.ROOT, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout
    run.folder = folder
    return run


PEERS = [("tssl.dense", "motif"), ("tssl.dense", "supernet"), ("tssl.dense", "feedforward"), ("tssl.blocks", "blocks"),
         ("quadratic.make", "feedforward")]


def each_peer(folder, *lines):
    """A program that goes through all of them: ``make``, and the problem ``p`` with our gradients as ``g.<name>``."""
    return "\n".join(["import functools, torch", "from runs.bench import worker, workloads as w",
                      "from runs.bench.peers import quadratic, tssl",
                      f"for make, kind in [{', '.join(f'({function}, {kind!r})' for function, kind in PEERS)}]:",
                      f"    p = w.load({str(folder)!r} + '/' + kind + '.npz')",
                      *(f"    {line}" for line in lines)])


def test_peers_have_our_gradients(peers):
    out = peers("-c", each_peer(peers.folder, "make = functools.partial(make, threads=1, device='cpu')",
                                "print(kind, worker.check(make, p)['error'])"))
    errors = [float(line.split()[1]) for line in out.splitlines()]
    assert len(errors) == len(PEERS) and max(errors) < 1e-12, out


def test_peers_on_a_device_never_wait_for_it(peers):
    """Tensors on PyTorch's device "meta" have no values: whoever asks for one is refused, as in a capture."""
    peers("-c", each_peer(
        peers.folder, "found = make(p, 1, device='meta').step()",
        "assert all(found[k[2:]].shape == p[k].shape and found[k[2:]].is_meta for k in p if k[:2] == 'g.')")
        + "\ntry:\n    float(torch.zeros(1, device='meta'))\nexcept RuntimeError:\n    pass\n"
        "else:\n    raise SystemExit('it gives values: this test says nothing')")


def test_longer_and_uneven_spans_change_no_gradient(peers):
    peers("-c", each_peer(
        peers.folder, "for span in (7, tssl.COMPILED_SPAN, 25) if make is not quadratic.make else ():",
        "    tssl.SPAN = span",
        "    assert worker.check(functools.partial(make, threads=1), p)['error'] < 1e-12, span"))


def test_the_profiler_has_what_is_counted(peers):
    peers("-c", "import torch\nfrom runs.bench.peers.gpu import count\n"
          "with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:\n"
          "    torch.ones(3) + 1\n"
          "assert len(profile.events()) > 0 and count(profile.events()) == {'calls': 0, 'kernels': 0}")


# ---- compute-sanitizer -------------------------------------------------------------------------------------------


def test_sanitize_says_what_is_missing(on, monkeypatch, capsys):
    on(NONE)
    assert sanitize.main([]) == 2 and "no NVIDIA driver" in capsys.readouterr().err
    on(GOOD)
    monkeypatch.setattr(sanitize.shutil, "which", lambda name, path: None)
    assert sanitize.main([]) == 2 and "compute-sanitizer was not found" in capsys.readouterr().err


@pytest.mark.parametrize("statuses, status, said", [
    ((0, 0), 0, "memcheck: nothing found\nracecheck: nothing found"),
    ((0, 86), 1, "memcheck: nothing found\nracecheck: FOUND SOMETHING"),
    ((5, 1), 1, "memcheck: no test ran\nracecheck: the tests failed, exit status 1")])
def test_sanitize_runs_both_tools(on, monkeypatch, capsys, tmp_path, statuses, status, said):
    tool, asked, answers = tmp_path / "bin" / "compute-sanitizer", [], iter(statuses)
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)

    def run(command):
        asked.append(command)
        return SimpleNamespace(returncode=next(answers))

    on(GOOD)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sanitize.subprocess, "run", run)
    assert sanitize.main(["-k", "forward"]) == status
    assert [(command[0], command[2]) for command in asked] == [(str(tool), "memcheck"), (str(tool), "racecheck")]
    assert all(command[-2:] == ["-k", "forward"] for command in asked)
    assert said in capsys.readouterr().out
