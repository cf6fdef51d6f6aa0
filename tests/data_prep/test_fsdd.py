from collections import Counter

import numpy as np
import pytest
import sounds
from recordings import recordings
from scipy.signal import resample_poly
from test_ti46 import settings

from data_prep import fsdd, prepare
from data_prep.encode import encode_cochleagram
from data_prep.lyon import lyon
from data_prep.wav import read_wav
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache


@pytest.fixture
def build(tmp_path):
    build.said = []

    def build_(raw, **change):
        return open_cache(prepare(settings(dataset="fsdd", **change), raw, tmp_path / "cache", say=build.said.append))

    build_.said = build.said
    return build_


def test_the_official_test_set(tmp_path, build):
    sounds.fsdd(tmp_path / "raw", indices=(0, 4, 5, 10), speakers=("ann", "bob"), digits=(3, 7))
    cache = build(tmp_path / "raw")
    verify_cache(cache.path)
    assert cache.ids("test") == [f"{d}_{s}_{i}" for d in (3, 7) for s in ("ann", "bob") for i in (0, 4)]
    assert cache.ids("train") == [f"{d}_{s}_{i}" for d in (3, 7) for s in ("ann", "bob") for i in (5, 10)]
    assert cache.train.labels.tolist() == [3] * 4 + [7] * 4
    assert cache.meta.encoding["layout"] == "test is 0-4" and not any("absent" in line for line in build.said)
    assert build(tmp_path / "raw" / "recordings").path == cache.path  # either folder may be given


def test_the_second_test_set_if_the_official_one_is_absent(tmp_path, build):
    sounds.fsdd(tmp_path / "raw", indices=(5, 9, 10))
    cache = build(tmp_path / "raw")
    assert len(cache.test) == 20 and len(cache.train) == 10
    assert cache.meta.encoding["layout"] == "test is 5-9"
    assert any("20 recordings of index 5-9 are the test set" in line for line in build.said)


def test_events_are_those_of_the_front_end(tmp_path, build):
    paths = sounds.fsdd(tmp_path / "raw", digits=(2,))
    wave, _ = read_wav(paths[1])
    for change in ({}, {"value": "count"}, {"encoding": "intensity"}):
        events = build(tmp_path / "raw", **change).train
        expected = encode_cochleagram(lyon(resample_poly(wave, 25, 16)), settings(**change), Counter())
        assert len(expected[0])
        for name, array in zip(("step", "channel", "value"), expected):
            np.testing.assert_array_equal(getattr(events, name), array)


def test_short_and_silent_recordings_are_empty_samples(tmp_path, build):
    for name, samples in (("1_ann_0", 100), ("1_ann_7", 800), ("2_ann_7", 1)):
        path = tmp_path / "raw" / "recordings" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sounds.riff(np.zeros(samples, np.int16), rate=8000))
    cache = build(tmp_path / "raw")
    assert not len(cache.train.step) and not len(cache.test.step) and len(cache.train) == 2
    assert cache.meta.notes["recordings shorter than one frame, left empty"] == 2


def test_any_number_of_threads_gives_the_same_bytes(tmp_path, monkeypatch):
    sounds.fsdd(tmp_path / "raw", indices=(5, 10, 11))
    caches = []
    for threads in (1, 3):
        monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
        path = prepare(settings(dataset="fsdd"), tmp_path / "raw", tmp_path / str(threads), say=lambda line: None)
        caches.append(path.read_bytes())
    assert caches[0] == caches[1]


def test_a_bad_layout_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"no \*.wav file here; expected .*/recordings/<digit>_<speaker>_<index>.wav"):
        fsdd.find(tmp_path)
    (path,) = sounds.fsdd(tmp_path, indices=(12,), digits=(1,))
    with pytest.raises(InputError, match="found no index below 12"):
        fsdd.find(tmp_path)
    path.rename(path.with_name("ten_ann_0.wav"))
    with pytest.raises(InputError, match="ten_ann_0.wav: expected a name like"):
        fsdd.find(tmp_path)


def test_a_bad_recording_is_named_and_leaves_no_cache(tmp_path, build):
    paths = sounds.fsdd(tmp_path / "raw")
    paths[7].write_bytes(paths[7].read_bytes()[:90])
    with pytest.raises(InputError, match=r"3_ann_10.wav, byte 44: expected 1800 bytes of samples, found 46"):
        build(tmp_path / "raw")
    assert not list((tmp_path / "cache").iterdir())


def test_real_recordings(tmp_path, build):
    """A part of them: one speaker."""
    real = recordings("fsdd") / "recordings"
    for path in real.glob("*_theo_*.wav"):
        if int(path.stem.split("_")[2]) < 15:
            (tmp_path / path.name).symlink_to(path)
    cache = build(tmp_path)
    verify_cache(cache.path)
    assert (len(cache.train), len(cache.test)) == (50, 50)
    assert 0.05 < len(cache.train.step) / (50 * 100 * 78) < 0.4
