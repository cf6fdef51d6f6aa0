"""SHD and SSC, on files in their form: int16 units, float16 times, plain and packed."""

import gzip
import os
import shutil

import numpy as np
import pytest

from data_prep import READERS, prepare
from data_prep.download import download
from hrmas_sparse.data.cache import open_cache, verify_cache
from hrmas_sparse.settings.load import load
from hrmas_sparse.storage.errors import InputError
from spike_files import shd_file

NAMES = {"shd": [f"digit {n}" for n in range(20)], "ssc": [f"word {n}" for n in range(35)]}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder of both data sets; spikes of each part by data set."""
    monkeypatch.setenv("HRMAS_HOME", str(tmp_path / "home"))

    def write(name, keys=True, packed=False):
        folder, classes = tmp_path / name, READERS[name].CLASS_NAMES
        folder.mkdir(exist_ok=True)
        spikes = {}
        for seed, part in enumerate(("train", "valid", "test")):
            labels = np.arange(len(classes) + 5 * (part == "train")) % len(classes)
            path = folder / f"{name}_{part}.h5"
            spikes[part] = shd_file(path, labels, seed, 700, NAMES[name] if keys else None, chunks=(7,))
            if packed:
                with open(path, "rb") as plain, gzip.open(f"{path}.gz", "wb") as target:
                    shutil.copyfileobj(plain, target)
                path.unlink()
        return folder, spikes
    return write


def build(raw, name, *overrides):
    cache = (raw if raw.is_dir() else raw.parent).parent / "cache"
    return open_cache(prepare(load(name, overrides=overrides).data, raw, cache, say=lambda _: None))


@pytest.mark.parametrize("name", ["shd", "ssc"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_in_the_files_is_in_the_cache(raw, name, packed):
    folder, spikes = raw(name, packed=packed)
    data = build(folder, name, "data.value=count")
    verify_cache(data.path)
    assert (data.meta.channels, data.meta.classes, data.meta.steps) == (700, len(NAMES[name]), 100)
    assert data.class_names == tuple(NAMES[name]) and data.meta.encoding["step_ms"] == 10
    assert (len(data.train), len(data.test)) == (len(NAMES[name]) + 5, len(NAMES[name]))
    for split, part in ((data.train, "train"), (data.test, "test")):
        for n, (times, units) in enumerate(spikes[part]):
            wanted = np.zeros((100, 700), int)
            step = np.floor(times.astype(float) * 100 + 1e-6).astype(int)
            np.add.at(wanted, (step[step < 100], units[step < 100]), 1)
            np.testing.assert_array_equal(split[n].dense()[0], wanted)
    assert not list((folder.parent / "home").rglob(".unpacked-*"))
    assert set(build(folder, name).train.value.tolist()) == {1}


def test_without_names_classes_are_numbers_and_a_part_may_be_given(raw):
    folder, _ = raw("shd", keys=False)
    assert build(folder, "shd").class_names == tuple(map(str, range(20)))
    assert build(folder / "shd_train.h5", "shd").path == build(folder, "shd").path


def test_a_partition_is_drawn_from_the_training_part(raw):
    folder, _ = raw("shd")
    data = build(folder, "shd", "data.partition=resample-1")
    assert (len(data.train), len(data.test)) == (25, 20)


@pytest.mark.parametrize("spoil, parts", [
    (lambda folder: [path.unlink() for path in folder.glob("shd_t*")], ["no recordings; expected shd_train.h5"]),
    (lambda folder: (folder / "shd_test.h5").unlink(), ["no test sample of shd"]),
    (lambda folder: shd_file(folder / "shd_test.h5", [0, 1, 20], channels=700), ["shd_test.h5, /labels: sample 2",
                                                                               "expected 0 to 19, found 20"]),
    (lambda folder: shd_file(folder / "shd_test.h5", [0] * 9, channels=900), ["shd_test.h5, /spikes/units: sample",
                                                                            "expected 0 to 699"]),
    (lambda folder: (folder / "shd_train.h5").rename(folder / "shd_train.h5.gz"), ["shd_train.h5.gz: expected a file "
                                                                                 "packed with gzip"]),
])
def test_what_is_refused(raw, spoil, parts):
    folder, _ = raw("shd")
    spoil(folder)
    with pytest.raises(InputError) as error:
        build(folder, "shd")
    assert all(part in str(error.value) for part in parts), error.value


def test_a_packed_file_that_grows_without_end_is_refused(raw, monkeypatch):
    folder, _ = raw("shd", packed=True)
    with monkeypatch.context() as patch:
        largest = max(path.stat().st_size for path in folder.iterdir())
        patch.setattr("data_prep.heidelberg._LARGEST", largest)
        with pytest.raises(InputError, match=f"more than {largest:,} bytes unpacked"):
            build(folder, "shd")
    os.truncate(folder / "shd_train.h5.gz", 1 << 40)
    with pytest.raises(InputError, match="1,099,511,627,776 bytes, packed; is this the published file"):
        build(folder, "shd")


def test_packed_files_of_several_parts_and_with_zeros_at_their_end(raw):
    """As tapes and some programs leave them; what is there too little of, or no part, is refused."""
    folder, _ = raw("shd", packed=True)
    path = folder / "shd_train.h5.gz"
    content, before = gzip.decompress(path.read_bytes()), build(folder, "shd").train
    parts = [gzip.compress(content[n:n + 10_000]) for n in range(0, len(content), 10_000)]
    for whole in (b"".join(parts), b"".join(part + bytes(5) for part in parts) + bytes(3 << 20)):
        path.write_bytes(whole)
        found = build(folder, "shd").train
        for name in ("indptr", "step", "channel"):
            np.testing.assert_array_equal(getattr(found, name), getattr(before, name))
    for whole in (parts[0][:-9], b"".join(parts) + b"x", bytes(100), b"", bytes(9) + parts[0]):
        path.write_bytes(whole)
        with pytest.raises(InputError, match="expected a file packed with gzip"):
            build(folder, "shd")


@pytest.mark.parametrize("name", ["shd", "ssc"])
def test_the_published_files(name, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("data_prep.download._obtain", lambda folder, remote, say: asked.append(remote))
    said = []
    download(name, tmp_path / "raw", say=said.append)
    assert [remote.holds for remote in asked] == [f"{name}_train.h5", f"{name}_test.h5"]
    assert all(len(remote.md5) == 32 and remote.url.endswith(".zip") for remote in asked) and "CC BY 4.0" in said[-1]
