"""What a run is said to need, on the CPU and on a GPU; test_robustness.py compares it with what one takes."""

import pytest
import toys

from hrmas_sparse.engine.backends.cuda.footprint import local
from hrmas_sparse.run.footprint import estimate, estimate_on_device
from hrmas_sparse.storage import memory
from hrmas_sparse.storage.errors import InputError

GIB = 1 << 30


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


def on_device(events, *overrides, networks=1, together=1024, density=0.05, free=GIB):
    return estimate_on_device(toys.settings(*overrides), events, networks, together, density, free)


def test_a_device_by_hand(events):
    """12 neurons of 10 inputs and 3 classes, motifs of 2 and 3; 256 samples are scored together."""
    needed = on_device(events, "network.inter=false", networks=2)
    forward, links, alphas = 12 * 10 + 12 * 3, 12 * 2 + 12 * 3, 3 * (2 * 2 + 2 * 2 + 3 * 3 + 2 * 3)
    learnt = 2 * 4 * (forward + links + alphas)
    assert needed["weights, alpha and Adam's moments"] == 3 * learnt
    assert needed["steps of the bi-level gradient"] == 8 * learnt
    rows = 512 * 12
    neurons, output, weights = rows * 13 * 15, rows * 24 * 3, 4 * 16 * forward
    assert needed["simulation, 512 samples"] == neurons + output + weights + 4 * links * (16 + 44)
    assert needed["the spike cache"] == len(events.train.step) * 5
    count = len(events.train.step) * 512 // 22
    assert needed["input of a batch"] == 100 * count + 4 * 512 * 12 * 10


def test_what_a_device_need_not_hold(events):
    assert on_device(events, free=16 * len(events.train.step))["the spike cache"] == 0  # 5 of 16 are over a quarter
    dense, sparse = (on_device(events, density=density)["input of a batch"] for density in (0.05, 0.99))
    assert dense - sparse == 4 * 256 * 12 * 10
    kinds = [on_device(events, networks=networks).keys() for networks in (1, 3, 5)]
    assert [next(name for name in kind if "simulation" in name) for kind in kinds] == [
        "simulation, 256 samples", "simulation, 768 samples", "simulation, 1024 samples"]
    assert any("400 samples" in name for name in on_device(events, "training.batch=200", together=0))


def test_more_of_everything_needs_more(events):
    least = sum(on_device(events).values())
    for more in (on_device(events, networks=2), on_device(events, "network.neurons=[24]"),
                 on_device(events, "network.dtype=float64"), on_device(events, "plasticity.mode=online"),
                 on_device(events, "training.batch=200"), on_device(events, "training.tau=trained")):
        assert sum(more.values()) > least


@pytest.mark.parametrize("how", ["tau", "threshold"])
def test_errors_are_kept_where_a_neurons_own_are_trained(events, how):
    """12 neurons and 3 outputs, of 16 samples a thread; 256 samples on a device."""
    trained = f"training.{how}=trained"
    more, less = (estimate(toys.settings(*own), events, 2)["simulation, 2 threads"] for own in ((trained,), ()))
    assert more - less == 2 * 15 * 12 * 16 * 4
    more, less = (on_device(events, *own)["simulation, 256 samples"] for own in ((trained,), ()))
    assert more - less == 256 * 12 * 12 * 4


def test_the_links_of_every_kind_of_recurrence(events):
    none, full = (sum(on_device(events, f"network.recurrence={kind}").values()) for kind in ("none", "full"))
    assert full - none == 11 * 4 * 144 + 2 * 144 * (16 + 44)


def test_every_thread_has_its_own_bundles_of_links(events):
    """12 neurons, each with each; a thread that has nothing to do has none."""
    def needed(threads, *overrides):
        return estimate(toys.settings("network.recurrence=full", *overrides), events, threads)["connections going back"]
    assert needed(1) == 2 * 144 * 12 and needed(8) == needed(1)
    assert needed(8, "training.batch=400") == 8 * needed(1) and needed(1, "network.dtype=float64") == 2 * 144 * 16


def test_the_state_of_many_neurons_a_thread():
    """The driver sets local memory aside for every thread the device has at once: 2,048 on 148 multiprocessors."""
    assert [local([(10, n), (n, 3)], 4) for n in (3, 1024, 3200)] == [0, 0, 0]
    assert [local([(10, n)], 4) // (2048 * 148 * 9 * 4) for n in (3201, 12800, 51200)] == [8, 16, 64]
    assert local([(10, 3200)], 8) == 2048 * 148 * 9 * 8 * 4    # registers hold half as many numbers of float64


def test_refusal_names_what_is_short():
    memory.require({"a": GIB, "b": GIB}, free=2 * GIB)
    with pytest.raises(InputError, match=r"needs about 2\.0 GiB of the GPU's memory and 1\.9 GiB are free: b 1\.5 GiB, "
                                         r"a 0\.5 GiB\. Fewer network\.neurons, a smaller training\.batch, x would do"):
        memory.require({"a": GIB // 2, "b": 3 * GIB // 2}, int(1.9 * GIB), "the GPU's memory", "x")


def test_five_large_networks_are_not_refused_by_mistake(events):
    """By the estimate five of the largest networks of the bench fit a GPU with 80 GiB."""
    large = ("network.neurons=[3200]", "network.motif_sizes=[5,10,16,25,40]", "training.batch=50")
    assert sum(on_device(events, *large, networks=5, free=80 * GIB).values()) < 80 * GIB
