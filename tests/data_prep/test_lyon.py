import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from recordings import recordings
from sounds import word

from data_prep import check, fsdd, ti46
from data_prep.lyon import DECIMATION, RATE, lyon
from data_prep.speech import hear
from hrmas_sparse.cli import main
from hrmas_sparse.storage.errors import InputError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def golden():
    return GOLDEN


# ---- the ear as the format's description has it, line by line ----------------------------------------


def naive_sections(fs=12500.0, Q=8.0, g=0.25):
    """Numerator and denominator of every section, front filters first."""
    Eb, z, sharp, corner = 1000.0, 1.5, 5.0, 300.0

    def b(f):
        return math.sqrt(f**2 + Eb**2) / Q

    def E(f):
        return f + math.sqrt(f**2 + Eb**2)

    def second_order(f, q):
        rho, theta = math.exp(-math.pi * f / (q * fs)), 2 * math.pi * (f / fs) * math.sqrt(1 - 1 / (4 * q**2))
        return [1.0, -2 * rho * math.cos(theta), rho**2]

    def gain(num, den, z):
        return abs(sum(c * z**-i for i, c in enumerate(num)) / sum(c * z**-i for i, c in enumerate(den)))

    top = fs / 2 - b(fs / 2) * g * z + b(fs / 2) * g
    low = Eb / math.sqrt(4 * Q**2 - 1)
    n = math.floor(Q * (math.log(E(top)) - math.log(E(low))) / g)
    f = [(E(top) * math.exp(-k * g / Q) - Eb**2 * math.exp(k * g / Q) / E(top)) / 2 for k in range(1, n + 1)]
    sections = [([0.0, 1.0, -math.exp(-2 * math.pi * corner / fs)], [1.0, 0.0, 0.0]),
                ([1.0, 0.0, -1.0], second_order(top, f[0] / b(f[0])))]
    sections = [([c / gain(num, den, 1j) for c in num], den) for num, den in sections]
    for k in range(n):
        zero = f[k] + b(f[k]) * g * z
        num, den = second_order(zero, sharp * zero / b(f[k])), second_order(f[k], f[k] / b(f[k]))
        wanted = f[max(k, 1) - 1] / f[max(k, 1)]
        sections.append(([c * wanted / gain(num, den, 1.0) for c in num], den))
    return sections


def naive_lyon(wave, fs=12500.0, D=200):
    """(channels, frames): each section over the whole signal, then sample by sample."""
    channels = []
    for num, den in naive_sections():
        x, y = (channels[-1] if channels else list(wave)), []
        for t in range(len(x)):
            y.append(sum(num[i] * x[t - i] for i in range(3) if t >= i)
                     - sum(den[i] * y[t - i] for i in (1, 2) if t >= i))
        channels.append(y)
    states = [np.zeros(len(channels)) for _ in range(4)]
    agc = [(0.0032, 0.64), (0.0016, 0.16), (0.0008, 0.04), (0.0004, 0.01)]
    eps_d = 1 - math.exp(-1 / ((D / fs) * 3 * fs))
    inputs, outputs = [np.zeros(len(channels))] * 2, [np.zeros(len(channels))] * 2
    frames = []
    for t in range(len(wave)):
        y = np.maximum(0, np.array([channel[t] for channel in channels]))
        if t % D == 0:
            y[:2] = 0
        for i, (target, tau) in enumerate(agc):
            eps, s = 1 - math.exp(-1 / (tau * fs)), states[i]
            y = np.abs(y * (1 - s))
            beside = np.concatenate([s[:1], s[:-1]]) + s + np.concatenate([s[1:], s[-1:]])
            states[i] = np.minimum(0.9, y * eps / target + (1 - eps) / 3 * beside)
        y = np.concatenate([y[:1], np.maximum(0, y[:-1] - y[1:])])
        outputs.append(eps_d**2 * inputs[-2] + 2 * (1 - eps_d) * outputs[-1] - (1 - eps_d) ** 2 * outputs[-2])
        inputs.append(y)
        if t % D == D - 1:
            frames.append(outputs[-1])
    return np.array(frames).reshape(-1, len(channels))[:, 2:].T


