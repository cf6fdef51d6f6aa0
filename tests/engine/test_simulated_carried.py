"""Batches prefetched to the device, in the simulator: nothing is used before it has arrived, nor overwritten early.

Streams that are as late as they may be stand in for the GPU's; test_simulator.py starts this.
"""

import numpy as np
import pytest
import simulator
import toys
from dense import assert_same_bits, random_case

from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.backends.cuda import arrays, backend as module, loader
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.loop import Checkpoints, Phase, run_phase
from hrmas_sparse.run.metrics import Totals
from hrmas_sparse.run.progress import Reporter
from hrmas_sparse.run.state import Position
from hrmas_sparse.run.stop import never
from hrmas_sparse.data.events import EVENT_ARRAYS


class LateStream:
    """Copies when somebody waits for it, not before."""

    def __init__(self):
        self.waiting, self.waited = [], 0

    def record(self):
        return LateEvent(self, list(self.waiting))

    def wait_event(self, event):
        self.waited += 1
        event.synchronize()


class LateEvent:
    """What had been asked for before it was recorded."""

    def __init__(self, stream, before):
        self.stream, self.before = stream, before

    def synchronize(self):
        for copy in self.before:
            if copy in self.stream.waiting:
                self.stream.waiting.remove(copy)
                copy()


@pytest.fixture
def late(monkeypatch):
    """Streams that copy late; the one that computes."""
    computing = LateStream()

    def carry(here, there, stream):
        assert stream.waited, "what was launched before may still read what lies there"
        assert isinstance(there, simulator.DeviceArray)
        stream.waiting.append(lambda: there.view(np.ndarray).__setitem__(slice(None), here))

    def pinned(length, dtype):
        return np.full(length, 77, dtype)

    for name, stand_in in (("carry", carry), ("computing", lambda: computing), ("copying", LateStream),
                           ("pinned", pinned)):
        monkeypatch.setattr(loader, name, stand_in)
    return computing


def same(batch, expected):
    for name in EVENT_ARRAYS:
        assert isinstance(getattr(batch, name), simulator.DeviceArray)
    for name in ("indptr", "labels", *EVENT_ARRAYS):
        assert_same_bits(np.array(getattr(batch, name), subok=False), getattr(expected, name))
    assert (batch.steps, batch.channels, len(batch)) == (expected.steps, expected.channels, len(expected))


def test_batches_as_a_search_takes_them(late):
    """Two at a time, the next two on their way; of different lengths, longer ones later, one without samples."""
    events = random_case(40, B=12, T=7, density=0.3).events()
    there = loader.CarryingLoader(events)
    rng = np.random.default_rng(0)
    pairs = [[rng.integers(0, 12, size) for size in sizes] for sizes in ((2, 1), (3, 3), (0, 2), (9, 1), (2, 12))]
    for pair, following in zip(pairs, [*pairs[1:], []]):
        for index in following:
            there.prefetch(index)
        taken = [there[index] for index in pair]
        for batch, index in zip(taken, pair):
            same(batch, events[index])


@pytest.mark.parametrize("own, others, carries", [(6, 6, 36), (5, 4, 30), (4, 1, 15), (1, 1, 6)])
def test_training_has_each_batch_carried_once_and_early(late, monkeypatch, own, others, carries):
    """By the loop that trains, over epochs: the one after next must not take the place of the next."""
    events = random_case(43, B=12, T=7, density=0.3).events()
    there, filled, steps = loader.CarryingLoader(events), [], []
    real = loader._Slot.fill
    monkeypatch.setattr(loader._Slot, "fill", lambda self, all_of, index, stream: filled.append(
        len(steps)) or real(self, all_of, index, stream))

    def batches(epoch):
        return [(np.array([n, epoch]), np.array([11 - n % others, epoch + 3])) for n in range(own)]

    def step(pair, progress, update):
        before = len(filled)
        for batch, index in zip([there[index] for index in pair], pair):
            same(batch, events[index])
        assert len(filled) == before, "a batch was not there when it was wanted"
        steps.append(pair)
        return Totals(2, 1.0, 1)

    def prefetch(pair):
        for index in pair:
            there.prefetch(index)

    run_phase(Phase("search-1", 3, batches, step, prefetch=prefetch), Position("search-1"), lambda line: None,
              Checkpoints(lambda: None), never, Reporter())
    assert len(filled) == carries


def test_batches_nobody_announced(late):
    events = random_case(41, B=9, T=7, density=0.3).events()
    there = loader.CarryingLoader(events)
    for index in ([3], [8, 0, 8], [3], [4, 4, 1, 7], [2], [5], [6]):
        same(there[np.array(index)], events[np.array(index)])


def test_the_stand_in_sees_what_is_used_too_early(late, monkeypatch):
    """Or these tests would show nothing."""
    there = loader.CarryingLoader(random_case(42, B=9, T=7, density=0.3).events())
    monkeypatch.setattr(LateStream, "wait_event", lambda self, event: setattr(self, "waited", 1))
    batch = there[np.array([1, 2])]
    assert not np.array_equal(np.array(batch.channel, subok=False),
                              random_case(42, B=9, T=7, density=0.3).events()[np.array([1, 2])].channel)


def test_without_a_gpu_copies_are_there_at_once():
    stream = arrays.copying()
    here, there = arrays.pinned(4, np.uint16), simulator.DeviceModule().empty(4, np.uint16)
    here[:] = 5
    stream.wait_event(arrays.computing().record())
    arrays.carry(here, there, stream)
    stream.record().synchronize()
    assert (np.array(there, subok=False) == 5).all()


def test_a_run_whose_spikes_do_not_fit(tmp_path, monkeypatch, late):
    """The same bits as with all of them on the device."""
    simulator.one_thread_a_block(monkeypatch)
    monkeypatch.setattr(toys, "STEPS", 5)
    own = toys.settings("training.search_epochs=2", "training.retrain_epochs=1", "network.neurons=[6]", "data.steps=5",
                        "training.batch=2")
    events, backend, runs = toys.cache(tmp_path / "cache.h5", train=7, test=2), get_backend("cuda"), []
    prefetched, real = [], loader.CarryingLoader.prefetch
    monkeypatch.setattr(loader.CarryingLoader, "prefetch",
                        lambda self, index: prefetched.append(1) or real(self, index))
    for name, share in (("resident", 1.0), ("carried", 0.0)):
        monkeypatch.setattr(module, "RESIDENT", share)
        backend._resident = None, None
        runs.append(toys.run(tmp_path / name, own, events, backend=backend))
        assert bool(prefetched) == (name == "carried")
    assert exact_differences(*runs) == []
