"""The data part of the public interface, as scripts of a user: nothing but what `hs` exports."""

import numpy as np
import pytest

import hrmas_sparse as hs
from spike_files import shd_file, sweeps

QUICK = {"network.neurons": [40], "network.motif_sizes": [2, 4], "training.search_epochs": 4, "training.batch": 20,
         "training.retrain_epochs": 30}


def test_numpy_arrays_to_a_saved_data_set(tmp_path):
    x, labels = sweeps(40)
    events = hs.Events.from_dense(x, labels)
    sample, step, channel = np.nonzero(x)
    same = hs.Events.from_arrays(sample, step, channel, labels, steps=40, channels=12)
    assert len(events) == len(same) == 40 and (events.dense() == same.dense()).all()
    assert (events[3:5].labels == labels[3:5]).all() and (events.steps, events.channels) == (40, 12)
    data = hs.Dataset(events, class_names=["up", "down", "low up", "low down"], name="sweeps").split(test=0.2, seed=0)
    data.save(tmp_path / "own.h5")
    found = hs.load_dataset(tmp_path / "own.h5")
    assert found.summary() == data.summary() and found.class_names == data.class_names
    assert "32 train, 8 test" in repr(found)


def test_shd_files(tmp_path):
    shd_file(tmp_path / "shd_train.h5", np.arange(20) % 4)
    shd_file(tmp_path / "shd_test.h5", np.arange(8) % 4, seed=1)
    data = hs.Dataset.from_hdf5(tmp_path / "shd_train.h5", tmp_path / "shd_test.h5", steps=50, step_ms=20)
    assert (data.train.steps, data.train.channels, len(data.test)) == (50, 20, 8)


def test_tonic_like_data():
    events = np.array([(100, 3, True), (2500, 1, False)], [("t", int), ("x", int), ("p", bool)])
    data = hs.Dataset.from_tonic([(events, 0), (events[:1], 1)], [(events, 1)], steps=10, step_us=1000)
    assert data.train.dense().sum() == 3 and data.test.labels.tolist() == [1]


def test_a_mistake_is_an_input_error():
    with pytest.raises(hs.InputError, match=r"step\[0\] \(sample 0\): expected 0 to 9, found 60000"):
        hs.Events.from_arrays([0], [60000], [0], [0], steps=10, channels=4)


@pytest.mark.parametrize("name", ["sample", "step", "channel", "labels", "value"])
def test_masked_entries_are_refused(name):
    arrays = {"sample": np.array([0, 1]), "step": np.array([0, 1]), "channel": np.array([0, 1]),
              "labels": np.array([0, 1]), "value": np.array([1, 2])}
    arrays[name] = np.ma.array(arrays[name], mask=[False, True])
    with pytest.raises(hs.InputError, match=f"{name}: expected an array without masked entries, found 1; "):
        hs.Events.from_arrays(**arrays, steps=2, channels=2)
    arrays[name].mask = False
    assert hs.Events.from_arrays(**arrays, steps=2, channels=2).indptr.tolist() == [0, 1, 2]


def test_a_masked_dense_array_and_one_that_claims_too_much_are_refused():
    x = np.ma.array(np.ones((2, 3, 4), bool), mask=np.eye(3, 4, dtype=bool)[None].repeat(2, axis=0))
    with pytest.raises(hs.InputError, match="x: expected an array without masked entries, found 6; "):
        hs.Events.from_dense(x, [0, 1])
    with pytest.raises(hs.InputError, match="x: 4096.0 GiB do not fit into"):
        hs.Events.from_dense(np.broadcast_to(np.True_, (1024, 65536, 65536)), np.zeros(1024, int))


def test_a_first_search_on_own_data_does_not_start_dead():
    data = hs.Dataset(hs.Events.from_dense(*sweeps(160)), name="sweeps").split(0.25)
    run = hs.search(data, hs.settings(set=QUICK), callback=lambda progress: None)
    assert run.history[0]["rate1"] > 1e-3
    assert run.score(data.test).accuracy > 0.6
