import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.bsa import bsa
from data_prep.encode import bin_spikes, encode_cochleagram


def naive_bsa(frames):
    """The format's description, word by word, for one channel."""
    kernel = [math.exp(-((i - 12) ** 2) / 25) for i in range(24)]
    kernel = [tap / sum(kernel) for tap in kernel]
    x = [2000 * frame for frame in frames for _ in range(10)] + [0.0] * 24
    spikes = []
    for i in range(10 * len(frames)):
        e1 = sum(abs(x[i + j] - kernel[j]) for j in range(24))
        e2 = sum(abs(x[i + j]) for j in range(24))
        spikes.append(e1 < e2 - 0.6)
        if spikes[-1]:
            for j in range(24):
                x[i + j] -= kernel[j]
    return spikes


def cochleagram(channels=5, frames=40, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.random(channels * frames), np.ones(4) / 4, "same").reshape(channels, frames)
    return smooth * np.logspace(-6, -3, channels)[:, None]


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_bsa_meets_the_naive_reference(frames):
    x = cochleagram(frames=frames)
    np.testing.assert_array_equal(bsa(x), [naive_bsa(row) for row in x.tolist()])


def test_bsa_spikes_follow_the_signal_and_leave_it_alone():
    x = cochleagram(frames=100)
    before = x.copy()
    spikes = bsa(x)
    np.testing.assert_array_equal(x, before)
    assert spikes.shape == (5, 1000) and spikes.dtype == bool
    assert 0 < spikes[-1].sum() and (np.diff(spikes.sum(1)) >= 0).all()
    assert not bsa(np.zeros((3, 9))).any()


def test_bsa_of_a_transposed_view():
    x = np.asfortranarray(cochleagram())
    np.testing.assert_array_equal(bsa(x), bsa(np.ascontiguousarray(x)))


def settings(encoding="bsa", value="binary", steps=100):
    return SimpleNamespace(encoding=encoding, value=value, steps=steps)


def dense(step, channel, value, steps, channels):
    x = np.zeros((steps, channels), value.dtype)
    x[step, channel] = value
    return x


@pytest.mark.parametrize("value", ["binary", "count"])
def test_seven_bsa_steps_make_a_bin_and_late_ones_are_counted(value):
    x = cochleagram(frames=80)
    counts = np.zeros((120, 5), int)
    for channel, row in enumerate(x.tolist()):
        for step, spike in enumerate(naive_bsa(row)):
            counts[step // 7, channel] += spike
    notes = Counter()
    events = encode_cochleagram(x, settings(value=value), notes)
    assert events[2].dtype == np.uint8
    expected = counts[:100] if value == "count" else counts[:100] > 0
    np.testing.assert_array_equal(dense(*events, 100, 5), expected)
    assert notes["spikes dropped, past the last step"] == counts[100:].sum() > 0
    if value == "binary":
        assert notes["spikes merged, a bin being 0 or 1"] == (counts[:100] - (counts[:100] > 0)).sum() > 0


@pytest.mark.parametrize("frames", [30, 100, 120])
def test_intensities_are_frames_times_2000(frames):
    x, notes = cochleagram(frames=frames), Counter()
    x[2, 3] = 0
    step, channel, value = encode_cochleagram(x, settings("intensity"), notes)
    assert value.dtype == np.float32 and (value > 0).all()
    expected = np.zeros((100, 5), np.float32)
    expected[: min(frames, 100)] = (2000 * x).T[:100]
    np.testing.assert_array_equal(dense(step, channel, value, 100, 5), expected)
    assert notes["frames dropped, past the last step"] == max(0, frames - 100)


def test_counts_saturate_and_say_so():
    notes = Counter()
    step, channel = np.r_[np.full(300, 2), 0], np.r_[np.full(300, 1), 3]
    got = bin_spikes(step, channel, settings(value="count"), 4, notes)
    np.testing.assert_array_equal(got, [[0, 2], [3, 1], [1, 255]])
    assert notes["bins saturated at 255"] == 1


def test_no_spikes():
    none = np.zeros(0, int)
    assert [len(a) for a in bin_spikes(none, none, settings(), 4, Counter())] == [0, 0, 0]
