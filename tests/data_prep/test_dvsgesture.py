import re

import numpy as np
import pytest
from event_files import (
    HEADER, aedat_bytes, dense, imu6, labels_text, packet, polarity, random_events, settings, unpacked, write_gestures,
    write_lists, write_npy, write_recording,
)

from data_prep import prepare
from hrmas_sparse.cli import main
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import open_cache, verify_cache

START = 2_000_000
TRIALS = [(3, START, START + 1_900_000), (11, START + 2_000_000, START + 3_000_000)]


def recording(seed, n=800):
    return [(x, y, p, START - 500 + t) for x, y, p, t in random_events(np.random.default_rng(seed), n, 128, 3_100_000)]


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    for seed, name in enumerate(("user01_fluorescent", "user23_led", "user24_led")):
        write_recording(root, name, recording(seed), TRIALS)
    write_lists(root, ["user01_fluorescent", "user23_led"], ["user24_led"])
    return root


def build(raw, said=None, **change):
    say = said.append if said is not None else lambda line: None
    return open_cache(prepare(settings("dvsgesture", **change), raw, raw.parent / "cache", say=say))


def within(events, start, end):
    return [e for e in events if start <= e[3] < end]


@pytest.mark.parametrize("value", ["binary", "count"])
def test_trials_are_cut_pooled_and_binned_from_their_start(raw, value):
    cache = build(raw, value=value)
    verify_cache(cache.path)
    assert cache.ids("train") == ["user01_fluorescent/1", "user01_fluorescent/2", "user23_led/1", "user23_led/2"]
    assert cache.train.labels.tolist() == [2, 10] * 2 and cache.test.labels.tolist() == [2, 10]
    assert (cache.meta.steps, cache.meta.channels, cache.meta.classes) == (400, 2048, 11)
    for index in range(4):
        _, start, end = TRIALS[index % 2]
        wanted = dense(within(recording(index // 2), start, end), 4000, 400, 128, 4, start)
        got = unpacked(cache.train, index)
        np.testing.assert_array_equal(got, np.minimum(wanted, 1) if value == "binary" else wanted)
    assert cache.meta.notes["spikes dropped, past the last step"] > 0


def put(raw, content, name="user01_fluorescent"):
    (raw / f"{name}.aedat").write_bytes(content)


def first(cache):
    one = cache.train[np.array([0])]
    return one.step.tolist(), one.channel.tolist()


def test_channels_are_polarity_y_x(raw):
    events = [(0, 0, 0, START), (127, 3, 0, START + 3999), (4, 127, 1, START + 4000), (0, 0, 0, START + 2_000_000)]
    put(raw, aedat_bytes(events))
    assert first(build(raw)) == ([0, 0, 1], [0, 31, 1024 + 31 * 32 + 1])


def test_time_goes_on_over_2_to_the_31(raw):
    border = 1 << 31
    events = [(0, 0, 0, border - 2000), (0, 4, 0, border - 1), (0, 8, 0, border), (0, 12, 1, border + 6000)]
    put(raw, aedat_bytes(events))
    (raw / "user01_fluorescent_labels.csv").write_text(labels_text([(1, border - 2000, border + 7000)]))
    assert first(build(raw)) == ([0, 0, 0, 2], [0, 32, 64, 1024 + 96])


def test_invalid_events_unused_capacity_and_other_packets(raw):
    body = polarity([(0, 0, 0, START, 1), (8, 0, 0, START + 1, 0), (4, 0, 0, START + 5000, 1)], spare=7)
    later = polarity([(0, 0, 0, START + 2_000_000)])
    put(raw, HEADER + imu6() + packet(2, bytes(100), 50, 2) + body + packet(1, b"", 8, 0) + later)
    cache = build(raw)
    assert first(cache) == ([0, 1], [0, 1])
    assert cache.meta.notes["invalid events dropped"] == 1
    assert cache.meta.notes["packets of other types passed over"] > 2


def test_what_lies_outside_or_back_in_time_is_counted(raw):
    events = [(128, 0, 0, START), (0, 32767, 0, START), (0, 0, 0, START + 9000), (0, 0, 0, START + 1),
              (0, 0, 0, START + 2_000_000)]
    put(raw, aedat_bytes(events))
    cache = build(raw)
    assert first(cache) == ([0, 2], [0, 0])
    notes = cache.meta.notes
    assert notes["events outside 128 x 128 dropped"] == 2 and notes["events earlier than the one before"] == 1


def test_a_trial_that_runs_into_the_next_is_clipped_and_named(raw):
    (raw / "user23_led_labels.csv").write_text(labels_text([(9, START, START + 900_000), (10, START + 800_000, 9**9)]))
    said = []
    cache = build(raw, said)
    assert any("1 trial end moved to the next one's start: user23_led, class 9 (line 2)" in line for line in said)
    wanted = dense(within(recording(1), START, START + 800_000), 4000, 400, 128, 4, START)
    np.testing.assert_array_equal(unpacked(cache.train, 2), np.minimum(wanted, 1))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "byte 0: expected the lines of text"),
        (b"#!AER-DAT2.0\r\n#!END-HEADER\r\n", "expected AEDAT 3.1, found b'#!AER-DAT2.0'"),
        (HEADER[:-16], "expected the lines of text of AEDAT 3.1"),
        (HEADER[:-14] + imu6(), "expected the lines of text of AEDAT 3.1"),
        (HEADER + imu6() + imu6()[:20], f"packet at byte {len(HEADER) + 100}: expected a header of 28 .* after 20"),
        (HEADER + imu6()[:-1], f"packet at byte {len(HEADER)}: expected 2 events of 36 bytes"),
        (HEADER + packet(1, bytes(16), 8, 2, capacity=2**32 - 1), "expected 4294967295 events of 8 bytes"),
        (HEADER + packet(1, bytes(16), 8, 3, capacity=2), "valid <= number <= capacity, found 3, 3, 2"),
        (HEADER + packet(1, bytes(32), 16, 2), "polarity events of 8 bytes, timestamp at byte 4, found 16 and 4"),
        (HEADER + packet(1, bytes(4) + b"\0\0\0\x80", 8, 1), f"event at byte {len(HEADER) + 28}: negative timestamp"),
        (HEADER, r"_labels.csv, line 2: no event of user01_fluorescent.aedat between"),
    ],
)
def test_a_bad_recording_is_explained(raw, content, message):
    put(raw, content)
    with pytest.raises(InputError, match=message) as error:
        build(raw)
    assert str(raw / "user01_fluorescent") in str(error.value)
    assert list((raw.parent / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "line 1: expected class,startTime_usec,endTime_usec, found ''"),
        ("class,startTime_usec,endTime_usec\n", "expected a trial a line, found none"),
        (labels_text([(0, 1, 2)]), "line 2: expected a class 1..11, found 0"),
        (labels_text([(1, 1, 2), (12, 3, 4)]), "line 3: expected a class 1..11, found 12"),
        (labels_text([(1, 5, 5)]), "line 2: the trial ends at 5 us, not after its start"),
        (labels_text([(1, 5, 9), (2, 5, 9)]), "line 3: starts at 5 us, not after the trial before"),
        (labels_text([(1, 5)]), "line 2: expected three whole numbers"),
        (labels_text([(1, "nan", 9)]), "line 2: expected three whole numbers"),
        (labels_text([(1, -5, 9)]), "line 2: expected three whole numbers"),
        (labels_text([(1, "1_0", 900)]), "line 2: expected three whole numbers"),
        (labels_text([(1, "٣", 900)]), "byte 36: expected plain text"),
        ("x" * (1 << 20) + "y", "expected a short text, found 1,048,577 bytes"),
        (labels_text([(1, 10**15, 10**16)]), "line 2: no event"),
    ],
)
def test_bad_labels_are_explained(raw, text, message):
    (raw / "user23_led_labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        build(raw)
    assert str(raw / "user23_led_labels.csv") in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "trials_to_test.txt: expected names of recordings, found none"),
        ("user24_led.aedat\nuser01_fluorescent.aedat\n", "line 2: user01_fluorescent.aedat is in .*train.txt, line 1"),
        ("\nuser25_led.aedat\n", "line 2: .*user25_led.aedat is not there"),
        ("../raw/user24_led.aedat\n", "line 1: expected a name like user01_led.aedat"),
        ("user24_led\n", "line 1: expected a name like"),
    ],
)
def test_bad_lists_are_explained(raw, text, message):
    (raw / "trials_to_test.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        build(raw)


def test_the_layout_is_found_or_explained(raw, tmp_path):
    (raw / "trials_to_test.txt").unlink()
    with pytest.raises(InputError, match="trials_to_test.txt: no such file"):
        build(raw)
    write_lists(raw, ["user01_fluorescent", "user23_led"], ["user24_led"])
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(InputError, match="expected trials_to_train.txt .* or the folders ibmGestureTrain"):
        build(outside)
    raw.rename(outside / "DvsGesture")
    assert len(build(outside).train) == 4


def test_preprocessed_copies(tmp_path):
    written = write_npy(tmp_path / "npy")
    cache = build(tmp_path / "npy")
    verify_cache(cache.path)
    assert cache.ids("train") == ["user01_led/0", "user02_lab/10"] and cache.ids("test") == ["user24_led/3"]
    assert cache.train.labels.tolist() == [0, 10] and cache.meta.encoding["layout"] == "npy"
    for index, array in enumerate(list(written.values())[:2]):
        wanted = dense(array.tolist(), 4, 400, 128, 4, array[0, 3])
        np.testing.assert_array_equal(unpacked(cache.train, index), np.minimum(wanted, 1))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a[:0], r"expected numbers of shape \(events, 4\)"),
        (lambda a: a[:, :3], r"expected numbers of shape \(events, 4\).*\(50, 3\)"),
        (lambda a: a.astype("S4"), r"expected numbers"),
        (lambda a: a + np.r_[[[0, 0, 2, 0]], np.zeros((49, 4))], "row 0: polarity is [23].0"),
        (lambda a: a * [100, 1, 1, 1], "row .*: x is"),
        (lambda a: a - [0, 0, 0, 5000], "row 0: time is -"),
        (lambda a: np.where(np.arange(200).reshape(50, 4) == 7, np.nan, a), "row 1: time is nan"),
        (lambda a: a * [1, 1, 1, 1000], "row 49: 1,.* s after the first event; times must be in ms"),
    ],
)
def test_bad_preprocessed_copies_are_explained(tmp_path, change, message):
    written = write_npy(tmp_path / "npy")
    path = tmp_path / "npy/ibmGestureTrain/user01_led/0.npy"
    np.save(path, change(next(iter(written.values()))))
    with pytest.raises(InputError, match=message) as error:
        build(tmp_path / "npy")
    assert str(path) in str(error.value)


