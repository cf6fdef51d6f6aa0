"""Paths and indices that are none: an InputError, and nothing else."""

import numpy as np
import pytest

import hrmas_sparse as hs

EVENTS = hs.Events.from_dense(np.ones((3, 4, 2), bool), [0, 1, 1])


@pytest.mark.parametrize("path", [None, 5, b"x", "", "a\0b", 1.5, []])
def test_what_is_no_path(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, settings = hs.Dataset(EVENTS, EVENTS), hs.settings()
    calls = [lambda: hs.load_run(path), lambda: hs.load_dataset(path), lambda: data.save(path)]
    if path is not None:
        calls.append(lambda: hs.search(data, settings, out=path))
    for call in calls:
        with pytest.raises(hs.InputError, match="expected the path of a file or folder"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("index", [
    3, -4, 10**30, 1.5, "a", None, True, [0, 5], [[0], [1]], [True], slice(None, None, 0)], ids=str)
def test_what_is_no_sample(index):
    with pytest.raises(hs.InputError, match=r"events\[...\]"):
        EVENTS[index]


def test_a_loop_ends():
    assert [len(one) for one in EVENTS] == [1, 1, 1]
    assert len(EVENTS[[]]) == 0 and len(EVENTS[::-1]) == 3 and len(EVENTS[np.array([True, False, True])]) == 2
