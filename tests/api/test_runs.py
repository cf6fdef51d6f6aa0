"""Whole runs from Python: what comes back, in memory and in a folder, in threads, without signal handlers."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import toys

import hrmas_sparse as hs
from hrmas_sparse import cli
from hrmas_sparse.data.cache import open_cache
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.warnings import DEAD_RATE

SMALL = {"network.neurons": [12], "network.motif_sizes": [2, 3], "training.batch": 4, "training.search_epochs": 4,
         "training.retrain_epochs": 2}


@pytest.fixture(scope="module")
def data():
    """Three classes, each with its own loud channels, in memory."""
    rng, labels = np.random.default_rng(0), np.arange(33) % 3
    loud = np.arange(9) % 3 == labels[:, None]
    x = rng.random((33, 12, 9)) < np.where(loud, 0.6, 0.1)[:, None, :]
    return hs.Dataset(hs.Events.from_dense(x, labels), class_names=("a", "b", "c"), name="loud").split(test=0.3, seed=0)


@pytest.fixture(scope="module")
def settings():
    return hs.settings(set=SMALL)


@pytest.fixture(scope="module")
def run(data, settings):
    return hs.search(data, settings, callback=lambda progress: None)


# ---- in memory -----------------------------------------------------------------------------------------------------


def test_a_search_comes_back_as_arrays(run, data):
    architecture, = run.architecture
    assert architecture.neurons == 12 and architecture.intra.shape == (architecture.motif_size,) * 2
    assert run.params.layers[0].w.shape == (9, 12) and run.params.layers[-1].w.shape == (12, 3)
    predicted, score = run.predict(data.test), run.score(data.test)
    assert score.accuracy == (predicted == data.test.labels).mean() == run.result["test"]["accuracy"]
    assert np.array(score.confusion).sum() == len(data.test)
    recall = [(predicted[data.test.labels == c] == c).mean() for c in range(3)]
    np.testing.assert_allclose(score.recall, recall)
    assert [line["phase"] for line in run.history] == ["search-1"] * 2 + ["search-2"] * 2 + ["retrain"] * 2
    assert run.path is None and run.seed == 0 and run.settings.data.dataset == "loud"


@pytest.mark.parametrize("name, value, message", [
    ("step", 60000, "train: event 3: expected steps 0 to .* found step 60000"),
    ("channel", 9, "train: event 3: .* channels 0 to 8, .* channel 9"),
    ("value", 0, "train: event 3: .* value 0"),
    ("labels", 3, r"train.labels\[3\]: expected 0 to 2"),
    ("labels", -1, r"train: labels\[3\]: expected 0 to"),
    ("indptr", 10**9, "train: indptr: expected numbers that rise")])
def test_data_that_was_written_to_is_refused(data, settings, name, value, message):
    """A run checks its data once, where it takes it: the kernels would read beyond an array."""
    train = data.train[np.arange(len(data.train))]
    own = hs.Dataset(train, data.test)
    getattr(train, name)[3] = value
    with pytest.raises(hs.InputError, match=message):
        hs.search(own, settings, callback=lambda progress: None)
    with pytest.raises(hs.InputError, match=message):
        hs.retrain(hs.Architecture.random(neurons=12, motif_size=2, seed=0), own, settings,
                   callback=lambda progress: None)


def test_nothing_is_written(data, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hs.search(data, settings, callback=lambda progress: None)
    assert list(tmp_path.iterdir()) == []


def test_a_callback_hears_every_epoch_and_may_stop(data, settings):
    heard = []
    whole = hs.search(data, settings, callback=heard.append)
    assert [(p.phase, p.epoch, p.epochs) for p in heard] == [
        (phase, n, 2) for phase in ("search-1", "search-2", "retrain") for n in (1, 2)]
    assert [p.loss for p in heard] == [line["loss"] for line in whole.history]
    assert [p.valid_accuracy is None for p in heard] == [False] * 4 + [True] * 2
    part = hs.search(data, settings, callback=lambda p: p.phase == "search-1")
    assert not part.finished and part.result is None and len(part.history) == 3 and "unfinished" in repr(part)
    with pytest.raises(hs.InputError, match="stopped before"):
        part.predict(data.test)


def test_a_retrained_architecture(run, data, settings):
    again = hs.retrain(run, data, settings, callback=lambda progress: None)
    assert again.seed == 1 and {line["phase"] for line in again.history} == {"retrain"}
    np.testing.assert_array_equal(again.architecture[0].types, run.architecture[0].types)
    wide = hs.settings(set=SMALL | {"network.neurons": [24]})
    carried = hs.retrain(run.architecture[0], data, wide, callback=lambda progress: None)
    assert carried.architecture[0].neurons == 24 and carried.params.layers[0].w.shape == (9, 24)


def test_saved_data_without_a_test_part(run, data, settings, tmp_path):
    saved = hs.load_dataset(hs.Dataset(data.train, class_names=data.class_names).save(tmp_path / "own.h5"))
    again = hs.retrain(run, saved, settings, seed=np.int64(3), callback=lambda progress: None)
    assert again.finished and again.result["test"] is None and again.result["train"]["samples"] == len(data.train)


def test_it_prints_itself(run):
    assert "loud" in repr(run) and "test accuracy" in repr(run)
    html = run._repr_html_()
    assert html.startswith("<table>") and "motif size" in html and "<script" not in html


def test_thresholds_are_found_for_unknown_data(run, data, settings):
    """v_th "auto": a first search on data that nobody has tuned must not start dead."""
    assert settings.network.v_th is None
    for scale in (0.05, 1.0):
        x = (np.random.default_rng(1).random((20, 12, 9)) < scale * 0.5)
        own = hs.Dataset(hs.Events.from_dense(x, np.arange(20) % 2)).split(test=0.2, seed=0)
        first = hs.search(own, settings, callback=lambda progress: False).history[0]
        assert 100 * DEAD_RATE < first["rate1"] < 0.2, first["rate1"]


# ---- in a folder -----------------------------------------------------------------------------------------------------


def test_a_folder_goes_on_where_it_was(run, data, settings, tmp_path):
    path = tmp_path / "x"
    part = hs.search(data, settings, out=path, callback=lambda p: p.phase != "search-2")
    assert not part.finished and part.path == path
    stop = hs.StopRequest()
    more = hs.search(data, settings, out=path, stop=stop, callback=lambda p: stop.request())
    assert not more.finished and len(more.history) == 4
    whole = hs.search(data, settings, out=path, callback=lambda progress: None)
    assert whole.finished and [line["loss"] for line in whole.history] == [line["loss"] for line in run.history]
    for ours, theirs in zip(whole.params.layers, run.params.layers):
        np.testing.assert_array_equal(ours.w, theirs.w)
    loaded = hs.load_run(path)
    np.testing.assert_array_equal(loaded.predict(data.test), run.predict(data.test))
    assert loaded.class_names == ("a", "b", "c") and loaded.result == whole.result
    v_th, = json.loads((path / "manifest.json").read_text())["v_th"]
    assert loaded.network.hidden[0].v_th == v_th * settings.network.tau_s


def test_the_same_folder_as_the_program(house, capsys):
    """Begun by either, gone on with by the other."""
    assert cli.main([*toys.SEARCH, "--name", "program"]) == 0
    program = RunDir("runs/out/program")
    data, settings = open_cache(program.manifest()["data"]["cache"]), program.config()
    hs.search(data, settings, out="runs/out/python", callback=lambda progress: None)
    assert exact_differences(program, RunDir("runs/out/python")) == []
    assert {p.name for p in Path("runs/out/python").iterdir()} == {p.name for p in program.path.iterdir()}
    hs.search(data, settings, out="runs/out/both", callback=lambda p: False)
    assert cli.main([*toys.SEARCH, "--name", "both"]) == 0 and "resuming" in capsys.readouterr().out
    assert exact_differences(program, RunDir("runs/out/both")) == []


# ---- anywhere -----------------------------------------------------------------------------------------------------


def test_two_threads_at_once(run, data, settings):
    runs = {}
    threads = [threading.Thread(target=lambda n=n: runs.update({n: hs.search(
        data, settings, seed=n, callback=lambda progress: None)})) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(runs[0].params.layers[0].w, run.params.layers[0].w)
    assert (runs[1].params.layers[0].w != run.params.layers[0].w).any()


def test_no_signal_handler_is_touched(data, settings):
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    seen = []
    hs.search(data, settings, callback=lambda progress: (
        seen.append({s: signal.getsignal(s) for s in before}) or len(seen) < 2))
    assert seen == [before] * 2


def test_a_kernel_like_process(tmp_path):
    """No terminal, output of its own, another thread than the main one, as in a notebook's kernel."""
    program = ("import io, sys, threading\nsys.stdout = sys.stderr = out = io.StringIO()\n"
               "import numpy as np\nimport hrmas_sparse as hs\n"
               "def work():\n"
               "    x = np.random.default_rng(0).random((20, 8, 6)) < 0.3\n"
               "    data = hs.Dataset(hs.Events.from_dense(x, np.arange(20) % 2)).split(test=0.2, seed=0)\n"
               f"    run = hs.search(data, hs.settings(set={SMALL!r}))\n"
               "    sys.__stdout__.write(f'{run.finished} {len(run.history)}')\n"
               "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\n"
               "assert 'retrain: epoch 2/2' in out.getvalue(), out.getvalue()\n")
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path,
                           env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    assert found.stdout == "True 6" and found.returncode == 0, found.stderr
    assert list(tmp_path.iterdir()) == []


