"""What making an architecture discrete costs: every score against the dense reference, and nothing else moves."""

import copy
import json

import naive
import numpy as np
import pytest
import toys
from dense import TAU_M, TAU_S, assert_same_bits, random_case

from hrmas_sparse.run import diagnosis
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.summary import _made_discrete
from hrmas_sparse.run.diagnosis import carried, diagnose
from hrmas_sparse.run.stop import Stopped
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.engine.layers import Motifs
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.search.optim import Adam
from hrmas_sparse.search.hrmas import Learner, discretize
from hrmas_sparse.data.events import halve
from hrmas_sparse.run.summary import summary

SETTINGS = dict(tau_cal=16.0, gamma=2.0, mu=0.2)
PLASTICITY = Plasticity(**SETTINGS)
STACKS = {
    "one layer": (("supernet", 12, (3,)),),
    "two layers": (("supernet", 12, (3,)), ("supernet", 8, (4,))),
    "no neighbours": (("supernet", 12, (4,), False),),
    "untied": (("supernet", 12, (3,), True, False),),
}
JUDGES, WINDOWS = np.array([1, 4, 5, 7, 10]), [np.array([0, 2, 3]), np.array([6, 8]), np.array([9, 11])]


class Searched:
    """The end of a search in naive's words, and for the engine."""

    def __init__(self, stack, backend, dtype):
        self.case = random_case(60, STACKS[stack], B=12, T=16, density=0.4)
        self.relaxed = self.case.network(backend, dtype)
        self.learner = Learner(self.case.parameters(dtype), Adam(), Adam())
        hidden = [Motifs(own.neurons, architecture=own, v_th=layer.v_th / TAU_S) for own, layer in
                  zip(discretize(self.relaxed, self.learner), self.relaxed.hidden)]
        self.discrete = Network(self.case.X.shape[2], self.relaxed.classes, hidden, self.relaxed.neuron,
                                backend=backend, dtype=dtype)

    def diagnose(self, plasticity=PLASTICITY, **more):
        return diagnose(self.relaxed, self.discrete, self.learner, self.case.events(), JUDGES, WINDOWS, plasticity,
                        **more)

    def discrete_layers(self):
        """naive's layers with the discrete matrix in place of the relaxed one."""
        found = []
        for layer in self.case.layers:
            if "sizes" in layer:
                N, inter, tied = len(layer["W_in"]), layer["inter"], layer["tied"]
                v, types = naive.discretize(layer["sizes"], layer["alpha_size"], layer["alphas"])
                layer = dict(layer, W_rec=naive.architecture_matrix(N, v, types, layer["w_exc"], inter, tied))
            found.append(layer)
        return found


def with_intrinsic(layers, values):
    """naive's layers with other R and tau in the hidden ones."""
    return [dict(layer, R=R, tau=tau) for layer, (R, tau) in zip(layers, values)] + [layers[-1]]


def expected_scores(searched):
    """Loss, accuracy and rates of each score, dense and in float64."""
    case, discrete = searched.case, searched.discrete_layers()
    adapted = discrete
    for window in WINDOWS:
        found = naive.spikl_ip_network(case.X[window], adapted, TAU_S, TAU_M, **SETTINGS)
        adapted = with_intrinsic(adapted, [(own["R_end"], own["tau_end"]) for own in found[:-1]])
    start = with_intrinsic(discrete, [(np.full(len(x["W_in"]), TAU_M),) * 2 for x in discrete[:-1]])
    return {name: score(case.X[JUDGES], case.Y[JUDGES], layers) for name, layers in
            (("relaxed", case.plain()), ("reset", start), ("discrete", discrete), ("adapted", adapted))}


def score(X, Y, layers):
    tapes = naive.network_forward(X, layers, TAU_S)
    loss, _ = naive.network_loss(tapes[-1]["a"], Y, TAU_S)
    return {"loss": loss, "accuracy": float((naive.decide(tapes[-1]["a"]) == Y).mean()), "samples": len(Y),
            "rates": [tape["s"].mean() for tape in tapes]}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("stack", STACKS)
def test_every_score_is_the_reference(backend, stack, dtype):
    searched = Searched(stack, backend, dtype)
    found, expected = searched.diagnose(), expected_scores(searched)
    assert found.pop("windows") == 3 and found.keys() == expected.keys()
    for name, own in expected.items():
        assert found[name]["samples"] == own["samples"] and found[name]["accuracy"] == own["accuracy"], name
        assert found[name]["rates"] == pytest.approx(own["rates"], abs=1e-12), name
        assert found[name]["loss"] == pytest.approx(own["loss"], rel=1e-9 if dtype == "float64" else 2e-5), name
    assert len({own["loss"] for own in expected.values()}) == 4, "the test cannot tell the scores apart"


