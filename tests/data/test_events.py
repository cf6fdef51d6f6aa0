"""Events are checked when built; what is built is what was given."""

import doctest

import numpy as np
import pytest

from hrmas_sparse.data import dataset as dataset_module
from hrmas_sparse.data import events as events_module
from hrmas_sparse.data.events import Events
from hrmas_sparse.storage.errors import InputError

STEPS, CHANNELS = 6, 4


def flat(rng, count=30, samples=5):
    """Events at random places, some of them twice."""
    return (rng.integers(0, samples, count), rng.integers(0, STEPS, count), rng.integers(0, CHANNELS, count),
            np.arange(samples) % 2)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_dense_and_back(dtype):
    x = (np.random.default_rng(0).random((5, STEPS, CHANNELS)) < 0.3).astype(dtype)
    if dtype is not bool:
        x[0, 0, 0] = 3
    events = Events.from_dense(x, [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(events.dense(), x)
    assert events.value.dtype == (np.float32 if np.dtype(dtype).kind == "f" else np.uint8)
    assert (events.steps, events.channels, len(events), events.labels.dtype) == (STEPS, CHANNELS, 5, np.int64)
    again = Events(**{name: getattr(events, name) for name in ("indptr", "step", "channel", "value", "labels", "steps",
                                                               "channels")})
    np.testing.assert_array_equal(again.dense(), x)


@pytest.mark.parametrize("value", [None, "count", "intensity"])
def test_flat_arrays_in_any_order(value):
    rng = np.random.default_rng(1)
    sample, step, channel, labels = flat(rng)
    strength = {None: None, "count": rng.integers(1, 9, 30), "intensity": rng.random(30) + 0.1}[value]
    events = Events.from_arrays(sample, step, channel, labels, steps=STEPS, channels=CHANNELS, value=strength)
    wanted = np.zeros((5, STEPS, CHANNELS))
    np.add.at(wanted, (sample, step, channel), 1 if strength is None else strength)
    double = 30 - int((wanted > 0).sum())
    assert double and list(events.notes.values()) == [double]
    assert ("merged" if value is None else "added up") in next(iter(events.notes))
    np.testing.assert_allclose(events.dense(), wanted > 0 if value is None else wanted, rtol=1e-6)
    Events(**vars(events))  # what comes out passes the checks


def test_counts_are_added_up_to_255():
    events = Events.from_arrays([0, 0], [1, 1], [2, 2], [0], steps=5, channels=3, value=[200, 100])
    assert events.value.tolist() == [255]
    assert events.notes == {"duplicate events added up": 1, "bins saturated at 255": 1}


@pytest.mark.parametrize("index, wanted", [
    (2, [2]), (-1, [4]), (slice(1, 4), [1, 2, 3]), ([True, False, False, True, True], [0, 3, 4]),
    ([4, 0, 4], [4, 0, 4]),
    ([], []), (np.array([-2, 1]), [3, 1]), (np.array([1, 2], np.uint8), [1, 2])])
def test_an_index_gives_events(index, wanted):
    events = Events.from_dense(np.random.default_rng(2).random((5, STEPS, CHANNELS)) < 0.4, np.arange(5))
    batch = events[index]
    assert type(batch) is Events and batch.labels.tolist() == wanted
    np.testing.assert_array_equal(batch.dense(), events.dense()[np.array(wanted, int)])


def test_events_can_be_looped_over_and_have_an_end():
    events = Events.from_dense(np.ones((3, 2, 2), bool), [0, 1, 2])
    assert [len(one) for one in events] == [1, 1, 1]
    for index in (3, -4, [0, 3]):
        with pytest.raises(IndexError):
            events[index]
    assert repr(events) == "Events(3 samples, 2 steps x 2 channels, 12 events, uint8)"


X, LABELS = np.zeros((2, 3, 4)), [0, 1]


def changed(place, value, dtype=float):
    x = X.astype(dtype)
    x[place] = value
    return x


@pytest.mark.parametrize("x, labels, parts", [
    (X[0], LABELS, ["x: expected an array of 3 dimensions", "(3, 4)"]),
    (np.zeros((2, 0, 4)), LABELS, ["x.shape[1]: expected a whole number, 1 to 65536", "'0'"]),
    (changed((1, 2, 3), np.nan), LABELS, ["x[1, 2, 3]: expected a finite number", "nan"]),
    (changed((0, 0, 1), np.inf), LABELS, ["x[0, 0, 1]", "inf"]),
    (changed((0, 0, 1), -0.5), LABELS, ["x[0, 0, 1]: expected a finite number of at least 0", "-0.5"]),
    (changed((0, 0, 1), 1e60), LABELS, ["x[0, 0, 1]: expected a number that single precision can hold", "1e+60"]),
    (changed((0, 0, 1), 1e-60), LABELS, ["x[0, 0, 1]: expected a number that single precision can hold"]),
    (changed((1, 0, 0), 256, int), LABELS, ["x[1, 0, 0]: expected a count of 0 to 255", "256"]),
    (changed((1, 0, 0), -1, int), LABELS, ["x[1, 0, 0]", "-1"]),
    (X.astype(complex), LABELS, ["x: expected counts or intensities", "complex128"]),
    (X.astype(str), LABELS, ["x: expected counts or intensities"]),
    ([[[1], [2, 3]]], [0], ["x: expected an array"]),
    (X, [0], ["labels: expected one for each of the 2 samples", "found 1"]),
    (X, [0, -1], ["labels[1]: expected 0 to 65535", "-1"]),
    (X, [0, 70000], ["labels[1]: expected 0 to 65535", "70000"]),
    (X, [0.0, 1.0], ["labels: expected whole numbers", "float64"]),
    (X, [[0, 1]], ["labels: expected an array of 1 dimension"]),
    (X, ["a", "b"], ["labels: expected whole numbers"]),
])
def test_dense_arrays_that_are_refused(x, labels, parts):
    with pytest.raises(InputError) as error:
        Events.from_dense(x, labels)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize("change, parts", [
    ({"sample": [0, 2, 1]}, ["sample[1]: expected 0 to 1", "found 2"]),
    ({"step": [0, 1, 60000]}, ["step[2] (sample 1): expected 0 to 4", "found 60000"]),
    ({"step": [0, -1, 0]}, ["step[1] (sample 0)", "-1"]),
    ({"channel": [0, 3, 0]}, ["channel[1] (sample 0): expected 0 to 2", "found 3"]),
    ({"channel": [0, 1]}, ["channel: expected as many entries as sample has, 3, found 2"]),
    ({"channel": [0.0, 1.0, 2.0]}, ["channel: expected whole numbers", "float64"]),
    ({"value": [1, 0, 1]}, ["value[1]: expected a count of 1 to 255", "found 0"]),
    ({"value": [1, 300, 1]}, ["value[1]", "300"]),
    ({"value": [1.0, np.nan, 1]}, ["value[1]: expected a finite number above 0", "nan"]),
    ({"value": [1, 1]}, ["value: expected as many entries"]),
    ({"labels": [0, None]}, ["labels: expected whole numbers", "object"]),
    ({"steps": 0}, ["steps: expected a whole number, 1 to 65536", "'0'"]),
    ({"steps": 70000}, ["steps"]), ({"steps": 2.0}, ["steps"]), ({"channels": True}, ["channels"]),
])
def test_flat_arrays_that_are_refused(change, parts):
    given = {"sample": [0, 0, 1], "step": [0, 4, 2], "channel": [0, 1, 2], "labels": [0, 1], "steps": 5, "channels": 3}
    Events.from_arrays(**given)
    with pytest.raises(InputError) as error:
        Events.from_arrays(**given | change)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize("change, parts", [
    ({"indptr": [0, 2]}, ["indptr: expected 3 entries, found 2"]),
    ({"indptr": [0, 4, 3]}, ["indptr: expected numbers that rise from 0 to the number of events, 3"]),
    ({"indptr": [1, 2, 3]}, ["indptr"]), ({"indptr": [0, 2, 9]}, ["indptr"]), ({"indptr": [0.0, 2.0, 3.0]}, ["indptr"]),
    ({"step": [4, 0, 2]}, ["sorted by step", "event 1 (step 0, channel 1)", "from_arrays takes any order"]),
    ({"step": [0, 0, 2], "channel": [1, 1, 2]}, ["each pair once", "event 1"]),
    ({"step": [0, 5, 2]}, ["step[1]: expected 0 to 4, found 5"]),
    ({"channel": [0, 1, 99]}, ["channel[2]: expected 0 to 2, found 99"]),
    ({"value": [1.0, np.nan, 1.0]}, ["value[1]"]), ({"value": [1]}, ["value: expected 3 entries"]),
])
def test_fields_that_are_refused(change, parts):
    given = {"indptr": [0, 2, 3], "step": [0, 4, 2], "channel": [0, 1, 2], "value": [1, 1, 1], "labels": [0, 1],
             "steps": 5, "channels": 3}
    assert Events(**given).step.dtype == np.uint16
    with pytest.raises(InputError) as error:
        Events(**given | change)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize("module", [events_module, dataset_module])
def test_examples(module):
    assert doctest.testmod(module).failed == 0
