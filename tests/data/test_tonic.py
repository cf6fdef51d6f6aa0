"""tonic itself: its data sets on files in its formats, through its transforms, as Dataset.from_tonic takes them."""

import warnings

import numpy as np
import pytest

import hrmas_sparse as hs
from spike_files import shd_file

try:
    import tonic
except ImportError as error:
    tonic, why = None, f"TONIC NOT TESTED: {error}; pip install tonic"
    warnings.warn(why, stacklevel=1)

pytestmark = pytest.mark.skipif(tonic is None, reason="TONIC NOT TESTED: it is not installed (extra `tonic`)")


class Files:
    """tonic's SHD on a file we wrote: tonic's reading of events, without its download."""

    def __new__(cls, folder, name, labels, seed):
        made = object.__new__(tonic.datasets.SHD)
        made.location_on_system, made.h5_filename = str(folder), name
        made.data_filename = name
        made.transform = made.target_transform = made.transforms = None
        shd_file(folder / name, labels, seed, channels=700)
        return made


def test_shd_of_tonic_is_shd_of_ours(tmp_path):
    labels = np.arange(12) % 4
    train = Files(tmp_path, "shd_train.h5", labels, 0)
    events, label = train[3]
    assert set(events.dtype.names) >= {"t", "x"} and int(label) == 3
    theirs = hs.Dataset.from_tonic(train, steps=50, step_us=20_000)
    ours = hs.Dataset.from_hdf5(tmp_path / "shd_train.h5", steps=50, step_ms=20, channels=theirs.train.channels)
    assert theirs.train.labels.tolist() == labels.tolist() and theirs.train.channels == 700
    different = np.abs(theirs.train.dense().astype(int) - ours.train.dense()).sum()
    assert different <= 0.02 * ours.train.value.sum()  # tonic cuts times down to whole microseconds


def test_a_data_set_with_transforms_of_tonic():
    rng = np.random.default_rng(0)
    dtype = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]
    crop = tonic.transforms.Downsample(spatial_factor=0.5)

    class Own:
        sensor_size = (4, 4, 2)

        def __len__(self):
            return 8

        def __getitem__(self, n):
            events = np.zeros(30, dtype)
            events["x"], events["y"] = rng.integers(0, 8, 30), rng.integers(0, 8, 30)
            events["t"], events["p"] = np.sort(rng.integers(0, 9000, 30)), rng.integers(0, 2, 30)
            return crop(events), n % 2

    data = hs.Dataset.from_tonic(Own(), steps=9, step_us=1000)
    assert data.grid == (2, 4, 4) and data.train.value.sum() == 8 * 30
    with pytest.raises(hs.InputError, match="transforms that make frames"):
        frames = tonic.transforms.ToFrame(sensor_size=(8, 8, 2), n_time_bins=3)
        hs.Dataset.from_tonic([(frames(np.zeros(3, dtype)), 0)], steps=9, step_us=1000)
