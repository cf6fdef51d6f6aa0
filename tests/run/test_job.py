"""Whole jobs on a toy: every way to run one, stopped and resumed at every batch, refused where it must be."""

import json
import os
import shutil

import numpy as np
import pytest
import toys

from hrmas_sparse.engine import architecture
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.run import loop
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.run.diff import differences, exact_differences
from hrmas_sparse.run.diagnosis import EPOCHS
from hrmas_sparse.storage.errors import Diverged, InputError
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.networks import load_trained
from hrmas_sparse.run.score import evaluate
from hrmas_sparse.run.state import previous_of
from hrmas_sparse.run.summary import summary

WAYS = {
    "window": (),
    "online": ("plasticity.mode=online",),
    "off": ("plasticity.mode=off",),
    "plastic while retraining": ("plasticity.retrain=true",),
    "plastic online while retraining": ("plasticity.retrain=true", "plasticity.mode=online"),
    "intrinsic carried on": ("plasticity.carry_intrinsic=true",),
    "random architecture": ("search.method=random",),
    "size alone": ("search.method=size",),
    "no recurrence": ("network.recurrence=none",),
    "fully connected": ("network.recurrence=full", "plasticity.retrain=true"),
    "augmented": ("augmentation.shift_steps=1", "augmentation.shift_channels=1", "augmentation.drop=0.1",
                  "augmentation.stretch=0.2"),
    "two layers": ("network.neurons=[12,6]",),
    "float64": ("network.dtype=float64",),
    "one epoch": ("training.search_epochs=1",),
    "no stage 2": ("search.stage1_fraction=1",),
    "first order": ("search.alpha_order=first",),
    "cross entropy, cosine": ("loss.name=cross_entropy", "training.schedule=cosine"),
    "regularised": ("loss.name=cross_entropy", "loss.smoothing=0.1", "training.dropout=0.5",
                    "training.weight_decay=0.1"),
    "untied, no inter": ("network.tied=false", "network.inter=false"),
    "one batch": ("training.batch=500",),
}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def straight(tmp_path, events):
    return toys.run(tmp_path / "straight", toys.settings(), events)


# ---- every way --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_way_resumes_to_the_same_bits(tmp_path, events, way):
    own = toys.settings(*WAYS[way])
    straight = toys.run(tmp_path / "straight", own, events)
    assert straight.finished and exact_differences(straight, straight) == []
    result, (network, parameters) = straight.result(), load_trained(straight)
    assert 0 <= result["test"]["accuracy"] <= 1 and result["test"]["samples"] == 9
    again = evaluate(network, parameters, events.test)
    assert (again.accuracy, again.loss) == (result["test"]["accuracy"], result["test"]["loss"])
    assert "test accuracy" in "\n".join(summary(straight, result))
    searched = 0 if straight.metrics()[0]["phase"] == "retrain" else 2 if way == "size alone" else \
        own.training.search_epochs
    assert len(straight.metrics()) == own.training.retrain_epochs + searched
    killed, stops = toys.killed_every(1, tmp_path / "killed", own, events)
    assert exact_differences(straight, killed) == [] and stops >= len(straight.metrics()) - 1


def test_the_toy_is_learnt(straight):
    first, *_, last = straight.metrics()
    assert straight.result()["test"]["accuracy"] > 0.5 and last["accuracy"] > first["accuracy"]


def test_what_the_ways_do_to_the_neurons(tmp_path, events):
    def intrinsic(name, *overrides):
        run = toys.run(tmp_path / name, toys.settings(*overrides), events)
        return load_trained(run)[1].layers[0].R, run
    assert (intrinsic("off", "plasticity.mode=off")[0] == 64).all()
    assert (intrinsic("window")[0] == 64).all()                            # reset for retraining (paper 3.1.4)
    assert (intrinsic("retrain", "plasticity.retrain=true")[0] != 64).any()
    carried, run = intrinsic("carry", "plasticity.carry_intrinsic=true")
    assert (carried != 64).any()
    searched = [line for line in run.metrics() if line["phase"] == "search-2"][-1]
    assert searched["R1"] == [float(carried.min()), float(carried.mean(dtype=np.float64)), float(carried.max())]


def test_a_given_architecture_is_retrained(tmp_path, events, straight):
    given = architecture.load(straight.architecture_path)
    run = toys.run(tmp_path / "given", toys.settings(), events, given=given)
    assert {line["phase"] for line in run.metrics()} == {"retrain"}
    assert run.architecture_path.read_bytes() == straight.architecture_path.read_bytes()
    assert run.result()["test"] == straight.result()["test"]               # the same fresh weights, the same order