@pytest.mark.parametrize("samples", [199, 200, 1130])
@pytest.mark.parametrize("level", [0.003, 0.9])
def test_as_described(samples, level):
    wave = word(1, samples, level) / 32768
    found, expected = lyon(wave), naive_lyon(wave)
    assert found.shape == expected.shape == (78, samples // 200)
    assert np.abs(found - expected).max(initial=0) <= 1e-10 * expected.max(initial=1)


def test_golden_numbers(golden):
    assert check.lyon_error(golden / "lyon.npz") < 1e-11


def test_silence_and_short_recordings():
    assert not lyon(np.zeros(1000)).any()
    for samples in (0, 1, DECIMATION - 1):
        assert lyon(np.ones(samples)).shape == (78, 0)
    assert lyon(np.ones(DECIMATION)).shape == (78, 1)


def test_a_long_silence_after_a_word_is_not_slow_and_fades():
    found = lyon(np.concatenate([word(2) / 32768, np.zeros(5 * RATE)]))
    assert np.isfinite(found).all() and found[:, -1].max() < 1e-12


def test_loud_and_full_scale_stay_in_range():
    square = np.where(np.arange(4000) // 30 % 2, 1.0, -1.0)
    found = lyon(square)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() < 0.1


def test_a_tone_lights_its_place():
    t = np.arange(RATE) / RATE
    place = [lyon(0.1 * np.sin(2 * np.pi * f * t))[:, 30].argmax() for f in (4000, 1000, 250)]
    assert place == sorted(place) and place[0] < 20 < 40 < place[2]


def test_features_are_like_the_published_ones():
    """The same channels, rate and range: what is tuned to one kind of TI46 features takes the other."""
    published = [ti46.read_dat(path) for path in ti46.find(recordings("ti46_alpha_lyon")).files[::40]]
    ours = [hear(path, Counter()) for path in fsdd.find(recordings("fsdd")).files[::200]]
    for some in (published, ours):
        assert {len(x) for x in some} == {78}
        assert all(10 <= x.shape[1] <= 150 for x in some)
        assert 1e-5 < np.median([x.mean() for x in some]) < 1e-4
        assert 1e-4 < np.median([x.max() for x in some]) < 5e-4
    mean = [np.mean([x.mean() for x in some]) for some in (published, ours)]
    assert 0.5 < mean[0] / mean[1] < 2


# ---- hrmas data check --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    wave = word(3, 1000) / 32768
    numbers = {"waveform": wave, "sample_rate": 12500, "decimation": 200, "cochleagram": lyon(wave).T}

    def folder(**change):
        kept = {name: value for name, value in (numbers | change).items() if value is not None}
        np.savez(tmp_path / "lyon.npz", **kept)
        return tmp_path

    folder.numbers = numbers
    return folder


def test_check_passes_and_names_what_it_does_not_check(folder, capsys):
    path = folder()
    np.savez(path / "supernet.npz", a=1)
    assert main(["data", "check", "--golden", str(path)]) == 0
    out = capsys.readouterr().out
    assert "lyon.npz: cochleagram, relative error 0, bound 1e-09: passed" in out
    assert "not checked" in out and "supernet.npz" in out


@pytest.mark.parametrize("wrong", [1 + 2e-9, np.nan])
def test_check_fails_over_the_bound(folder, capsys, wrong):
    path = folder(cochleagram=folder.numbers["cochleagram"] * wrong)
    assert main(["data", "check", "--golden", str(path)]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("change, message", [
    ({"waveform": None}, "expected waveform"),
    ({"cochleagram": np.zeros(3)}, "cochleagram: expected numbers in 2 dimensions"),
    ({"cochleagram": np.zeros((3, 78))}, r"expected \(frames, channels\) = \(5, 78\), found \(3, 78\)"),
    ({"sample_rate": 8000}, "sample_rate: expected 12500, found 8000"),
    ({"waveform": np.array(["a"])}, "waveform: expected numbers"),
])
def test_check_refuses_a_broken_file(folder, change, message):
    with pytest.raises(InputError, match=message) as error:
        check.main(folder(**change))
    assert "lyon.npz" in str(error.value)


def test_check_refuses_what_is_not_there(tmp_path, capsys):
    with pytest.raises(InputError, match="lyon.npz: no such file"):
        check.main(tmp_path)
    (tmp_path / "lyon.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="get it again"):
        check.main(tmp_path)
    for arguments in (["--golden", str(tmp_path / "none")], [], ["fsdd", "--golden", str(tmp_path)]):
        assert main(["data", "check", *arguments]) == 2
    assert main(["data", "build"]) == 2
    assert "which data set" in capsys.readouterr().err
