"""Files and data of one's own for the tests: SHD-style HDF5, words that logistic regression on counts cannot tell."""

import h5py
import numpy as np


def shd_file(path, labels, seed=0, channels=20, keys=None, times=np.float16, units=np.int16, **options):
    """Write a file in the form of SHD; returns times and units of each sample."""
    rng, found = np.random.default_rng(seed), []
    with h5py.File(path, "w") as file:
        for name, dtype in (("times", times), ("units", units)):
            file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(np.dtype(dtype)), **options)
        for n in range(len(labels)):
            count = rng.integers(0, 90)
            found.append((np.sort(rng.random(count)).astype(times), rng.integers(0, channels, count).astype(units)))
            file["spikes/times"][n], file["spikes/units"][n] = found[-1]
        file["labels"] = np.asarray(labels)
        if keys:
            file["extra/keys"] = keys
    return found


def sweeps(samples=200, seed=0, steps=40, channels=12, classes=4):
    """(B, T, C) bool and labels: spikes run up or down through a block of channels; counts do not say which way."""
    rng, labels = np.random.default_rng(seed), np.arange(samples) % classes
    x, block = rng.random((samples, steps, channels)) < 0.02, channels // (classes // 2)
    for sample, label in zip(x, labels):
        family, down = divmod(int(label), 2)
        along = np.arange(24) / 24
        step = np.clip(4 + along * (steps - 10) + rng.normal(0, 1.2, 24), 0, steps - 1).astype(int)
        place = np.clip((1 - along if down else along) * block + rng.normal(0, 0.4, 24), 0, block - 1).astype(int)
        sample[step, family * block + place] = True
    return x, labels
