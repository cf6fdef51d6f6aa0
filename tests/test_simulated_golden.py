"""Golden numbers through the CUDA simulator; test_simulator.py starts it, with the folder in HRMAS_GOLDEN."""

import os
from pathlib import Path

import pytest

from hrmas_sparse.backends import get_backend
from hrmas_sparse.backends.cuda import geometry
from hrmas_sparse.gradcheck import golden

FOLDER = os.environ.get("HRMAS_GOLDEN")


@pytest.mark.skipif(not FOLDER, reason="NOT TESTED against golden numbers: HRMAS_GOLDEN names no folder")
@pytest.mark.parametrize("stem", golden.KINDS)
def test_golden_numbers(stem, monkeypatch):
    monkeypatch.setattr(geometry, "THREADS", 1)  # many threads are slow there, and tested with smaller networks
    monkeypatch.setattr(geometry, "TILE", 1)
    backend = get_backend("cuda")
    for dtype in ("float64", "float32") if stem in ("feedforward_published", "spikl_ip") else ("float64",):
        lines = golden._check(Path(FOLDER) / f"{stem}.npz", dtype, backend)
        assert lines and all(line.ok for line in lines), [line for line in lines if not line.ok]
