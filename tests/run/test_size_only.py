"""Only the motif size is searched: that of a whole search at the same seed, with types that are random."""

import pytest
import toys

from hrmas_sparse.engine.architecture import Architecture, load_fitting
from hrmas_sparse.run.folder import status_line
from runs.plan import epochs

SIZE = ("network.motif_sizes=[2,3,4,6]", "network.neurons=[12,24]", "training.search_epochs=3")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


def test_the_size_is_that_of_the_whole_search_and_the_types_are_not(tmp_path, events):
    whole = toys.run(tmp_path / "whole", toys.settings(*SIZE), events)
    own = toys.settings(*SIZE, "search.method=size")
    run = toys.run(tmp_path / "run", own, events)
    sizes, searched = ([one.motif_size for one in load_fitting(each.architecture_path, own.network)]
                       for each in (run, whole))
    assert sizes == searched

    def of_stage_1(one):
        return [{key: value for key, value in line.items() if "seconds" not in key} for line in one.metrics()
                if line["phase"] == "search-1"]
    assert of_stage_1(run) == of_stage_1(whole) and len(of_stage_1(run)) == 2
    assert len(run.metrics()) == epochs(own) == 2 + own.training.retrain_epochs
    assert "test accuracy" in status_line(run)


def test_the_types_are_uniform(tmp_path, events):
    """Over many seeds each type has its third, whatever stage 1 has learnt of them."""
    counts = [0, 0, 0]
    for seed in range(12):
        own = toys.settings(*SIZE, "search.method=size", "training.search_epochs=1", "training.retrain_epochs=1")
        run = toys.run(tmp_path / f"run{seed}", own, events, seed=seed)
        for one in load_fitting(run.architecture_path, own.network):
            assert isinstance(one, Architecture)
            for n in range(3):
                counts[n] += int((one.types == n).sum())
    total = sum(counts)
    # five standard deviations of a share of a third
    assert all(abs(count / total - 1 / 3) < 5 * (2 / 9 / total) ** 0.5 for count in counts), counts
