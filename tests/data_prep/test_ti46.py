import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from recordings import recordings

from data_prep import prepare, ti46
from data_prep.bsa import bsa
from hrmas_sparse.search.counts import count_baseline
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache


def settings(**change):
    fields = {"dataset": "ti46", "encoding": "bsa", "value": "binary", "steps": 100, "partition": "official"}
    return SimpleNamespace(**(fields | change))


def features(seed, frames=12):
    return np.random.default_rng(seed).random((78, frames)) * 1e-3


def write(root, split, number, speaker="f1", utterance=1, x=None, text=None):
    path = root / split / str(number) / f"{speaker}_u{utterance}_c{number}.dat"
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        x = features(number) if x is None else x
        text = "\n".join("   ".join(f"{v:.7e}" for v in row) for row in x) + "\n"
    path.write_text(text)
    return path


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    for split, utterances in (("train", (1, 2, 10)), ("test", (6,))):
        for number in (0, 3, 25):
            for utterance in utterances:
                write(root, split, number, utterance=utterance)
    return root


@pytest.fixture
def build(raw, tmp_path):
    said = []

    def build(raw=raw, **change):
        path = prepare(settings(**change), raw, tmp_path / "cache", say=said.append)
        return path

    build.said = said
    return build


def test_samples_keep_ids_labels_and_order(build):
    cache = open_cache(build())
    verify_cache(cache.path)
    assert cache.ids("train") == [f"f1_u{u}_c{c}" for c in (0, 3, 25) for u in (1, 2, 10)]
    assert cache.train.labels.tolist() == [0, 0, 0, 3, 3, 3, 25, 25, 25] and cache.test.labels.tolist() == [0, 3, 25]
    assert cache.meta.class_names[25] == "z" and cache.meta.provenance == "real"
    assert (cache.meta.steps, cache.meta.channels, cache.meta.classes) == (100, 78, 26)
    assert any("9 train, 3 test samples (real)" in line for line in build.said)
    assert any("train has no b" in line for line in build.said)


def test_classes_may_be_numbered_from_one(tmp_path, build):
    root = tmp_path / "one"
    for split in ("train", "test"):
        for number in (1, 26):
            write(root, split, number)
    cache = open_cache(build(root))
    assert cache.train.labels.tolist() == [0, 25] and cache.ids("test") == ["f1_u1_c1", "f1_u1_c26"]


