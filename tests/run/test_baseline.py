"""Logistic regression on spike counts: computed once for a data set, on few samples, or not at all."""

import json

import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.run import baseline
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.search import counts


@pytest.fixture
def events(tmp_path):
    return toys.cache(tmp_path / "toy.h5", train=40)


@pytest.fixture
def computed(monkeypatch):
    """The parts of the data that logistic regression was fitted to."""
    seen, real = [], counts.count_baseline
    monkeypatch.setattr(counts, "count_baseline", lambda data: seen.append(data) or real(data))
    return seen


def test_once_for_a_data_set(events, computed, tmp_path):
    first = baseline.count_accuracy(events)
    assert 0.5 < first <= 1 and first == counts.count_baseline(events)
    computed.clear()
    assert baseline.count_accuracy(events) == first and not computed
    kept = json.loads((tmp_path / "toy.counts.json").read_text())
    assert kept["fingerprint"] == "toy" and kept["samples"] == {"train": 40, "test": 9} and kept["accuracy"] == first


@pytest.mark.parametrize("change", [{"fingerprint": "other"}, {"encoding": {"steps": 7}}, {"accuracy": 7.0},
                                    {"accuracy": "x"}, {"samples": {"train": 3, "test": 9}}, {"schema": 2}], ids=str)
def test_what_is_kept_for_other_data_does_not_count(events, computed, tmp_path, change):
    first, path = baseline.count_accuracy(events), tmp_path / "toy.counts.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert baseline.count_accuracy(events) == first and len(computed) == 2
    assert json.loads(path.read_text())["accuracy"] == first


def test_a_folder_that_cannot_be_written_to(events, computed, tmp_path):
    (tmp_path / "toy.counts.json").mkdir()
    assert baseline.count_accuracy(events) == baseline.count_accuracy(events) and len(computed) == 2


def test_few_samples_are_enough(events, computed, monkeypatch):
    monkeypatch.setattr(baseline, "MOST", {"train": 12, "test": 5})
    baseline.count_accuracy(events)
    part, = computed
    assert (len(part.train), len(part.test)) == (12, 5) and set(part.train.labels) == {0, 1, 2}


def test_it_can_be_turned_off(house, computed, capsys):
    assert cli.main([*toys.SEARCH, "--baseline", "off"]) == 0
    assert not computed and RunDir("runs/out/ntidigits-s0").result()["counts_baseline"] is None
    assert "counts alone" not in capsys.readouterr().out
    assert cli.main([*toys.SEARCH, "--name", "with"]) == 0
    assert len(computed) == 1 and "counts alone" in capsys.readouterr().out
    assert cli.main([*toys.SEARCH, "--name", "again"]) == 0 and len(computed) == 1
