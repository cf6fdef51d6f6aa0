from collections import Counter

import numpy as np
import pytest
import sounds
from test_ti46 import settings, write

from data_prep import prepare, ti46
from data_prep.encode import encode_cochleagram
from data_prep.lyon import lyon
from data_prep.wav import read_wav
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache


@pytest.fixture
def build(tmp_path):
    def build(raw=tmp_path / "raw", **change):
        return open_cache(prepare(settings(**change), raw, tmp_path / "cache", say=build.said.append))

    build.said = []
    return build


@pytest.mark.parametrize("make", [sounds.riff, sounds.sphere])
def test_samples_keep_ids_labels_and_order(tmp_path, build, make):
    sounds.ti46(tmp_path / "raw" / "ti_alpha", speakers=("f1", "m8"), make=make)
    cache = build()
    verify_cache(cache.path)
    assert cache.ids("train") == [f"0{c}{s}set{t}" for c in "acz" for s in ("f1", "m8") for t in (0, 9)]
    assert cache.ids("test") == [f"0{c}{s}s3t1" for c in "acz" for s in ("f1", "m8")]
    assert cache.test.labels.tolist() == [0, 0, 2, 2, 25, 25] and cache.meta.class_names[25] == "z"
    assert cache.meta.provenance == "real" and cache.meta.encoding["layout"] == "wav"
    assert cache.meta.notes["recordings absent, of the 26 x (10 + 16) that a speaker should have"] == 1352 - 18
    assert any("12 train, 6 test samples" in line for line in build.said)
    assert any("2 speakers" in line for line in build.said)
    assert build(tmp_path / "raw" / "ti_alpha").path == cache.path  # either folder may be given


def test_names_match_in_any_case(tmp_path, build):
    for path in sounds.ti46(tmp_path / "raw" / "TI_ALPHA"):
        path.rename(path.with_name(path.name.upper()))
    (tmp_path / "raw" / "TI_ALPHA" / "train").rename(tmp_path / "raw" / "TI_ALPHA" / "TRAIN")
    cache = build()
    assert cache.ids("test") == ["0af1s3t1", "0cf1s3t1", "0zf1s3t1"] and len(cache.train) == 6


def test_events_are_those_of_the_front_end(tmp_path, build):
    path = sounds.ti46(tmp_path / "raw" / "ti_alpha", letters="q")[0]
    expected = encode_cochleagram(lyon(read_wav(path)[0]), settings(), Counter())
    one = build().train[np.array([0])]
    assert len(one.step)
    for name, array in zip(("step", "channel", "value"), expected):
        np.testing.assert_array_equal(getattr(one, name), array)
    assert not any("resampled" in line for line in build.said)


def test_another_rate_is_resampled(tmp_path, build):
    sounds.ti46(tmp_path / "raw", make=lambda x: sounds.sphere(x, rate=16000))
    build()
    assert any("9 recordings resampled from 16000 to 12500" in line for line in build.said)


def test_what_is_no_letter_is_skipped_and_counted(tmp_path, build):
    sounds.ti46(tmp_path / "raw")
    for name in ("05f1set0.wav", "yesf1set0.wav"):
        (tmp_path / "raw" / "train" / "f1" / name).touch()
    (tmp_path / "raw" / "train" / "f1" / "readme.txt").touch()
    assert len(build().train) == 6
    assert any("2 sound files skipped" in line for line in build.said)


def test_features_are_taken_first_if_both_layouts_are_there(tmp_path):
    sounds.ti46(tmp_path / "ti_alpha")
    write(tmp_path, "train", 0)
    write(tmp_path, "test", 0)
    assert ti46.find(tmp_path).layout == "lyon"


@pytest.mark.parametrize("name, message", [
    ("train/m1/0af1set1.wav", "0af1set1.wav: the name says speaker f1, the folder 'm1'"),
    ("train/f1/0af1s1t0.wav", "0af1s1t0.wav: by its name, not a file of the train part"),
    ("test/f1/0af1set1.wav", "0af1set1.wav: by its name, not a file of the test part"),
    ("train/f1/0AF1SET0.WAV", "0af1set0.wav: the same recording as .*0AF1SET0.WAV"),
])
def test_a_file_in_the_wrong_place_is_named(tmp_path, build, name, message):
    sounds.ti46(tmp_path / "raw")
    path = tmp_path / "raw" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sounds.riff(sounds.word(1)))
    with pytest.raises(InputError, match=message):
        build()


def test_both_layouts_are_named_if_there_is_none(tmp_path):
    with pytest.raises(InputError, match=r"no recordings; expected .*c<class>.dat, or .*/ti_alpha/{train,test}"):
        ti46.find(tmp_path)
