"""The front end against stored numbers of an independent implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep import lyon
from hrmas_sparse.storage import npy
from hrmas_sparse.storage.errors import InputError

BOUND = 1e-9  # of the largest value

_NUMBERS = {"waveform": 1, "sample_rate": 0, "decimation": 0, "cochleagram": 2}  # dimensions


def main(golden: Path) -> int:
    """Check every file of a folder of golden numbers that is about raw data; say what was found.

    Returns
    -------
    exit status: 0, or 1 if an error is over its bound

    Raises
    ------
    InputError
        No such folder, no lyon.npz in it, or one that does not hold what it should.
    """
    if not golden.is_dir():
        raise InputError(f"{golden}: no such folder; --golden takes the folder that holds lyon.npz")
    path = golden / "lyon.npz"
    if not path.is_file():
        raise InputError(f"{path}: no such file; --golden takes the folder that holds lyon.npz")
    error = lyon_error(path)
    passed = error <= BOUND  # not so for NaN
    print(f"lyon.npz: cochleagram, relative error {error:.2g}, bound {BOUND:g}: {'passed' if passed else 'FAILED'}")
    others = sorted(other.name for other in golden.glob("*.npz") if other != path)
    if others:
        print(f"not checked, not about raw data (see `hrmas gradcheck --golden`): {', '.join(others)}")
    return 0 if passed else 1


def lyon_error(path: Path) -> float:
    """Largest difference of a cochleagram from the stored one, over the largest stored value."""
    stored = _read(path)
    for name, ours in (("sample_rate", lyon.RATE), ("decimation", lyon.DECIMATION)):
        if stored[name] != ours:
            raise InputError(f"{path}: {name}: expected {ours}, found {stored[name]}")
    computed, expected = lyon.lyon(stored["waveform"]).T, stored["cochleagram"]
    if computed.shape != expected.shape:
        raise InputError(f"{path}: cochleagram: expected (frames, channels) = {computed.shape}, found {expected.shape}")
    return float(np.abs(computed - expected).max(initial=0.0) / np.abs(expected).max(initial=1e-300))


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = npy.load(path)
        stored = {name: arrays[name] for name in _NUMBERS}
    except npy.BROKEN as error:
        raise InputError(f"{path}: expected {', '.join(_NUMBERS)} in an .npz file ({error}); get it again") from error
    for name, dimensions in _NUMBERS.items():
        if stored[name].ndim != dimensions or stored[name].dtype.kind not in "iuf":
            raise InputError(f"{path}: {name}: expected numbers in {dimensions} dimensions; get it again")
    return stored
