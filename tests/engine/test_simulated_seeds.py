"""Several seeds in the same launches, in the simulator: each ends with the very bits it has alone.

Device arrays are simulator.DeviceArray, kernels run as Python; test_simulator.py starts this.
"""

import dataclasses
import functools
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import simulator
import toys
from dense import assert_same_bits, random_case
from test_plasticity import SETTINGS

from hrmas_sparse import cli
from hrmas_sparse.engine import passes
from hrmas_sparse.run import seeds
from hrmas_sparse.engine import lockstep
from hrmas_sparse.run import loop
from hrmas_sparse.engine.backends.base import is_dense
from hrmas_sparse.engine.backends.cuda import backend as module
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.phases import retrain_phase
from hrmas_sparse.run.store import FolderStore
from hrmas_sparse.run.signals import stop_on_signals
from hrmas_sparse.run.stop import never
from hrmas_sparse.engine.network import Plasticity

SEEDS = (0, 1, 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Launches are tested elsewhere; nor do we wait for the disk."""
    simulator.one_thread_a_block(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def merged(monkeypatch):
    """Networks in each pass that is run."""
    found, real = [], passes.Pass.__init__

    def counted(self, requests):
        found.append(len(requests))
        real(self, requests)

    monkeypatch.setattr(passes.Pass, "__init__", counted)
    return found


# ---- passes -------------------------------------------------------------------------------------------------------


def given_cases(stack, density=0.5, count=3, **options):
    """Cases of different weights, links and batches, with the same layers."""
    cases = [random_case(seed, stack, B=3, T=6, C=12, density=density, R="neuron", tau="neuron", **options)
             for seed in range(30, 30 + count)]
    for case in cases:  # configuration, not chance
        for layer, first in zip(case.layers, cases[0].layers):
            layer["v_th"] = first["v_th"]
    return [(case, case.parameters(), case.events()) for case in cases]


def one_by_one(cuda, way, jobs):
    """What way(network, parameters, events) gives for each job."""
    return [way(case.network(cuda), *rest) for case, *rest in jobs]


def in_lockstep(cuda, way, jobs):
    """As :func:`one_by_one`, in lockstep."""
    return lockstep.run(cuda, [lambda backend, case=case, rest=rest: way(case.network(backend), *rest)
                               for case, *rest in jobs])


STACKS = {"free": (("free", 6),), "motif": (("motif", 6, 3),), "supernet, feedforward": (("supernet", 6, (2, 3)),
                                                                                        ("feedforward", 4))}
WAYS = {"gradients": dict(), "recurrent alone": dict(feedforward=False),
        "online": dict(plasticity=Plasticity(**SETTINGS)), "R and tau too": dict(intrinsic=True)}


def gradients(network, parameters, events, **options):
    """An outcome of a pass with any options."""
    return network.outcomes(network.passes([parameters], events, backward=True, **options), events)[0][0]


@pytest.mark.parametrize("density", [0.03, 0.6], ids=["events", "dense"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("way", WAYS)
def test_passes_of_several_networks(cuda, stack, way, density, merged):
    given, way = given_cases(STACKS[stack], density), functools.partial(gradients, **WAYS[way])
    alone, found = one_by_one(cuda, way, given), in_lockstep(cuda, way, given)
    assert merged == [1, 1, 1, 3]
    links = {case.network(cuda).layers[0].recurrence.indices.size for case, *_ in given}
    assert stack not in ("free", "motif") or len(links) > 1  # or the links could be taken for each other's
    for one, other in zip(found, alone):
        for name in ("loss", "predicted", "rates", "gradients", "intrinsic"):
            assert_same_bits(getattr(one, name), getattr(other, name))


def test_windows_and_scores_of_several_networks(cuda, merged):
    given = given_cases(STACKS["motif"])
    for way in (lambda net, *rest: net.adapt(*rest, Plasticity(**SETTINGS)), lambda net, *rest: net.evaluate(*rest)):
        alone, found = one_by_one(cuda, way, given), in_lockstep(cuda, way, given)
        for one, other in zip(found, alone):
            assert_same_bits([one.loss, one.predicted, one.rates, one.intrinsic],
                             [other.loss, other.predicted, other.rates, other.intrinsic])
    assert merged == [1, 1, 1, 3] * 2


def test_what_does_not_fit_into_one_pass(cuda, merged, monkeypatch):
    """Another number of samples, input of another form, too many of all."""
    given = given_cases(STACKS["motif"])
    (case, parameters, events), *_ = given
    sparse = given_cases(STACKS["motif"], density=0.02)[1]
    assert not is_dense(sparse[2], cuda.dense) and is_dense(events, cuda.dense)
    other = (case, parameters, events[np.array([0, 2])])
    jobs = [*given, other, sparse]
    alone = one_by_one(cuda, gradients, jobs)
    merged.clear()
    found = in_lockstep(cuda, gradients, jobs)
    assert merged == [3, 1, 1]
    monkeypatch.setattr(cuda, "together", 6)  # two of three samples each
    merged.clear()
    again = in_lockstep(cuda, gradients, jobs)
    assert merged == [2, 1, 1, 1]
    for one, two, expected in zip(found, again, alone):
        assert_same_bits([one.loss, one.gradients], [expected.loss, expected.gradients])
        assert_same_bits([two.loss, two.gradients], [expected.loss, expected.gradients])


# ---- whole runs -----------------------------------------------------------------------------------------------------


STEPS = 5
OWN = ("training.search_epochs=2", "training.retrain_epochs=1", "network.neurons=[6]", "training.batch=2",
       f"data.steps={STEPS}")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "STEPS", STEPS)
        return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5", train=5, test=2)


def run_alone(folder, cuda, events, seed, *overrides):
    return toys.run(folder / f"s{seed}", toys.settings(*OWN, *overrides), events, seed, backend=cuda)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cuda, events):
    """Every seed by itself."""
    with pytest.MonkeyPatch.context() as patch:
        simulator.one_thread_a_block(patch)
        folder = tmp_path_factory.mktemp("alone")
        return [run_alone(folder, cuda, events, seed) for seed in SEEDS]


def run_together(folder, cuda, events, *overrides, stop=never):
    """All seeds, as the program does; exit status and runs."""
    paths = [folder / f"s{seed}" for seed in SEEDS]
    task = seeds.Task(toys.settings(*OWN, *overrides), events, cuda, {"raw": None})
    status = seeds.execute(SEEDS, paths, task, stop)
    return status, [RunDir(path) for path in paths]


def assert_as_alone(runs, alone):
    for run, expected in zip(runs, alone, strict=True):
        assert exact_differences(run, expected) == []


def test_three_seeds(tmp_path, cuda, events, alone, merged, capsys):
    status, runs = run_together(tmp_path, cuda, events)
    assert status == 0
    assert_as_alone(runs, alone)
    assert len({run.architecture_path.read_text() for run in runs}) == 3
    assert set(merged) == {3, 6}  # all seeds in each pass, at w+ and w- two of each
    out, err = capsys.readouterr()
    assert out.count("test accuracy") == 3 and out.count("starting") == 3
    assert [f"s{seed} retrain: epoch 1/1" in err for seed in SEEDS] == [True] * 3
    status, _ = run_together(tmp_path, cuda, events)
    assert status == 0 and capsys.readouterr().out.count("finished before") == 3


def test_one_that_diverges_leaves_the_others_alone(tmp_path, cuda, events, alone, monkeypatch, capsys):
    def phase_of_seed_1_diverges(context, network, learner):
        phase = retrain_phase(context, network, learner)

        def step(batch, progress, update):
            if context.seed == 1 and update == 1:
                raise loop.NotFinite("the loss")
            return phase.step(batch, progress, update)

        return dataclasses.replace(phase, step=step)

    with monkeypatch.context() as patch:
        patch.setattr("hrmas_sparse.run.job.retrain_phase", phase_of_seed_1_diverges)
        status, runs = run_together(tmp_path, cuda, events)
    assert status == 1 and "s1: training diverged: retrain, epoch 1, batch 2: the loss" in capsys.readouterr().err
    assert_as_alone(runs[::2], alone[::2])
    assert not runs[1].finished
    status, runs = run_together(tmp_path, cuda, events)  # the others are there: it goes on by itself
    assert status == 0
    assert_as_alone(runs, alone)


def test_one_whose_disk_fails_leaves_the_others_alone(tmp_path, cuda, events, alone, monkeypatch, capsys):
    real = FolderStore.add_line

    def add_line(self, line):
        if self.run.name == "s0" and line["phase"] == "search-2":
            raise OSError(28, "No space left on device", str(self.run.path))
        real(self, line)

    monkeypatch.setattr(FolderStore, "add_line", add_line)
    with pytest.raises(OSError, match="No space"):
        run_together(tmp_path, cuda, events)
    out, err = capsys.readouterr()
    assert "s0: failed: [Errno 28] No space left on device" in err and out.count("test accuracy") == 2
    assert_as_alone([RunDir(tmp_path / f"s{seed}") for seed in SEEDS[1:]], alone[1:])


def test_stopped_by_a_signal_and_resumed(tmp_path, cuda, events, alone, monkeypatch, capsys):
    """Every seed stops after its batch, with a checkpoint, and the same command goes on from there."""
    done, count = loop.one_batch, [0]

    def one_batch(*arguments):
        done(*arguments)
        count[0] += 1
        if count[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_batch", one_batch)
        with stop_on_signals() as stop:
            status, runs = run_together(tmp_path, cuda, events, stop=stop)
    assert status == 128 + signal.SIGINT
    assert capsys.readouterr().err.count("stopped and checkpointed; the same command goes on") == 3
    assert all(run.checkpoint_path.exists() and not run.finished for run in runs)
    status, runs = run_together(tmp_path, cuda, events)
    assert status == 0 and capsys.readouterr().out.count("resuming") == 3
    assert_as_alone(runs, alone)


def test_seeds_at_different_places(tmp_path, cuda, events, alone, monkeypatch, merged):
    """One has not begun, one is in its search, one in its retraining."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    for seed, batches in ((1, 3), (2, 5)):
        with monkeypatch.context() as patch:
            toys.kill_after(patch, batches)
            with pytest.raises(toys.Killed):
                run_alone(tmp_path, cuda, events, seed)
    merged.clear()
    status, runs = run_together(tmp_path, cuda, events)
    assert status == 0
    assert_as_alone(runs, alone)
    assert {1, 2} <= set(merged)


def test_plasticity_on_the_way_and_two_layers(tmp_path, cuda, events):
    own = ("search.method=random", "plasticity.mode=online", "plasticity.retrain=true", "network.neurons=[6,6]",
           "training.dropout=0.3", "augmentation.drop=0.1", "network.dtype=float64")
    _, runs = run_together(tmp_path / "together", cuda, events, *own)
    assert_as_alone(runs, [run_alone(tmp_path, cuda, events, seed, *own) for seed in SEEDS])


def test_trained_time_constants_and_thresholds(tmp_path, cuda, events):
    own = ("search.method=random", "training.tau=trained", "training.threshold=trained", "network.neurons=[6,6]")
    _, runs = run_together(tmp_path / "together", cuda, events, *own)
    assert_as_alone(runs, [run_alone(tmp_path, cuda, events, seed, *own) for seed in SEEDS])


def test_too_little_memory_for_all_of_them(house, monkeypatch, capsys):
    """Said before anything is written; exit status 2."""
    monkeypatch.setattr(module, "memory_info", lambda: (1 << 16, 1 << 20))
    assert cli.main([*toys.SEARCH, "--seeds", "0-2", "--backend", "cuda"]) == 2
    assert re.search(r"^hrmas: this run needs about [\d.]+ MiB of the GPU's memory and 0\.1 MiB are free: simulation, "
                     r"768 samples .* fewer seeds at once or a larger GPU would do\n$", capsys.readouterr().err)
    assert not Path("runs/out").exists()