def test_events_are_those_of_bsa(raw, build):
    events = open_cache(build(value="count")).train
    spikes = bsa(np.loadtxt(raw / "train/3/f1_u2_c3.dat"))
    counts = np.zeros((100, 78), int)
    np.add.at(counts, (np.nonzero(spikes)[1] // 7, np.nonzero(spikes)[0]), 1)
    one = events[np.array([4])]
    got = np.zeros_like(counts)
    got[one.step, one.channel] = one.value
    np.testing.assert_array_equal(got, counts)


def test_intensity(raw, build):
    cache = open_cache(build(encoding="intensity"))
    one = cache.train[np.array([0])]
    assert one.value.dtype == np.float32
    x = np.loadtxt(raw / "train/0/f1_u1_c0.dat")
    got = np.zeros((100, 78), np.float32)
    got[one.step, one.channel] = one.value
    np.testing.assert_array_equal(got[:12], (2000 * x.T).astype(np.float32))


def test_silence_is_an_empty_sample(raw, build):
    write(raw, "train", 7, x=np.zeros((78, 5)))
    events = open_cache(build()).train
    assert np.diff(events.indptr)[events.labels == 7].tolist() == [0]


def test_a_cache_is_reused_until_settings_or_files_change(raw, build):
    path = build()
    first = os.stat(path)
    assert build() == path and os.stat(path).st_mtime_ns == first.st_mtime_ns and os.stat(path).st_ino == first.st_ino
    other = {build(value="count"), build(steps=50), build(encoding="intensity"), path}
    assert len(other) == 4
    write(raw, "train", 3, x=features(99))
    assert build() not in other
    shutil.move(raw, raw.with_name("moved"))
    write(raw.with_name("moved"), "train", 3)
    assert build(raw.with_name("moved")) == path  # the files count, not where they lie


def test_a_damaged_or_foreign_cache_is_rebuilt(build):
    path, other = build(), build(value="count")
    whole = path.read_bytes()
    for bad in (b"", whole[: len(whole) // 2], other.read_bytes()):
        path.write_bytes(bad)
        assert build() == path and path.read_bytes() == whole
    assert any("building (another encoding)" in line for line in build.said)


def test_an_older_schema_is_rebuilt(build, monkeypatch):
    path = build()
    for place in ("cache", "writer"):
        monkeypatch.setattr(f"hrmas_sparse.data.{place}.SCHEMA", 99)
    build()
    assert open_cache(path).meta.dataset == "ti46" and any("schema 99" in line for line in build.said)


def rows(n=78, row="1e-3 2e-3 3e-3"):
    return [row] * n


@pytest.mark.parametrize(
    "lines, message",
    [
        (rows(77), "expected 78 lines, one a channel, found 77"),
        (rows(79), "expected 78 lines, one a channel, found 79"),
        ([], "expected 78 lines, one a channel, found 0"),
        (rows(40) + ["1e-3 2e-3"] + rows(37), "line 41: expected 3 numbers as in line 1, found 2"),
        (rows(40) + [""] + rows(37), "line 41: expected 3 numbers"),
        (rows(5) + ["1 nan 3"] + rows(72), "line 6, column 2: expected a number from 0 to 1e.06, found nan"),
        (rows(5) + ["1 2 inf"] + rows(72), "line 6, column 3: .* found inf"),
        (rows(5) + ["-1e-9 2 3"] + rows(72), "line 6, column 1: .* found -1e-09"),
        (rows(77) + ["1 2 x"], "line 78: expected numbers"),
        (rows(77) + ["1 2 1_0"], "line 78: expected numbers"),
        (rows(77) + ["1 2 \x00"], "line 78: expected numbers"),
    ],
)
def test_a_bad_file_is_named_with_its_line(raw, tmp_path, build, lines, message):
    path = write(raw, "test", 25, text="\n".join(lines))
    with pytest.raises(InputError, match=message) as error:
        build()
    assert str(error.value).startswith(str(path))
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_line_endings_do_not_matter(tmp_path, ending):
    path = tmp_path / "a.dat"
    path.write_bytes((("\r\n" if "\r" in ending else "\n").join(rows()) + ending).encode())
    assert ti46.read_dat(path).shape == (78, 3)


def test_a_bad_layout_is_explained(raw, tmp_path, build):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        build(tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InputError, match=r"hollow: no recordings; expected"):
        build(tmp_path / "hollow")
    stray = write(raw, "train", 3).rename(raw / "train/3/f1.dat")
    with pytest.raises(InputError, match="f1.dat: expected a name like"):
        build()
    stray.rename(raw / "train/3/f1_u1_c4.dat")
    with pytest.raises(InputError, match="says class 4, the folder '3'"):
        build()
    (raw / "train/3/f1_u1_c4.dat").unlink()
    write(raw, "train", 26)
    with pytest.raises(InputError, match=r"classes \[0\] beside"):
        build()


def test_prepare_refuses_what_no_reader_makes(raw, build, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="data.dataset: expected one of .*ti46.*, found 'ti64'"):
        build(dataset="ti64")
    with pytest.raises(InputError, match="data.encoding: expected 'bsa' or 'intensity' for .* ti46, found 'bin'"):
        build(encoding="bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="data/raw/ti46: no such folder"):
        build(None)
    shutil.copytree(raw, tmp_path / "data/raw/ti46")
    assert build(None) == build()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        prepare(settings(), raw, tmp_path / "file" / "cache")


def test_real_recordings(tmp_path):
    said = []
    path = prepare(settings(), recordings("ti46_alpha_lyon"), tmp_path, say=said.append)
    verify_cache(path)
    cache = open_cache(path)
    assert (len(cache.train), len(cache.test)) == (520, 208)
    assert np.bincount(cache.train.labels).tolist() == [20] * 26
    assert np.bincount(cache.test.labels).tolist() == [8] * 26
    assert cache.meta.notes["spikes dropped, past the last step"] > 0
    assert not any("missing" in line for line in said)
    assert 0.7 < count_baseline(cache) < 0.95
