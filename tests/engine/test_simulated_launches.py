"""What the bench sees of the CUDA backend's launches, in the simulator: test_simulator.py starts this."""

import itertools

import pytest
from dense import assert_same_bits

from hrmas_sparse.engine.backends.cuda import arrays
from runs.bench import ours, roofline
from runs.bench import workloads as w
from runs.bench.launches import by_kernel, recorded


@pytest.fixture
def launches(monkeypatch):
    """Run a step of a small problem; its launches by kernel, and what they should have had to do."""
    def launches(kind, inputs, density):
        monkeypatch.setattr(w, "MOTIF", 5)
        workload = w.Workload("tiny", inputs, density, 10, 2, 6, (2, 5), {kind: 11})
        problem = w.problem(workload, kind, samples=2)
        step, clock = ours.Step(problem, 1, device="cuda"), itertools.count()
        with recorded(lambda: next(clock)) as found:
            step.step()
        work = roofline.work(problem["meta"], len(problem.get("source", ())), len(problem["step"]), step.rates[0],
                             "feedforward" not in {launch.name for launch in found})
        return by_kernel(found, lambda start, end: end - start), work
    return launches


@pytest.mark.parametrize("kind", ["motif", "supernet", "feedforward"])
def test_launches_of_a_step(launches, kind):
    found, work = launches(kind, 5, 0.4)
    counts = {name: row["launches"] for name, row in found.items()}
    linked = {} if kind == "feedforward" else {"columns": 1, "links_gradient": 1}
    # one each for both of its motif sizes; the sizes' own alpha needs what all rows of types give
    linked |= {"select": 1, "choose": 1} if kind == "motif" else {}
    linked |= {"relax": 1, "pull_back": 1, "pull_back_sizes": 1} if kind == "supernet" else {}
    # GEMMs: input and output layer forward, their gradients, the output layer's errors on their way down
    assert counts == {"scatter": 1, "membrane": 2, "forward": 1, "output": 1, "backward": 1, "spread": 1, "GEMM": 5,
                      "multiply": 1} | linked
    assert all(row["ms"] == row["launches"] for row in found.values())  # a tick from before to after each
    assert set(found) <= set(work)


def test_sparse_input_is_visited(launches):
    found, work = launches("motif", 60, 0.02)
    assert [found[name]["launches"] for name in ("GEMM", "feedforward", "feedforward_gradient")] == [3, 1, 1]
    assert set(found) <= set(work)


@pytest.mark.parametrize("inputs, density", [(5, 0.4), (60, 0.02)])
def test_flops_of_the_products_are_those_of_the_formula(launches, monkeypatch, inputs, density):
    flops, real = [], arrays.xp.matmul

    def matmul(a, b, **options):
        flops.append(2 * a.size * b.shape[-1])
        return real(a, b, **options)

    monkeypatch.setattr(arrays.xp, "matmul", matmul)
    _, work = launches("motif", inputs, density)
    assert sum(flops) == work["GEMM"][1]


def test_five_seeds_need_the_launches_of_one(monkeypatch):
    """And the first of them finds what it finds alone."""
    monkeypatch.setattr(w, "MOTIF", 5)
    problem = w.problem(w.Workload("tiny", 60, 0.02, 10, 2, 6, (2, 5), {"motif": 11}), "motif", samples=2)
    one, five = ours.make(problem, 1, device="cuda"), ours.make_seeds(problem, 1, device="cuda")
    with recorded() as alone:
        expected = one.step()
    with recorded() as together:
        found = five.step()
    names = [launch.name for launch in together]
    more = {"select": 5, "choose": 5, "copy": 4}    # each network's own weights, and their gradients; all w, R and tau
    assert {name: names.count(name) for name in more} == more
    assert [name for name in names if name not in more] == [x.name for x in alone if x.name not in more]
    assert_same_bits(found, expected)
    assert five.rates == one.rates
    weights = [parameters.layers[0].w.tobytes() for _, parameters, *_ in five.given]
    links = [net.layers[0].recurrence.excitatory.tobytes() for net, *_ in five.given]
    assert len(set(weights)) == len(set(links)) == 5


def test_afterwards_nothing_is_recorded(launches):
    before = arrays.xp.matmul
    launches("feedforward", 5, 0.4)
    assert arrays.xp.matmul is before
