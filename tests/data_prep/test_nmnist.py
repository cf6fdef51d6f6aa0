import numpy as np
import pytest
from event_files import bin_bytes, dense, settings, unpacked, write_nmnist
from recordings import recordings

from data_prep import prepare
from hrmas_sparse.search.counts import count_baseline
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache

ONE = ("Train", 3, "00001")


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def build(raw, **change):
    return open_cache(prepare(settings("nmnist", **change), raw, raw.parent / "cache", say=lambda line: None))


def put(raw, content, key=ONE):
    path = raw / key[0] / str(key[1]) / f"{key[2]}.bin"
    path.write_bytes(content if isinstance(content, bytes) else bin_bytes(content))
    return path


@pytest.mark.parametrize("value", ["binary", "count"])
def test_events_land_in_bins_of_three_milliseconds(raw, value):
    written = write_nmnist(raw, n=400)
    cache, late = build(raw, value=value), 0
    verify_cache(cache.path)
    assert cache.ids("train") == ["3/00001", "7/00002"] and cache.ids("test") == ["3/00001"]
    assert cache.train.labels.tolist() == [3, 7] and cache.test.labels.tolist() == [3]
    assert (cache.meta.steps, cache.meta.channels, cache.meta.classes) == (100, 2312, 10)
    for (part, *_), index in zip(written, (0, 1, 0)):
        events = written[list(written)[index] if part == "Train" else list(written)[2]]
        late += sum(t >= 300_000 for *_, t in events)
        wanted = dense(events, 3000, 100, 34)
        got = unpacked(cache.train if part == "Train" else cache.test, index)
        np.testing.assert_array_equal(got, np.minimum(wanted, 1) if value == "binary" else wanted)
    assert cache.meta.notes["spikes dropped, past the last step"] == late > 0


def test_channels_are_polarity_y_x_and_bins_start_on_whole_steps(raw):
    write_nmnist(raw)
    put(raw, [(0, 0, 0, 0), (33, 0, 0, 2999), (0, 1, 0, 3000), (5, 33, 1, 299_999), (1, 1, 1, 300_000)])
    one = build(raw).train[np.array([0])]
    assert one.step.tolist() == [0, 0, 1, 99]
    assert one.channel.tolist() == [0, 33, 34, 34 * 34 + 33 * 34 + 5]


def test_overflow_markers_move_later_events_and_are_dropped(raw):
    write_nmnist(raw)
    marker = bytes((7, 240, 255, 255, 255))
    put(raw, bin_bytes([(1, 2, 0, 100)]) + marker + bin_bytes([(1, 2, 0, 200)]) + marker + bin_bytes([(1, 2, 0, 300)]))
    cache = build(raw)
    assert cache.train[np.array([0])].step.tolist() == [0, 8392 // 3000, 16684 // 3000]
    assert not any(n for what, n in cache.meta.notes.items() if "outside" in what or "earlier" in what)


def test_what_lies_outside_or_back_in_time_is_counted(raw):
    write_nmnist(raw)
    put(raw, [(34, 0, 0, 10), (0, 34, 1, 20), (255, 255, 1, 25), (3, 3, 1, 9000), (3, 3, 0, 30)])
    cache = build(raw)
    notes = cache.meta.notes
    assert notes["events outside 34 x 34 dropped"] == 3 and notes["events earlier than the one before"] == 1
    assert cache.train[np.array([0])].step.tolist() == [0, 3]


@pytest.mark.parametrize("length, message", [(0, "the file is empty"), (4, "byte 0: "), (299, "byte 295: .* after 4;")])
def test_a_file_cut_short_is_named_with_the_byte(raw, length, message):
    write_nmnist(raw)
    path = put(raw, (raw / "Train/3/00001.bin").read_bytes()[:length])
    with pytest.raises(InputError, match=message) as error:
        build(raw)
    assert str(path) in str(error.value) and list((raw.parent / "cache").iterdir()) == []


def test_a_bad_layout_is_explained(raw):
    raw.mkdir()
    with pytest.raises(InputError, match=r"raw: no recordings; expected"):
        build(raw)
    write_nmnist(raw, [ONE])
    with pytest.raises(InputError, match=r"raw: no test sample of nmnist in it"):
        build(raw)
    write_nmnist(raw, [ONE, ("Test", 3, "00001"), ("Train", 10, "00001")])
    with pytest.raises(InputError, match="Train/10: expected a folder 0..9"):
        build(raw)


def test_leftovers_of_other_systems_are_passed_over(raw):
    write_nmnist(raw)
    for name in ("Train/3/._00001.bin", "Train/3/Thumbs.db", "Train/.DS_Store"):
        (raw / name).write_bytes(b"not an event")
    assert build(raw).ids("train") == ["3/00001", "7/00002"]


def test_real_recordings(tmp_path):
    path = prepare(settings("nmnist"), recordings("nmnist"), tmp_path, say=lambda line: None)
    verify_cache(path)
    cache = open_cache(path)
    assert (len(cache.train), len(cache.test)) == (850, 150)
    assert np.bincount(cache.train.labels).min() > 50
    notes = {what: count for what, count in cache.meta.notes.items() if count}
    assert set(notes) == {"spikes dropped, past the last step", "spikes merged, a bin being 0 or 1"}
    assert path.stat().st_size < 1.1 * sum(p.stat().st_size for p in recordings("nmnist").glob("*/*/*.bin"))


@pytest.mark.slow
def test_real_recordings_are_told_apart_by_their_counts(tmp_path):
    cache = open_cache(prepare(settings("nmnist"), recordings("nmnist"), tmp_path, say=lambda line: None))
    assert 0.7 < count_baseline(cache) < 0.98


def test_one_split_is_enough_to_score_it(raw):
    write_nmnist(raw, [("Test", 3, "00001")])
    path = prepare(settings("nmnist"), raw, raw.parent / "cache", say=lambda line: None, needed=("test",))
    assert len(open_cache(path).train) == 0 and len(open_cache(path).test) == 1
    with pytest.raises(InputError, match="no train sample"):  # its cache is there, and still not enough to learn from
        prepare(settings("nmnist"), raw, raw.parent / "cache", say=lambda line: None)
