"""The self-test, with the CPU as the device, and its golden numbers; in test_emulated_kernels.py kernels pass it."""

import signal
from pathlib import Path

import numpy as np
import pytest

from hrmas_sparse.engine import selftest
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.process import Signalled
from hrmas_sparse.storage import npy

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SMALL = {name: ((40, 80, 7, 2, 33) if case[0] == selftest.W1 else case[0], *case[1:])
         for name, case in selftest.CASES.items()}


@pytest.mark.parametrize("name", selftest.NUMBERS)
def test_golden_numbers_of_the_package_are_some_of_the_tests(name):
    here, all_of_them = npy.load(selftest.GOLDEN / f"{name}.npz"), npy.load(GOLDEN / f"{name}.npz")
    assert len(here) >= 13
    for key, value in here.items():
        np.testing.assert_array_equal(value, all_of_them[key])


def test_the_cpu_passes(monkeypatch):
    monkeypatch.setattr(selftest, "CASES", SMALL)
    assert selftest.test(get_backend("cpu", 1)) == []


@pytest.mark.parametrize("array, said", [
    ("loss", ": the loss is "), ("dW_in", ": the gradient of w1 differs"), ("dW_out", ": the gradient of w_out ")])
def test_other_numbers_are_seen(monkeypatch, array, said):
    def load(path):
        file = npy.load(path)
        file[array] = file[array] * (1 + 1e-6)
        return file

    monkeypatch.setattr(selftest, "CASES", {})
    monkeypatch.setattr(selftest, "npy", type("npy", (), {"load": staticmethod(load)}))
    failed = selftest.test(get_backend("cpu", 1))
    assert len(failed) == len(selftest.NUMBERS) and all(said in line for line in failed), failed
    assert failed[0].startswith("golden numbers, recurrent_const")


def test_a_signal_says_nothing_of_the_device(monkeypatch):
    """Not even where others' code, interrupted, made an error of its own of it."""
    def interrupted(backend, *case):
        try:
            raise Signalled(signal.SIGINT)
        finally:
            raise AttributeError("of what was never set")
    monkeypatch.setattr(selftest, "_compare", interrupted)
    with pytest.raises(AttributeError):
        selftest.test(get_backend("cpu"))