def test_a_pickle_is_not_opened(tmp_path):
    write_npy(tmp_path / "npy")
    path = tmp_path / "npy/ibmGestureTrain/user01_led/0.npy"
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="0.npy: expected a NumPy array file"):
        build(tmp_path / "npy")
    path.rename(path.with_name("11.npy"))
    with pytest.raises(InputError, match="11.npy: expected a name 0.npy .. 10.npy"):
        build(tmp_path / "npy")


def test_threads_do_not_change_the_cache(tmp_path, monkeypatch):
    root = tmp_path / "gestures"
    write_gestures(root, [1, 2, 3, 4, 24], n=300)
    caches = []
    for threads in (1, 3):
        monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
        path = prepare(settings("dvsgesture"), root, tmp_path / str(threads), say=lambda line: None)
        caches.append(path.read_bytes())
    assert caches[0] == caches[1]


@pytest.mark.slow
def test_from_raw_files_to_a_tested_network(tmp_path, monkeypatch, capsys):
    """The whole job on gestures that a network can tell apart: circles at eleven places."""
    monkeypatch.chdir(tmp_path)
    write_gestures(tmp_path / "gestures", [1, 2, 3, 4, 5, 6, 24, 25])
    small = "network.neurons=64 network.motif_sizes=[2,4] training.search_epochs=2 training.retrain_epochs=12"
    command = ["search", "dvsgesture", "--raw", "gestures", "--profile", "demo"]
    for setting in small.split():
        command += ["--set", setting]
    assert main(command) == 0
    found = re.search(r"test accuracy +([\d.]+) % +of 22 samples", capsys.readouterr().out)
    assert float(found[1]) > 50  # 9 % is chance
    assert main(["evaluate", "dvsgesture-s0", "--split", "test"]) == 0
