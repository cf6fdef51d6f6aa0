"""Whole runs in a second: a tiny cache, tiny settings, a job on them."""

import signal

import numpy as np
import pytest

from hrmas_sparse.data.cache import CacheWriter, Meta, open_cache
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.run import loop
from hrmas_sparse.run.folder import RunDir, start
from hrmas_sparse.run.seeds import Task
from hrmas_sparse.run.stop import Stopped, never
from hrmas_sparse.settings import load
from hrmas_sparse.storage import arrayfile

STEPS, CHANNELS, CLASSES = 12, 10, 3
SMALL = ("data.steps=12", "network.neurons=[12]", "network.motif_sizes=[2,3]", "network.v_th=1", "training.batch=4",
         "training.search_epochs=4", "training.retrain_epochs=2", "search.alpha_lr=0.2", "plasticity.gamma=0.5")

# What the program is asked for: a search of a second on the fixture `words`.
OVERRIDES = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
         "training.search_epochs=2 training.retrain_epochs=1")
# What the program says last when a signal ends it.
LAST_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal was closed"}
SEARCH = ("search", "ntidigits", "--raw", "words.hdf5", "--set", OVERRIDES)


# Settings that whole jobs go through together: whatever a job does with a backend's arrays, it does in one of these.
JOBS = {
    "the paper's": (),
    "what is trained": ("training.tau=trained", "training.threshold=trained", "training.dropout=0.5",
                        "training.weight_decay=0.1", "training.schedule=cosine", "training.rule=surrogate",
                        "network.tied=false"),
    "integrators": ("network.readout=integrator", "network.windows=2", "loss.name=cross_entropy",
                    "augmentation.shift_steps=1", "augmentation.drop=0.2", "augmentation.stretch=0.1",
                    "search.candidates=2"),
    "two layers, online": ("network.neurons=[6,6]", "plasticity.mode=online", "plasticity.retrain=true",
                           "plasticity.carry_intrinsic=true", "search.patience=1", "search.decided=0.4"),
    "sizes alone": ("search.method=size", "search.alpha_order=first", "network.inter=false"),
    "random, the best of two": ("search.method=random", "search.candidates=2"),
    "feedforward": ("network.recurrence=none",),
    "fully connected": ("network.recurrence=full",),
}


def settings(*overrides):
    return load.load("ntidigits", profile="demo", overrides=[*SMALL, *overrides])


def cache(path, train=22, test=9, seed=0, fingerprint="toy", **change):
    """A cache in which every class has its own loud channels."""
    rng = np.random.default_rng(seed)
    fields = {"dataset": "ntidigits", "fingerprint": fingerprint, "encoding": {}, "steps": STEPS, "channels": CHANNELS,
              "classes": CLASSES, "class_names": ("a", "b", "c"), "notes": {}}
    with CacheWriter(path, Meta(**(fields | change))) as writer:
        for split, count in (("train", train), ("test", test)):
            for s in range(count):
                loud = 0.15 + 0.6 * (np.arange(CHANNELS) % CLASSES == s % CLASSES)
                step, channel = np.nonzero(rng.random((STEPS, CHANNELS)) < loud)
                writer.add(split, f"{split}{s}", s % CLASSES, step, channel, np.ones(len(step), np.uint8))
    return open_cache(path)


def job(folder, own, events, seed=0, given=None, threads=1, backend=None):
    """A job on a run folder, its manifest written."""
    run, task = RunDir(folder), Task(own, events, backend or get_backend("cpu", threads), {"raw": None}, given)
    run.path.mkdir(parents=True, exist_ok=True)
    start(run, own, seed, events, task.origin)
    return task.job(run, seed)


def run(folder, own, events, seed=0, given=None, threads=1, stop=never, backend=None):
    """Start or resume a run and go to its end, or to where it is asked to stop."""
    job(folder, own, events, seed, given, threads, backend).execute(stop)
    return RunDir(folder)


def check_job(backend, folder, which):
    """Search, discretise, retrain and test as one of ``JOBS`` says: the CPU's architecture and its numbers."""
    events = cache(folder / "cache.h5", train=8, test=3)
    own = settings("training.search_epochs=2", "training.retrain_epochs=1", "network.neurons=[6]",
                   "network.dtype=float64", *JOBS[which])
    found, expected = (run(folder / each.name, own, events, backend=each) for each in (backend, get_backend("cpu", 1)))
    assert found.architecture_path.exists() == expected.architecture_path.exists()
    if expected.architecture_path.exists():
        assert found.architecture_path.read_text() == expected.architecture_path.read_text()
    assert found.result()["test"]["confusion"] == expected.result()["test"]["confusion"]
    np.testing.assert_allclose([line["loss"] for line in found.metrics()],
                               [line["loss"] for line in expected.metrics()], rtol=1e-9)


class Killed(BaseException):
    """The process is gone."""


def kill_after(monkeypatch, batches):
    """Let every run die after so many batches, whatever it was about to do next."""
    done = loop.one_batch
    count = [0]

    def one_batch(*arguments):
        if count[0] == batches:
            count[0] = 0
            raise Killed
        count[0] += 1
        done(*arguments)

    monkeypatch.setattr(loop, "one_batch", one_batch)


def resume_until_done(*arguments, **options):
    """Run and rerun until nothing stops it any more; returns the run and how often it was stopped."""
    for stops in range(200):
        try:
            return run(*arguments, **options), stops
        except Killed:
            pass
    raise AssertionError("no progress")


def killed_every(batches, *arguments, **options):
    """As :func:`resume_until_done`, killed after so many batches each time, with a checkpoint of every batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", -1)
        kill_after(patch, batches)
        return resume_until_done(*arguments, **options)


def after(looks):
    """A stop that is wanted once somebody has looked for it so many times."""
    left = [looks]

    def stop():
        left[0] -= 1
        return left[0] < 0

    return stop


def stop_often(folder, own, events):
    """Ask to stop as soon as a run starts; where it only scores, and so begins again each time, one look later."""
    stops, looks, before = 0, 0, None
    while stops < 200:
        try:
            job(folder, own, events).execute(after(looks))
            return RunDir(folder), stops
        except Stopped:
            stops += 1
            position = arrayfile.load(folder / "checkpoint.h5", "checkpoint")[1]["position"]
            place = position["phase"], position["epoch"], position["batch"]
            looks, before = looks + 1 if place == before else 0, place
    raise AssertionError(f"no progress at {before}")
