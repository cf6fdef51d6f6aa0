"""Layers that do not learn are named, and numbers that overflow."""

import pytest
import toys

from hrmas_sparse.run.metrics import Totals
from hrmas_sparse.run.summary import _warnings
from hrmas_sparse.run.warnings import complaints, kind
from hrmas_sparse.storage.errors import Diverged

GOOD = {"rate1": 0.05, "norm1": 2e3, "rate2": 0.04, "norm2": 1e3}


def totals(rate1, norm1, rate2, norm2):
    """Of an epoch of 10 samples."""
    return Totals(10, rates=[10 * rate1, 10 * rate2], norms=[0.0, 0.0], largest_norms=[norm1, norm2])


def test_nothing_wrong():
    assert complaints(totals(**GOOD)) == [] and complaints(Totals(10)) == []


@pytest.mark.parametrize("change, words", [
    ({"rate1": 0.0}, "layer 1 is dead"), ({"rate2": 1e-6}, "the output layer is dead"),
    ({"rate1": 0.9}, "layer 1 is saturated"), ({"rate2": 0.51}, "the output layer is saturated"),
    ({"norm1": 1e6}, "the gradient of layer 1 explodes"),
    ({"norm2": 1e8}, "the gradient of the output layer explodes")])
def test_each_is_named_once(change, words):
    found, = complaints(totals(**GOOD | change))
    assert found.startswith(words) and kind(found) == words


@pytest.mark.parametrize("settings, words", [
    ("network.v_th=1e6", "layer 1 is dead"),
    ("network.v_th=0.02 network.w_inh=0 network.w_exc=9", "layer 1 is saturated")])
def test_a_run_says_so_once_a_phase_and_keeps_it(tmp_path, capsys, settings, words):
    run = toys.run(tmp_path / "run", toys.settings(settings), toys.cache(tmp_path / "toy.h5"))
    bad = [line["phase"] for line in run.metrics() if any(words in w for w in line.get("warnings", []))]
    said = [line for line in capsys.readouterr().err.splitlines() if words in line]
    assert len(bad) >= 2 and len(said) == len(set(bad)) == run.summary_path.read_text().count(words)
    assert all(line.startswith("warning: ") for line in said)


def test_what_passes_is_not_in_the_summary():
    """An output layer that has no spike in its first epoch and then learns is healthy; an explosion is not undone."""
    dead, explodes = "the output layer is dead: 0.0e+00 spikes", "the gradient of layer 1 explodes: norm 1e+06"

    def shown(*epochs):
        return [line for line in _warnings([{"phase": "search-1", "epoch": n, "warnings": own}
                                            for n, own in enumerate(epochs, start=1)], None) if line]
    assert shown([dead], [], []) == []
    assert shown([dead], [], [dead.replace("0.0", "0.1")]) == [f"warning: search-1, epoch 1: {dead}"]
    assert shown([dead, explodes], []) == [f"warning: search-1, epoch 1: {explodes}"]


def test_norms_and_rates_of_every_layer_are_in_the_metrics(tmp_path):
    run = toys.run(tmp_path / "run", toys.settings("network.neurons=[12,6]"), toys.cache(tmp_path / "toy.h5"))
    for line in run.metrics():
        for n in (1, 2, 3):
            assert line[f"rate{n}"] >= 0 and 0 <= line[f"gradient_norm{n}"] <= line[f"gradient_norm{n}_max"]


@pytest.mark.parametrize("change", ["network.w_inh=-1e9", "network.surrogate_width=1e-6", "training.lr=1e9"])
@pytest.mark.filterwarnings("error")
def test_numbers_that_overflow_are_one_line(tmp_path, change):
    """NumPy does not warn of them before it."""
    with pytest.raises(Diverged, match="is not a finite number"):
        toys.run(tmp_path / "run", toys.settings(change), toys.cache(tmp_path / "toy.h5"))
