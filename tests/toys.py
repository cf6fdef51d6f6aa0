"""Whole runs in a second: a tiny cache, tiny settings, a job on them."""

import numpy as np

from hrmas_sparse.storage import arrayfile as checkpoint
from hrmas_sparse.settings import load as config
from hrmas_sparse.run import folder as rundir
from hrmas_sparse.run import loop as training
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.run.job import Job
from hrmas_sparse.data.cache import CacheWriter, Meta, open_cache

STEPS, CHANNELS, CLASSES = 12, 10, 3
SMALL = ("data.steps=12", "network.neurons=[12]", "network.motif_sizes=[2,3]", "network.v_th=1", "training.batch=4",
         "training.search_epochs=4", "training.retrain_epochs=2", "search.alpha_lr=0.2", "plasticity.gamma=0.5")

# What the program is asked for: a search of a second on the fixture `words`.
OVERRIDES = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
         "training.search_epochs=2 training.retrain_epochs=1")
SEARCH = ("search", "ntidigits", "--raw", "words.hdf5", "--set", OVERRIDES)


def settings(*overrides):
    return config.load("ntidigits", profile="demo", overrides=[*SMALL, *overrides])


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


def job(folder, own, events, seed=0, given=None, threads=1):
    """A job on a run folder, its manifest written."""
    run = rundir.RunDir(folder)
    run.path.mkdir(parents=True, exist_ok=True)
    rundir.start(run, own, seed, events, {"raw": None})
    return Job(run, own, seed, events, get_backend("cpu", threads), given)


def run(folder, own, events, seed=0, given=None, threads=1, asked=()):
    """Start or resume a run and go to its end, or to where it is asked to stop."""
    job(folder, own, events, seed, given, threads).execute(list(asked))
    return rundir.RunDir(folder)


class Killed(BaseException):
    """The process is gone."""


def kill_after(monkeypatch, batches):
    """Let every run die after so many batches, whatever it was about to do next."""
    done = training._one_batch
    count = [0]

    def one_batch(*arguments):
        if count[0] == batches:
            count[0] = 0
            raise Killed
        count[0] += 1
        done(*arguments)

    monkeypatch.setattr(training, "_one_batch", one_batch)


def resume_until_done(*arguments, **options):
    """Run and rerun until nothing stops it any more; returns the run and how often it was stopped."""
    for stops in range(200):
        try:
            return run(*arguments, **options), stops
        except Killed:
            pass
    raise AssertionError("no progress")


class After(list):
    """A stop that is asked for once somebody has looked for it so many times."""

    def __init__(self, looks):
        super().__init__([2])
        self.left = looks

    def __bool__(self):
        self.left -= 1
        return self.left < 0


def stop_often(folder, own, events):
    """Ask to stop as soon as a run starts; where it only scores, and so begins again each time, one look later."""
    stops, looks, before = 0, 0, None
    while stops < 200:
        try:
            job(folder, own, events).execute(After(looks))
            return rundir.RunDir(folder), stops
        except training.Stopped as stop:
            assert stop.signum == 2
            stops += 1
            position = checkpoint.load(folder / "checkpoint.h5", "checkpoint")[1]["position"]
            place = position["phase"], position["epoch"], position["batch"]
            looks, before = looks + 1 if place == before else 0, place
    raise AssertionError(f"no progress at {before}")