# ---- repeating --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_matter(tmp_path, events, straight, threads):
    run = toys.run(tmp_path / "again", toys.settings("training.batch=4"), events, threads=threads)
    assert exact_differences(straight, run) == []


def test_batches_of_several_chunks(tmp_path):
    events = toys.cache(tmp_path / "more.h5", train=90, test=40)
    own = toys.settings("training.batch=40", "training.search_epochs=2", "training.retrain_epochs=1")
    one, two = (toys.run(tmp_path / str(threads), own, events, threads=threads) for threads in (1, 2))
    assert exact_differences(one, two) == []


def test_seeds_matter(tmp_path, events, straight):
    other = toys.run(tmp_path / "other", toys.settings(), events, seed=1)
    found = exact_differences(straight, other)
    assert "manifest.json: seed" in found and "weights.h5: parameters/w1" in found and "metrics.jsonl: line 1" in found
    assert "seed: 0 != 1" in differences(straight, other)


# ---- stopping and resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches, seconds", [(1, -1), (2, -1), (3, -1), (2, 0.02), (3, 0.02), (5, 0.02), (13, 60)])
def test_killed_after_so_many_batches(tmp_path, events, straight, batches, seconds, monkeypatch):
    """Checkpoints after every batch, after some, and by the usual clock."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", seconds)
    clock = iter(np.arange(1e6) * 0.005)                    # a batch takes a hundredth of a second
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    toys.kill_after(monkeypatch, batches)
    killed, stops = toys.resume_until_done(tmp_path / "killed", toys.settings(), events)
    assert exact_differences(straight, killed) == [] and stops > 0


def test_stopped_by_a_signal_after_every_batch(tmp_path, events, straight):
    stopped, stops = toys.stop_often(tmp_path / "stopped", toys.settings(), events)
    assert exact_differences(straight, stopped) == []
    # After 6 + 6 + 12 batches; in the diagnosis, once for each of 4 scores and of 3 windows an epoch; in the two scores
    # at the end. These two begin again each time, and have a stop more for the phase that just ends.
    assert stops == 24 + (4 + 3 * EPOCHS + 1) + (2 + 1)


def test_the_previous_checkpoint_takes_over(tmp_path, events, straight, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    toys.kill_after(monkeypatch, 5)
    folder = tmp_path / "killed"
    for _ in range(2):
        with pytest.raises(toys.Killed):
            toys.run(folder, toys.settings(), events)
        newest = folder / "checkpoint.h5"
        newest.write_bytes(newest.read_bytes()[:-100])
    run, _ = toys.resume_until_done(folder, toys.settings(), events)
    assert "set aside as checkpoint.h5.damaged, going back to the one before" in capsys.readouterr().err
    assert exact_differences(straight, run) == []


def test_without_a_sound_checkpoint_it_starts_over(tmp_path, events, straight, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    toys.kill_after(monkeypatch, 5)
    folder = tmp_path / "killed"
    with pytest.raises(toys.Killed):
        toys.run(folder, toys.settings(), events)
    for path in (folder / "checkpoint.h5", previous_of(folder / "checkpoint.h5")):
        path.write_bytes(b"")
    run, _ = toys.resume_until_done(folder, toys.settings(), events)
    assert exact_differences(straight, run) == [] and capsys.readouterr().err.count("warning") == 2


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path, events, straight, monkeypatch):
    folder = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(toys.Killed):
        toys.kill_after(patch, 8)
        toys.run(folder, toys.settings(), events)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"phase": "search-1", "half a li')
    (folder / "architecture.json").write_text("{}")
    run = toys.run(folder, toys.settings(), events)
    assert exact_differences(straight, run) == []


def test_a_resume_that_cannot_see_its_metrics(tmp_path, events, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    toys.kill_after(monkeypatch, 7)
    with pytest.raises(toys.Killed):
        toys.run(tmp_path / "killed", toys.settings(), events)
    (tmp_path / "killed" / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="metrics.jsonl: expected at least 2 lines, found 0.*--fresh"):
        toys.run(tmp_path / "killed", toys.settings(), events)


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path, events, monkeypatch):
    """A run killed in its retraining."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", -1)
        toys.kill_after(patch, 14)
        with pytest.raises(toys.Killed):
            toys.run(tmp_path / "begun", toys.settings(), events)
    return RunDir(tmp_path / "begun")