@pytest.mark.parametrize("stack", STACKS)
def test_the_weights_are_carried_exactly(backend, stack):
    searched = Searched(stack, backend, "float64")
    weights = carried(searched.discrete, searched.learner.parameters)
    assert {e: x.shape for e, x in weights.items()} == {e: x.shape for e, x in searched.discrete.init(0).items()}
    for n, layer in enumerate(searched.discrete_layers()[:-1], start=1):
        motif = searched.discrete.hidden[n - 1].recurrence
        found = motif.dense(motif.effective(weights.layers[n - 1]))
        np.testing.assert_array_equal(found, layer["W_rec"])
    for own, before in zip(weights.layers, searched.learner.parameters.layers):
        np.testing.assert_array_equal(own.w, before.w)
    assert_same_bits(weights.intrinsic(), searched.learner.parameters.intrinsic())


def test_without_plasticity_there_are_two_scores(backend):
    searched = Searched("one layer", backend, "float64")
    found, whole = searched.diagnose(None), searched.diagnose()
    assert found == {"relaxed": whole["relaxed"], "reset": None, "discrete": whole["discrete"], "adapted": None,
                     "windows": 0}


def test_nothing_is_learnt(backend):
    searched = Searched("two layers", backend, "float32")
    before = copy.deepcopy(searched.learner.parameters)
    searched.diagnose()
    assert_same_bits(searched.learner.parameters, before)


@pytest.mark.parametrize("passes", range(7))
def test_it_stops_where_it_is_asked_to(backend, passes):
    """Four scores and three windows: a stop is heard after each."""
    with pytest.raises(Stopped):
        Searched("one layer", backend, "float64").diagnose(stop=toys.after(passes))


# ---- in a run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


@pytest.mark.parametrize("overrides, names", [
    ((), {"relaxed", "reset", "discrete", "adapted"}), (("plasticity.mode=online",), {"relaxed", "reset", "discrete",
                                                                                       "adapted"}),
    (("plasticity.mode=off",), {"relaxed", "discrete"}), (("search.method=random",), None),
    (("search.method=size",), None), (("network.recurrence=none",), None)],
    ids=["window", "online", "off", "random", "size", "feedforward"])
def test_what_a_run_records(tmp_path, events, overrides, names):
    run = toys.run(tmp_path / "run", toys.settings(*overrides), events)
    found, text = run.diagnosis(), "\n".join(summary(run, run.result()))
    if names is None:
        assert found is None and "made discrete" not in text
        return
    assert {name for name, own in found.items() if isinstance(own, dict)} == names
    # half of 22 training samples, in windows of 4
    assert found["relaxed"]["samples"] == 11 and found["windows"] == (3 * diagnosis.EPOCHS if "adapted" in names else 0)
    relaxed, discrete = (f"{100 * found[name]['accuracy']:.2f} %" for name in ("relaxed", "discrete"))
    assert f"made discrete   {relaxed} -> {discrete}  (weights of the search, 11 samples" in text
    assert ("  plasticity  " in text) == ("adapted" in names) and "diagnosis" in run.result()["seconds"]
    text = run.diagnosis_path.read_text()
    again = toys.run(tmp_path / "again", toys.settings(*overrides), events, threads=2)
    assert again.diagnosis_path.read_text() == text


def test_the_run_ends_as_it_would_without(tmp_path, events, monkeypatch):
    own = toys.settings("plasticity.carry_intrinsic=true")
    whole = toys.run(tmp_path / "whole", own, events)
    monkeypatch.setattr("hrmas_sparse.run.job.Job._diagnose", lambda self, network, stop: None)
    without = toys.run(tmp_path / "without", own, events)
    assert without.diagnosis() is None
    for name in ("weights.h5", "search.h5"):
        assert (without.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_the_samples_are_those_that_judged_alpha(tmp_path, events, monkeypatch):
    seen = []
    monkeypatch.setattr("hrmas_sparse.run.job.diagnose",
                        lambda *arguments: seen.append(arguments) or diagnose(*arguments))
    toys.run(tmp_path / "run", toys.settings(), events, seed=3)
    (relaxed, discrete, learner, scored, judges, windows, *_), = seen
    train, valid = halve(events.train.labels, 3)
    np.testing.assert_array_equal(judges, valid)
    np.testing.assert_array_equal(np.sort(np.concatenate(windows[:3])), train)
    assert scored is events.train and len(windows) == 3 * diagnosis.EPOCHS
    assert any((a != b).any() for a, b in zip(windows[:3], windows[3:6])), "every epoch has its own order"


@pytest.mark.parametrize("change", [{"relaxed": None}, {"discrete": {}}, {"windows": "many"}, {"adapted": 3}], ids=str)
def test_a_damaged_one_is_refused(tmp_path, change):
    run = RunDir(tmp_path)
    score = {"accuracy": 0.5, "loss": 1.0, "samples": 3, "rates": [0.1]}
    whole = {"windows": 0, "relaxed": score, "reset": None, "discrete": score, "adapted": None}
    run.diagnosis_path.write_text(json.dumps(whole))
    assert run.diagnosis() == whole and _made_discrete(whole | {"more": {"a": 1}}) == _made_discrete(whole) != []
    run.diagnosis_path.write_text(json.dumps(whole | change))
    with pytest.raises(InputError, match="diagnosis.json"):
        run.diagnosis()
