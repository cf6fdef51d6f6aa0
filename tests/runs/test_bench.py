"""The bench's harness, with our own engine only: no PyTorch is needed."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

from runs.bench import bench, measure, ours, profile, report, scaling, tune, worker
from runs.bench import workloads as w
from runs.bench.entrants import ENTRANTS, TARGETS

TINY = dataclasses.replace(w.WORKLOADS["W1"], name="tiny", hidden=400, steps=30)


@pytest.fixture(params=w.KINDS)
def tiny(request):
    return w.problem(TINY, request.param, samples=3)


def test_workloads_are_those_of_the_table():
    sizes = {x.name: (x.inputs, x.density, x.hidden, x.outputs, x.steps) for x in w.WORKLOADS.values()}
    assert sizes == {"W1": (78, 0.10, 800, 26, 100), "W2": (64, 0.05, 400, 11, 300), "W3": (2312, 0.017, 512, 10, 100),
                     "W4": (78, 0.10, 3200, 26, 100)}
    for workload in w.WORKLOADS.values():
        assert not any(workload.hidden % size for size in (*workload.sizes, w.MOTIF))


@pytest.mark.parametrize("name", ["W1", "W2", "W3"])
def test_hidden_rate(name):
    for kind in w.KINDS:
        step = ours.Step(w.problem(w.WORKLOADS[name], kind, samples=8), 1)
        step.step()
        assert w.RATES[0] <= step.rates[0] <= w.RATES[1], kind


def test_input_has_the_density():
    problem = w.problem(w.WORKLOADS["W2"], "feedforward")
    x = w.dense_input(problem, np.float32)
    assert x.shape == (300, 50, 64)
    assert x.mean() == pytest.approx(0.05, rel=0.02)
    assert x.sum() == len(problem["step"])


def test_a_problem_survives_its_file(tiny, tmp_path):
    w.save(tmp_path / "p.npz", tiny)
    again = w.load(tmp_path / "p.npz")
    assert again.keys() == tiny.keys() and again["meta"] == tiny["meta"]
    found, wanted = (ours.Step(p, 1).step() for p in (again, tiny))
    assert all((found[name] == wanted[name]).all() for name in wanted)


def test_shortened(tiny):
    short = w.shortened(tiny, 10)
    np.testing.assert_array_equal(w.dense_input(short, np.float32), w.dense_input(tiny, np.float32)[:10])
    ours.Step(short, 1).step()


@pytest.mark.parametrize("make", [ours.make_w_step, ours.make_iteration])
def test_a_step_that_learns_goes_on_where_it_was(make):
    entrant = make(w.problem(w.WORKLOADS["W1"], "supernet", samples=2), 1)
    entrant.step()
    before = entrant.rates
    entrant.step()
    assert entrant.rates == before and len(before) == 2


def test_desired_psc():
    from hrmas_sparse.engine.losses import PscLoss

    problem = w.problem(TINY, "feedforward", samples=3)
    zeros = np.zeros((3, TINY.steps, TINY.outputs))
    _, error = PscLoss()(zeros, problem["label"], w.TAU_S)
    np.testing.assert_allclose(w.desired_psc(problem, np.float64).transpose(1, 0, 2), -error, atol=1e-12)


def test_check_sees_a_wrong_gradient(tiny):
    gradients = ours.Step(tiny, 1, "float64").gradients()
    problem = tiny | {f"g.{name}": value for name, value in gradients.items()}
    make = lambda p, dtype: ours.make(p, 1, dtype)  # noqa: E731
    assert worker.check(make, problem)["error"] == 0
    problem["g.w_out"] = problem["g.w_out"] * 1.01
    assert 0.005 < worker.check(make, problem)["error"] < 0.02


@pytest.mark.parametrize("entrant", [e for e in ENTRANTS if e.framework == "jax"], ids=lambda e: e.key)
def test_a_peer_in_jax_has_a_device_a_thread(entrant, tmp_path):
    found = entrant.environment(3, tmp_path)
    assert "device_count=3" in found["XLA_FLAGS"] and found["JAX_PLATFORMS"] == "cpu"
    assert entrant.our_rule == (entrant.key != "spyx")
    if entrant.key in tune.NAMES:
        tried = tune.candidates(entrant.key)
        assert len({json.dumps(variant) for variant in tried}) == len(tried) > 1


@pytest.mark.parametrize("key", ["jax-blocks", "jax-links", "jax-dense", "jax-supernet", "jax-band"])
def test_peers_in_jax_have_our_gradients(key, tmp_path, monkeypatch):
    """Every variant; where JAX is not installed, `make bench` makes the comparison before it measures."""
    pytest.importorskip("jax", reason="JAX is not installed: only the bench's environment has it")
    entrant = next(e for e in ENTRANTS if e.key == key)
    problem = w.problem(dataclasses.replace(TINY, steps=40), entrant.kind, samples=2, seed=1)
    problem |= {f"g.{name}": g for name, g in ours.Step(problem, 1, "float64").gradients().items()}
    module, function = entrant.function.rsplit(".", 1)
    make = getattr(importlib.import_module(f"runs.bench.{module}"), function)
    for variant in tune.candidates(key):
        assert worker.check(lambda p, dtype: make(p, 1, dtype, **variant), problem)["error"] < 1e-12  # noqa: B023


def test_measure(tiny):
    found = measure.measure(lambda p: ours.make(p, 1), tiny, w.shortened(tiny, 10), seconds=0, least=3)
    assert len(found["all_ms"]) == 3 and found["ms"] > 0 and found["cpu_ms"] > 0
    json.dumps(found)


@pytest.mark.skipif(np.isnan(measure.status("VmHWM")), reason="no /proc")
def test_measure_sees_memory():
    class Hungry:
        def __init__(self, megabytes):
            self.bytes = megabytes << 20

        def step(self):
            np.ones(self.bytes, np.uint8)

    found = measure.measure(Hungry, 64, 1, seconds=0)
    if found["peak_reset"]:
        assert 60 < found["mb"] < 80


def test_bench_with_ours_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(w.WORKLOADS, "W1", dataclasses.replace(TINY, name="W1"))
    path = bench.main(["--quick", "--threads", "2", "--peers", "ours,ours-1thread,dense", "--peer-python",
                       "no-such-python", "--out", str(tmp_path)])
    found, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert {result["key"] for result in found["results"]} == {"ours", "ours-1thread"}
    assert set(found["skipped"]) == {"dense"} and "Skipped: dense" in printed
    assert "one thread / two threads" in printed
    assert found["machine"]["cores"] >= 1 and found["results"][0]["runs"][0]["versions"]["numba"]


def test_bench_refuses_unknown_names():
    with pytest.raises(SystemExit):
        bench.main(["--only", "W9"])
    with pytest.raises(SystemExit, match="no entrant matches"):
        bench.main(["--peers", "tensorflow"])


def test_every_target_names_entrants():
    keys = {entrant.key: entrant for entrant in ENTRANTS}
    for target in TARGETS:
        assert all(target.workload in keys[key].workloads for key in target.over + target.under)


def test_ratios_are_taken_round_by_round():
    def runs(*ms):
        return [{"ms": x, "mb": 1} for x in ms]
    results = [{"workload": "W1", "key": key, "runs": own} for key, own in (
        ("ours", runs(1, 10, 2)), ("blocks", runs(4, 30, 9)), ("blocks-compiled", runs(3, 50, 8)))]
    answers = {target.text: ratio for target, ratio, _ in report.ratios({"results": results}, TARGETS)}
    assert answers["best motif-block PyTorch / ours"] == 3  # of 3, 3, 4
    assert "best dense PyTorch / ours" not in answers


def test_scaling(tmp_path, capsys):
    path = scaling.main(["--neurons", "400,800", "--rounds", "1", "--threads", "1", "--kinds", "motif", "--out",
                         str(tmp_path)])
    assert set(json.loads(path.read_text())["exponents"]) == {"motif ms", "motif mb"}
    assert "| 400 |" in capsys.readouterr().out
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


@pytest.mark.parametrize("kind", ["motif", "supernet"])
def test_profile(kind):
    times, whole, rate, links = profile.parts(w.problem(TINY, kind, samples=3))
    assert whole > 0 and links > 0 and set(profile.counts(w.problem(TINY, kind, samples=3), rate, links)) <= set(times)