def test_another_run_is_refused_with_the_keys_that_differ(begun, events, tmp_path):
    other = toys.settings("training.lr=0.5", "network.v_th=2")
    with pytest.raises(InputError, match="another run: network.v_th: 1.0 != 2.0; training.lr: 0.002 != 0.5. Give"):
        toys.run(begun.path, other, events)
    with pytest.raises(InputError, match="seed: 0 != 1"):
        toys.run(begun.path, toys.settings(), events, seed=1)
    with pytest.raises(InputError, match="data: toy != other"):
        toys.run(begun.path, toys.settings(), toys.cache(tmp_path / "other.h5", fingerprint="other"))


def test_a_checkpoint_of_another_run_is_refused_with_the_keys_that_differ(begun, events, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        toys.kill_after(patch, 7)
        with pytest.raises(toys.Killed):
            toys.run(tmp_path / "other", toys.settings("training.lr=0.5"), events, seed=3)
    shutil.copy(tmp_path / "other" / "checkpoint.h5", begun.checkpoint_path)
    with pytest.raises(InputError, match="checkpoint of another run: config.training.lr: 0.5 != 0.002; seed: 3 != 0. "):
        toys.run(begun.path, toys.settings(), events)
    assert begun.checkpoint_path.exists()


def test_a_run_of_a_version_with_fewer_settings_goes_on(begun, events, straight):
    """As long as the settings that came later are at what changes nothing."""
    manifest = json.loads(begun.manifest_path.read_text())
    del manifest["config"]["training"]["dropout"]
    begun.manifest_path.write_text(json.dumps(manifest))
    rewrite(begun.checkpoint_path, "checkpoint",
            change_meta=lambda meta: meta["identity"]["config"]["training"].pop("dropout"))
    with pytest.raises(InputError, match="holds another run: training.dropout: 0.0 != 0.5"):
        toys.run(begun.path, toys.settings("training.dropout=0.5"), events)
    run = toys.run(begun.path, toys.settings(), events)
    assert exact_differences(straight, run) == []   # settings that it did not know have their defaults


def test_a_checkpoint_of_another_schema_is_refused(begun, events, monkeypatch):
    monkeypatch.setattr(arrayfile, "SCHEMA", arrayfile.SCHEMA + 1)
    with pytest.raises(InputError, match="expected a checkpoint of schema 3, found a 'checkpoint' of schema 2"):
        toys.run(begun.path, toys.settings(), events)


def rewrite(path, kind, change_arrays=None, change_meta=None):
    """What somebody who knows the format could write."""
    arrays, meta = arrayfile.load(path, kind)
    for change, value in ((change_arrays, arrays), (change_meta, meta)):
        if change:
            change(value)
    arrayfile.save(path, kind, arrays, meta)


POSITIONS = {"phase": "search-3", "epoch": -1, "batch": 1.5, "updates": None, "sums": [], "lines": "9", "sizes": [[]],
             "seconds": {"a": "b"}}


@pytest.mark.parametrize("key", [*POSITIONS, "other"])
def test_a_checkpoint_with_an_odd_position_is_set_aside(begun, events, straight, key, capsys):
    rewrite(begun.checkpoint_path, "checkpoint",
            change_meta=lambda meta: meta["position"].update({key: POSITIONS.get(key, 1)}))
    assert exact_differences(toys.run(begun.path, toys.settings(), events), straight) == []
    assert "its position in the run; set aside" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    (lambda x: x.update({"parameters/w1": np.zeros((3, 3), np.float32)}), r"w1: expected float32 \(10, 12\), found"),
    (lambda x: x.update({"parameters/w1": x["parameters/w1"].astype(float)}), "expected float32"),
    (lambda x: x.pop("parameters/w1"), "arrays missing or too many: parameters/w1"),
    (lambda x: x.pop("w_m/w1"), "arrays missing or too many: w_m/w1"),
    (lambda x: x.update({"parameters/../../x": np.zeros(3)}), "arrays missing or too many"),
], ids=["shape", "dtype", "no parameter", "no moment", "a path"])
def test_a_checkpoint_of_other_arrays_is_refused(begun, events, change, message):
    rewrite(begun.checkpoint_path, "checkpoint", change_arrays=change)
    with pytest.raises(InputError, match=message):
        toys.run(begun.path, toys.settings(), events)


@pytest.mark.parametrize("change", [("network.neurons=[6]",), ("network.motif_sizes=[4]",), ("network.inter=false",),
                                    ("network.tied=false",), ("network.neurons=[12,12]",)], ids=str)
