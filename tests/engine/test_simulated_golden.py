"""Golden numbers through the CUDA simulator; test_simulator.py starts it."""

from pathlib import Path

import pytest
import simulator

from hrmas_sparse.gradcheck import golden

FOLDER = Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.parametrize("stem", golden.KINDS)
def test_golden_numbers(stem, monkeypatch, cuda):
    simulator.one_thread_a_block(monkeypatch)
    for dtype in ("float64", "float32") if stem in ("feedforward_published", "spikl_ip") else ("float64",):
        lines = golden._check(FOLDER / f"{stem}.npz", dtype, cuda)
        assert lines and all(line.ok for line in lines), [line for line in lines if not line.ok]
