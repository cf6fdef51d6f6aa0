"""Golden numbers through the CUDA simulator; test_simulator.py starts it, with the folder in HRMAS_GOLDEN."""

import os
from pathlib import Path

import pytest
import simulator

from hrmas_sparse.gradcheck import golden

FOLDER = os.environ.get("HRMAS_GOLDEN")


@pytest.mark.skipif(not FOLDER, reason="NOT TESTED against golden numbers: HRMAS_GOLDEN names no folder")
@pytest.mark.parametrize("stem", golden.KINDS)
def test_golden_numbers(stem, monkeypatch, cuda):
    simulator.one_thread_a_block(monkeypatch)
    for dtype in ("float64", "float32") if stem in ("feedforward_published", "spikl_ip") else ("float64",):
        lines = golden._check(Path(FOLDER) / f"{stem}.npz", dtype, cuda)
        assert lines and all(line.ok for line in lines), [line for line in lines if not line.ok]