def test_an_architecture_of_another_network_is_refused(tmp_path, events, straight, change):
    given = architecture.load(straight.architecture_path)
    with pytest.raises(InputError, match="the given architecture: does not fit the settings"):
        toys.run(tmp_path / "other", toys.settings(*change), events, given=given)
    own = toys.settings(*change)
    shutil.copytree(straight.path, tmp_path / "edited")
    manifest = straight.manifest()
    (tmp_path / "edited" / "manifest.json").write_text(json.dumps(manifest | {"config": own.as_dict()}))
    with pytest.raises(InputError, match="architecture.json: does not fit the settings"):
        load_trained(RunDir(tmp_path / "edited"))


def test_weights_for_other_data_are_refused(straight, events, tmp_path):
    wide = toys.cache(tmp_path / "wide.h5", channels=11)
    with pytest.raises(InputError, match=r"w1: expected float32 \(11, 12\), found float32 \(10, 12\)"):
        load_trained(straight, meta=wide.meta)


def test_an_unfinished_run_has_no_weights(begun, events):
    with pytest.raises(InputError, match="not finished"):
        load_trained(begun)


# ---- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase, overrides", [("search-1", ()), ("retrain", ("search.method=random",))])
def test_a_number_that_is_none_stops_the_run(tmp_path, events, straight, phase, overrides, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    poisoned = toys.job(tmp_path / "run", toys.settings(*overrides), events)
    done = loop.one_batch

    def one_batch(own, position, batches):
        if position.updates == 4:
            poisoned.learner.parameters.layers[0].w_exc[0] = np.nan
        done(own, position, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_batch", one_batch)
        with pytest.raises(Diverged, match=rf"{phase}, epoch \d, batch \d: the gradient of .*\(into layer 1\)"):
            poisoned.execute()
    arrays, meta = arrayfile.load(poisoned.store.run.checkpoint_path, "checkpoint")
    assert meta["position"]["updates"] == 4 and all(np.isfinite(x).all() for x in arrays.values())
    if not overrides:
        assert exact_differences(toys.run(tmp_path / "run", toys.settings(), events), straight) == []


def test_a_bad_state_never_replaces_a_good_checkpoint(tmp_path, events):
    job = toys.job(tmp_path / "run", toys.settings(), events)
    job.begin()
    job.checkpoint()
    before = job.store.run.checkpoint_path.read_bytes()
    job.learner.parameters.layers[0].tau[3] = np.inf
    with pytest.raises(Diverged, match="search-1, epoch 1, batch 0: not a finite number in intrinsic/tau1"):
        job.checkpoint()
    assert job.store.run.checkpoint_path.read_bytes() == before


def test_a_deleted_cache_is_still_held(tmp_path, straight):
    events = toys.cache(tmp_path / "own.h5")
    job = toys.job(tmp_path / "run", toys.settings(), events)
    events.path.unlink()
    job.execute()
    assert exact_differences(job.store.run, straight) == []


@pytest.mark.parametrize("change", ["cut", "rewritten"])
def test_a_changed_cache_stops_the_run(tmp_path, change, monkeypatch):
    events = toys.cache(tmp_path / "own.h5")
    job = toys.job(tmp_path / "run", toys.settings(), events)
    done = loop.one_batch

    def one_batch(own, position, batches):
        if position.updates == 2:
            if change == "cut":
                os.truncate(events.path, 1000)
            else:
                with open(events.path, "r+b") as file:
                    file.seek(2000)
                    file.write(b"something else")
        done(own, position, batches)

    monkeypatch.setattr(loop, "one_batch", one_batch)
    with pytest.raises(InputError, match="own.h5: the spike cache was changed during the run"):
        job.execute()


def test_the_clock_may_go_backwards(tmp_path, events, straight, monkeypatch):
    monkeypatch.setattr(loop.time, "time", lambda: -1e9)
    monkeypatch.setattr(loop.time, "strftime", lambda *_: "1901-01-01T00:00:00")
    run = toys.run(tmp_path / "run", toys.settings(), events)
    assert exact_differences(run, straight) == []
    assert all(line["seconds"] >= 0 for line in run.metrics())


def test_metrics_are_what_was_written(straight):
    lines = straight.metrics_path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == straight.metrics()
    assert [line["phase"] for line in straight.metrics()] == ["search-1"] * 2 + ["search-2"] * 2 + ["retrain"] * 2


def test_backends_by_name():
    assert get_backend("cpu", 1).threads == 1
