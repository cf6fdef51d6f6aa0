"""Stages of the search that end once alpha has decided: where, and the same after every kill."""

import numpy as np
import pytest
import toys

from hrmas_sparse.engine.architecture import load_fitting
from hrmas_sparse.engine.relaxation import softmax
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import status_line, total_epochs
from hrmas_sparse.run.networks import Networks
from hrmas_sparse.run.progress import Reporter
from hrmas_sparse.run.state import Position
from hrmas_sparse.run.stop import Stopped
from hrmas_sparse.run.summary import summary
from hrmas_sparse.search.hrmas import decision
from runs.plan import work, work_done

LONG = ("training.search_epochs=24", "network.neurons=[12,12]", "network.v_th=0.5", "search.alpha_lr=0.5",
        "search.decided=0.85")
PATIENT = (*LONG, "search.patience=2")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


@pytest.fixture(scope="module")
def ended(tmp_path_factory, events):
    """A run whose stages both ended early, the first and the second."""
    run = toys.run(tmp_path_factory.mktemp("ended") / "run", toys.settings(*PATIENT), events)
    phases = [line["phase"] for line in run.metrics()]
    assert 3 <= phases.count("search-1") < 12 and 3 <= phases.count("search-2") < 12
    return run


def test_a_stage_ends_in_the_first_epoch_that_fulfils_it_and_no_other(ended, events, tmp_path):
    """By the metrics of a run that never ends early: up to there both are the same run."""
    lines, straight = ended.metrics(), toys.run(tmp_path / "straight", toys.settings(*LONG), events).metrics()
    one = [line for line in lines if line["phase"] == "search-1"]
    for line, other in zip(one, straight):
        assert {key: line[key] for key in other if key != "seconds"} == {
            key: value for key, value in other.items() if key != "seconds"}
    assert "unchanged" not in straight[0] and "certainty" not in straight[0]
    best = [[int(np.argmax(layer)) for layer in line["motif_sizes"]] for line in one]
    for n, line in enumerate(one):
        assert line["certainty"] == pytest.approx(min(map(max, line["motif_sizes"])), abs=1e-12)
        same = next((back for back in range(n) if best[n - back - 1] != best[n]), n)
        assert line["unchanged"] == same
    for phase in ("search-1", "search-2"):
        over = [line["unchanged"] >= 2 and line["certainty"] >= 0.85 for line in lines if line["phase"] == phase]
        assert over == [False] * (len(over) - 1) + [True]


def test_kills_at_every_batch_change_nothing(ended, events, tmp_path):
    again, kills = toys.killed_every(1, tmp_path / "killed", toys.settings(*PATIENT), events)
    assert kills > 20 and exact_differences(ended, again) == []


def test_stopped_after_every_epoch_it_ends_where_it_did(ended, events, tmp_path):
    """A callback stops a run between an epoch and the next, where a stage may just have ended."""
    stops = 0
    while stops < 100:
        job = toys.job(tmp_path / "run", toys.settings(*PATIENT), events)
        job.reporter = Reporter(callback=lambda progress: False)
        try:
            job.execute()
            break
        except Stopped:
            stops += 1
    assert stops == len(ended.metrics()) and exact_differences(ended, job.store.run) == []


def test_a_bound_that_is_never_reached_ends_nothing(events, tmp_path):
    never = toys.run(tmp_path / "never", toys.settings(*LONG, "search.patience=2", "search.decided=1"), events)
    straight = toys.run(tmp_path / "straight", toys.settings(*LONG), events)
    assert len(never.metrics()) == len(straight.metrics()) == 26
    found = [[one.types.tolist() for one in load_fitting(run.architecture_path, run.config().network)]
             for run in (never, straight)]
    assert found[0] == found[1]


def test_what_is_decided(events, backend):
    """Sizes in stage 1 and types in stage 2, of all layers; a change anywhere is a change."""
    own = toys.settings("network.neurons=[12,6]")
    networks = Networks.of(own, toys.CHANNELS, toys.CLASSES, backend)
    network = networks.search()
    rng, parameters = np.random.default_rng(5), network.init(0)
    for n, name in network.alpha_names:
        parameters.layers[n][name] = rng.standard_normal(parameters.layers[n][name].shape).astype(np.float32)
    there = parameters.map(backend.to_device)
    for stage in (1, 2):
        names = [(n, name) for n, name in network.alpha_names if (name == "alpha_size") == (stage == 1)]
        choice, certainty = decision(network, there, stage)
        chances = [softmax(parameters.layers[n][name].astype(np.float64)).max(axis=-1) for n, name in names]
        wanted = min(chances) if stage == 1 else sum(c.sum() for c in chances) / sum(c.size for c in chances)
        assert certainty == pytest.approx(float(wanted), rel=1e-12)
        for n, name in network.alpha_names:
            other = parameters.copy()
            flat = other.layers[n][name].reshape(-1, other.layers[n][name].shape[-1])
            flat[-1] = np.roll(flat[-1], 1)
            assert (decision(network, other.map(backend.to_device), stage)[0] != choice) == ((n, name) in names)


def test_it_is_said(ended):
    lines, own = ended.metrics(), ended.config()
    one, two = (sum(line["phase"] == f"search-{n}" for line in lines) for n in (1, 2))
    assert f"search          {one} + {two} of 12 + 12 epochs at most; a stage ends after 2 without a change" in summary(
        ended, ended.result())
    assert "test accuracy" in status_line(ended)
    phases = [line["phase"] for line in lines]
    assert total_epochs(own, []) == 26
    assert total_epochs(own, phases[:one]) == 26 and total_epochs(own, phases[:one + 1]) == one + 12 + 2
    assert total_epochs(own, phases[:-1]) == total_epochs(own, phases) == len(lines)


def test_work_of_a_stage_that_ended_early_is_done(ended, monkeypatch):
    class Planned:
        run, settings, method = ended, ended.config(), ""

    text = ended.metrics_text()
    monkeypatch.setattr(type(ended), "finished", property(lambda self: False))
    assert work_done(Planned) == pytest.approx(work(Planned.settings))
    kept = text.split(b"\n")[:sum(b"search" in line for line in text.split(b"\n")) + 1]
    monkeypatch.setattr(type(ended), "metrics_text", lambda self: b"\n".join(kept) + b"\n")
    assert work_done(Planned) < work(Planned.settings)


def test_a_position_with_damage_is_refused(tmp_path):
    position = Position("search-1", settled={"choice": "0" * 16, "epochs": 1, "certainty": 0.5})
    assert Position.of(position.as_dict(), tmp_path) == position
    assert "settled" not in Position("search-1").as_dict()
    stored = position.as_dict() | {"settled": {"choice": 3, "epochs": 1, "certainty": 0.5}}
    with pytest.raises(Exception, match="damaged: its position in the run"):
        Position.of(stored, tmp_path)
