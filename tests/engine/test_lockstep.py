"""Jobs that meet: what goes into one call, in which order, and what becomes of those that end, fail or differ."""

import functools
import random
import threading
import time

import pytest
import toys

from hrmas_sparse.engine import lockstep
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.backends.base import Backend
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.storage.errors import Diverged, InputError


class Calls:
    """A function that doubles numbers and knows what it was called with."""

    def __init__(self):
        self.seen = []

    def __call__(self, items):
        assert threading.current_thread() is threading.main_thread()
        self.seen.append(list(items))
        return [2 * item for item in items]


def steps(calls, items, kinds="", pause=lambda: None, *, backend):
    """A job that requests one number after another, of kinds given by letters."""
    numbers = []
    for item, kind in zip(items, kinds or "a" * len(items)):
        pause()
        numbers += backend.run(calls, [item], kind)
    return numbers


def run(works):
    """Run jobs, functions of a backend, in lockstep."""
    return lockstep.run(Backend(), works)


def job(*arguments, **options):
    return lambda backend: steps(*arguments, **options, backend=backend)


def test_alone_nothing_is_different():
    calls = Calls()
    assert Backend().run(calls, [1, 2], "a") == [2, 4] and calls.seen == [[1, 2]]
    assert run([]) == []


def test_what_is_asked_at_the_same_time_is_one_call():
    calls = Calls()
    assert run([job(calls, [1, 2]), job(calls, [10, 20]), job(calls, [100])]) == [[2, 4], [20, 40], [200]]
    assert calls.seen == [[1, 10, 100], [2, 20]]


def test_requests_of_several_items():
    calls = Calls()
    assert run([lambda backend: backend.run(calls, [1, 2, 3], "a"), lambda backend: backend.run(calls, [], "a"),
                lambda backend: backend.run(calls, [4], "a")]) == [[2, 4, 6], [], [8]]
    assert calls.seen == [[1, 2, 3, 4]]


def test_others_wait_until_the_most_come_by():
    """One is a step behind: it waits for the others' next step of its kind, and from there they go together."""
    calls = Calls()
    assert run([job(calls, [1, 2, 3], "aba"), job(calls, [10, 20, 30], "aba"), job(calls, [200, 300], "ba")])
    assert calls.seen == [[1, 10], [2, 20, 200], [3, 30, 300]]


def test_of_two_kinds_the_first_job_s_goes_first():
    calls = Calls()
    run([job(calls, [1, 2], "ab"), job(calls, [10, 20], "bc")])
    assert calls.seen == [[1], [2, 10], [20]]


def test_different_functions_never_meet():
    one, other = Calls(), Calls()
    run([job(one, [1]), job(other, [2])])
    assert (one.seen, other.seen) == ([[1]], [[2]])


def test_time_does_not_matter():
    seen = []
    for seed in range(5):
        calls, random_time = Calls(), random.Random(seed).random
        run([job(calls, range(n, n + 6), kinds, lambda time_of=random_time: time.sleep(time_of() / 500))
                      for n, kinds in ((0, "aabaab"), (10, "abaaba"), (20, "aaaaaa"))])
        seen.append(calls.seen)
    assert all(calls == seen[0] for calls in seen)


def test_one_runs_at_a_time():
    running = []

    def alone(n, backend):
        for _ in range(20):
            running.append(n)
            time.sleep(0.0005)
            assert running == [n]
            running.remove(n)
            backend.run(Calls(), [], "a")

    run([functools.partial(alone, n) for n in range(3)])


def test_who_fails_does_not_keep_the_others():
    calls = Calls()

    def fails(backend):
        backend.run(calls, [100], "a")
        raise Diverged("it went wrong")

    ended = []
    with pytest.raises(Diverged, match="it went wrong"):
        run([job(calls, [1, 2, 3]), fails, lambda backend: ended.append(steps(calls, [10, 20, 30], backend=backend))])
    assert ended == [[20, 40, 60]] and calls.seen == [[1, 100, 10], [2, 20], [3, 30]]


def test_of_several_errors_the_first_job_s_is_raised():
    def fails(text, asks, backend):
        for _ in range(asks):
            backend.run(Calls(), [], "a")
        raise ValueError(text)

    with pytest.raises(ValueError, match="first"):
        run([functools.partial(fails, "first", 3), functools.partial(fails, "second", 0)])


def test_an_error_of_the_call_reaches_those_who_asked():
    def full(items):
        raise InputError("the memory is full")

    calls, heard = Calls(), []

    def hears(backend):
        with pytest.raises(InputError, match="full"):
            backend.run(full, [1], "a")
        heard.append(backend.run(calls, [1], "a"))

    with pytest.raises(InputError, match="full"):
        run([hears, lambda backend: backend.run(full, [1], "a"), job(calls, [1, 2])])
    assert heard == [[2]]


# ---- jobs, each still what it is alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [(), ("plasticity.mode=online", "network.neurons=[12,6]")], ids=["one", "two"])
def test_whole_jobs(tmp_path, overrides):
    events, own = toys.cache(tmp_path / "toy.h5"), toys.settings(*overrides)
    alone = [toys.run(tmp_path / f"alone-{seed}", own, events, seed=seed) for seed in range(3)]
    runs = lockstep.run(get_backend("cpu", 1), [
        lambda backend, seed=seed: toys.run(tmp_path / f"s{seed}", own, events, seed, backend=backend)
        for seed in range(3)])
    for expected, found in zip(alone, runs):
        assert exact_differences(expected, found) == []