# ---- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, message", [
    ({"data": 3}, "data: expected a Dataset"), ({"settings": "ti46"}, "settings: expected what hs.settings"),
    ({"seed": -1}, "seed: expected a whole number"), ({"seed": True}, "seed: expected"), ({"seed": 2**53}, "seed"),
    ({"callback": 3}, "callback: expected a function"), ({"stop": []}, "stop: expected a function"),
    ({"backend": "abacus"}, "backend: expected one of")], ids=lambda x: str(x)[:30])
def test_mistakes(data, settings, change, message):
    with pytest.raises(hs.InputError, match=message):
        hs.search(**{"data": data, "settings": settings} | change)


def test_a_refused_run_leaves_no_folder(run, data, settings, tmp_path):
    narrow = hs.settings(set=SMALL | {"network.neurons": [12, 12]})
    with pytest.raises(hs.InputError, match="the given architecture: does not fit"):
        hs.retrain(run, data, narrow, out=tmp_path / "x")
    with pytest.raises(hs.InputError, match="expected a run, an Architecture"):
        hs.retrain("x", data, settings)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(hs.InputError, match="no run of that name"):
        hs.load_run(tmp_path)


def test_other_channels_are_refused(run):
    events = hs.Events.from_dense(np.ones((2, 5, 4), bool), [0, 1])
    with pytest.raises(hs.InputError, match="expected 9 channels as the run was trained on, found 4"):
        run.predict(events)
    with pytest.raises(hs.InputError, match="expected Events"):
        run.score(np.ones((2, 5, 9)))
