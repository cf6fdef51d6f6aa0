"""Runs whose time constants and thresholds are trained: resumed, scored, exported, refused."""

import numpy as np
import pytest
import toys

import hrmas_sparse as hs
from hrmas_sparse import cli
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.networks import load_trained
from hrmas_sparse.run.score import evaluate
from hrmas_sparse.storage.errors import InputError

TRAINED = ["training.tau=trained", "training.threshold=trained", "search.candidates=2", "search.candidate_epochs=1"]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, events):
    return toys.run(tmp_path_factory.mktemp("whole") / "run", toys.settings(*TRAINED), events)


def test_a_run_ends_the_same_after_kills(tmp_path, events, whole):
    again, kills = toys.killed_every(3, tmp_path / "killed", toys.settings(*TRAINED), events)
    assert kills > 5 and exact_differences(whole, again) == []


def test_the_search_is_what_it_is_without(tmp_path, events, whole):
    fixed = toys.run(tmp_path / "fixed", toys.settings(*TRAINED[2:]), events)
    lines = [[{key: x for key, x in line.items() if key != "seconds"} for line in run.metrics()]
             for run in (whole, fixed)]
    searched = [[line for line in each if line["phase"].startswith("search")] for each in lines]
    assert searched[0] == searched[1] and lines[0] != lines[1]
    last, tau_m = [each[-1] for each in lines], whole.config().network.tau_m
    for name in ("R1", "tau1"):
        assert last[0]["phase"] == "retrain" and last[0][name][0] < tau_m < last[0][name][2]
        assert last[1][name] == [tau_m] * 3


def test_the_trained_values_are_saved_scored_and_exported(tmp_path, events, whole):
    network, params = load_trained(whole)
    own, tau_m = params.layers[0], whole.config().network.tau_m
    assert len(set(own.R)) > 6 and len(set(own.tau)) > 6 and not np.array_equal(own.R, own.tau)
    assert all(tau_m / 2 <= x.min() and x.max() <= 8 * tau_m for x in (own.R, own.tau))
    found, result = evaluate(network, params, events.test), whole.result()["test"]
    assert (found.accuracy, found.loss) == (result["accuracy"], result["loss"])
    for name, back in (("net.nir", hs.Network.from_nir), ("net.npz", hs.Network.from_npz)):
        network.export(tmp_path / name, params)
        again, other = back(tmp_path / name, backend="cpu")
        np.testing.assert_allclose([other.layers[0].R, other.layers[0].tau], [own.R, own.tau], rtol=1e-6)
        np.testing.assert_array_equal(again.evaluate(other, events.test).predicted,
                                      network.evaluate(params, events.test).predicted)


@pytest.mark.parametrize("how", ["training.tau=trained", "training.threshold=trained"])
def test_refusals(house, capsys, how):
    with pytest.raises(InputError, match="plasticity.retrain: expected false where training.tau or training.threshold"):
        toys.settings(how, "plasticity.retrain=true")
    assert cli.main([*toys.SEARCH, "--set", "plasticity.retrain=true", "--set", how]) == 2
    assert "SpiKL-IP would move the same R and tau, found true" in capsys.readouterr().err
    assert cli.main([*toys.SEARCH, "--set", "training.tau=learnt"]) == 2
    assert "training.tau: expected" in capsys.readouterr().err
