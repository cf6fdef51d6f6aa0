"""Several candidates: trained shortly on one half of the training part, the best on the other half is retrained."""

import numpy as np
import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.data.events import halve
from hrmas_sparse.engine import architecture
from hrmas_sparse.run import loop
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir, status_line
from hrmas_sparse.run.store import MemoryStore
from hrmas_sparse.run.stop import never
from hrmas_sparse.storage.errors import InputError
from runs.plan import epochs

SEVERAL = ["search.candidates=3", "search.candidate_epochs=2"]


@pytest.fixture
def events(tmp_path):
    return toys.cache(tmp_path / "toy.h5")


def chosen(run, own):
    return architecture.load_fitting(run.architecture_path, own.network)


@pytest.mark.parametrize("more", [[], ["search.method=random"], ["search.method=size"],
                                  ["plasticity.carry_intrinsic=true"], ["network.v_th=auto"]],
                         ids=["hrmas", "random", "size", "carried", "auto"])
def test_the_best_is_retrained_and_kills_change_nothing(tmp_path, events, more):
    own = toys.settings(*SEVERAL, *more)
    whole = toys.run(tmp_path / "whole", own, events)
    phases = [line["phase"] for line in whole.metrics()]
    searched = [] if "search.method=random" in more else ["search-1"] * 2
    searched += ["search-2"] * 2 if len(searched) and "search.method=size" not in more else []
    assert phases == searched + ["candidates"] * 6 + ["retrain"] * 2 and len(phases) == epochs(own)
    again, kills = toys.killed_every(4, tmp_path / "killed", own, events)
    assert kills > 5 and exact_differences(whole, again) == []


def test_what_is_chosen_is_the_best_of_them_on_the_other_half(tmp_path, events, monkeypatch):
    """Scored again here, by hand; every candidate is another, begins with the same weights, learns from one half."""
    own = toys.settings(*SEVERAL, "search.method=random")
    job = toys.job(tmp_path / "run", own, events)
    train, valid = halve(events.train.labels, 0)
    seen, tried, real = [], [], job._phase

    def phase(stop, make, network, *which):
        start = job.learner.parameters.copy()
        real(stop, make, network, *which)
        if which:
            outcome = network.evaluate(job.learner.parameters, events.train[valid])
            seen.append(((outcome.predicted == events.train.labels[valid]).mean(), -outcome.loss))
            tried.append((network.hidden[0].recurrence.architecture, start.layers[0].w))

    monkeypatch.setattr(job, "_phase", phase)
    job.execute(never)
    best, = chosen(RunDir(tmp_path / "run"), own)
    winner = tried[max(range(3), key=lambda n: seen[n])][0]
    np.testing.assert_array_equal(best.types, winner.types)
    assert best.motif_size == winner.motif_size
    assert len({one.types.tobytes() for one, _ in tried}) == 3
    assert len({w.tobytes() for _, w in tried}) == 1


@pytest.mark.parametrize("more", [[], ["plasticity.carry_intrinsic=true"]])
def test_a_search_that_is_gone_or_foreign_is_named(tmp_path, events, monkeypatch, more):
    own = toys.settings(*SEVERAL, *more)
    for name, seed in (("run", 0), ("other", 1)):
        with monkeypatch.context() as patch, pytest.raises(toys.Killed):
            patch.setattr(loop, "CHECKPOINT_SECONDS", -1)
            toys.kill_after(patch, 20)   # the search has 12 batches, a candidate 6: the second one dies
            toys.run(tmp_path / name, own, events, seed=seed)
    path = tmp_path / "run" / "search.h5"
    path.write_bytes((tmp_path / "other" / "search.h5").read_bytes())
    with pytest.raises(InputError, match="search.h5: of another run"):
        toys.run(tmp_path / "run", own, events)
    path.unlink()
    with pytest.raises(InputError, match="is gone .search.h5."):
        toys.run(tmp_path / "run", own, events)


def test_the_first_candidate_is_what_one_alone_would_be(tmp_path, events):
    for method in ("hrmas", "random"):
        alone = toys.settings(f"search.method={method}")
        one = toys.run(tmp_path / f"{method}-one", alone, events)
        job = toys.job(tmp_path / f"{method}-three", toys.settings(*SEVERAL, f"search.method={method}"), events)
        first = []
        job.store.keep_architecture = lambda found, first=first, keep=job.store.keep_architecture: (
            first.append(found), keep(found))
        job.execute(never)
        assert [a.types.tolist() for a in first[0]] == [a.types.tolist() for a in chosen(one, alone)]


def test_in_memory_as_in_a_folder(tmp_path, events):
    own = toys.settings(*SEVERAL)
    run, job = toys.run(tmp_path / "run", own, events), toys.job(tmp_path / "other", own, events)
    job.store = MemoryStore()
    job.execute(never)
    assert [a.types.tolist() for a in job.store.architectures] == [a.types.tolist() for a in chosen(run, own)]


def test_as_long_as_a_search_unless_told_otherwise():
    own = toys.settings("search.candidates=10", "training.search_epochs=40")
    assert own.candidate_epochs == 20 and own.choosing_epochs == 200
    assert toys.settings("search.candidates=1000").candidate_epochs == 1
    assert toys.settings().choosing_epochs == 0
    assert toys.settings("search.candidates=3", "network.recurrence=none").choosing_epochs == 0


def test_the_program(house, capsys):
    options = [word for setting in SEVERAL for word in ("--set", setting)]
    assert cli.main([*toys.SEARCH, *options]) == 0
    assert "candidates" in (RunDir("runs/out/ntidigits-s0").summary_path.read_text())
    assert "test accuracy" in status_line(RunDir("runs/out/ntidigits-s0"))
    for bad in ("search.candidates=0", "search.candidate_epochs=0", "search.candidates=x"):
        assert cli.main([*toys.SEARCH, "--set", bad]) == 2
        assert f"{bad.partition('=')[0]}: expected" in capsys.readouterr().err
