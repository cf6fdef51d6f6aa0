"""Runs whose output neurons integrate: searched, resumed, evaluated, shown, refused."""

import json

import numpy as np
import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.networks import load_trained
from hrmas_sparse.run.stop import never
from hrmas_sparse.run.summary import summary
from hrmas_sparse.search.hrmas import dropout_scales

INTEGRATOR = ["network.readout=integrator", "network.windows=4", "loss.name=cross_entropy"]


def test_a_search_ends_the_same_after_kills(tmp_path):
    events = toys.cache(tmp_path / "toy.h5")
    whole = toys.run(tmp_path / "whole", toys.settings(*INTEGRATOR), events)
    again, kills = toys.killed_every(3, tmp_path / "killed", toys.settings(*INTEGRATOR), events)
    assert kills > 3 and exact_differences(whole, again) == []
    result = whole.result()
    assert result["test"]["output_rates"] == []
    said = "\n".join(summary(whole, result))
    assert "output" not in said.partition("warning")[2], "nothing is wrong with output neurons that do not spike"


def test_dropout_cuts_a_neuron_in_all_windows(tmp_path):
    own = toys.settings(*INTEGRATOR, "training.dropout=0.5")
    job = toys.job(tmp_path / "run", own, toys.cache(tmp_path / "toy.h5"))
    job.execute(never)
    network, params = load_trained(RunDir(tmp_path / "run"))
    scale, = dropout_scales(network, 0.5, np.random.default_rng(0)).values()
    windows = scale.reshape(4, 12)
    assert scale.shape == (len(params.layers[-1].w), 1) and set(windows.ravel()) == {0, 2}
    assert (windows == windows[0]).all()


def test_the_program(house, capsys):
    options = [word for setting in INTEGRATOR for word in ("--set", setting)]
    assert cli.main([*toys.SEARCH, *options]) == 0
    run = RunDir("runs/out/ntidigits-s0")
    assert run.config().network.windows == 4 and "output layer is dead" not in capsys.readouterr().err
    assert cli.main(["evaluate", run.name, "--raw", "words.hdf5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == run.result()["test"]["accuracy"]
    assert cli.main(["show", run.name]) == 0
    assert "network.readout = " in capsys.readouterr().out
    assert cli.main(["retrain", run.name, "--raw", "words.hdf5", "--name", "again"]) == 0
    capsys.readouterr()
    assert cli.main(["export", run.name, "net.npz"]) == 2
    assert "readout: expected output neurons that spike" in capsys.readouterr().err


@pytest.mark.parametrize("settings, said", [
    (["network.readout=integrator"], "loss.name: expected cross_entropy where network.readout is integrator"),
    (["network.windows=2"], "network.windows: expected 1 where network.readout is spiking"),
    ([*INTEGRATOR, "network.windows=99999"], "network.windows: expected at most data.steps"),
    ([*INTEGRATOR, "network.windows=0"], "network.windows: expected"),
])
def test_refusals(house, capsys, settings, said):
    options = [word for setting in settings for word in ("--set", setting)]
    assert cli.main([*toys.SEARCH, *options]) == 2
    assert said in capsys.readouterr().err
