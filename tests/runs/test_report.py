import builtins

import h5py
import numpy as np
import pytest
from event_files import settings, write_nmnist

from data_prep import prepare
from data_prep.report import details, last_steps, per_channel, raster, step_ms
from hrmas_sparse.cli import main
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import CacheWriter, Meta, open_cache


@pytest.fixture
def cache(tmp_path):
    raw = tmp_path / "raw"
    write_nmnist(raw)
    return open_cache(prepare(settings("nmnist"), raw, tmp_path / "cache", say=lambda line: None))


def written(path, encoding, value=np.uint8):
    meta = Meta("toy", "x", encoding, 10, 3, 2, ("a", "b"), "synthetic stand-in")
    with CacheWriter(path, meta) as cache:
        cache.add("train", "1", 1, np.array([0, 9]), np.array([2, 2]), np.array([1, 3], value))
        cache.add("train", "2", 1, *np.zeros((2, 0), int), np.zeros(0, value))
        cache.add("train", "3", 1, np.array([4]), np.array([0]), np.array([1], value))
    return open_cache(path)


def test_details_count_classes_events_and_channels(tmp_path):
    cache = written(tmp_path / "x.h5", {"step_ms": 4})
    assert per_channel(cache.train).tolist() == [1, 0, 2] and last_steps(cache.train).tolist() == [9, 0, 4]
    lines = "\n".join(details(cache))
    for part in ("10 steps of 4 ms = 0.04 s", "train: 3 samples, 3 events, 3.33% of the bins", "0 to 2, median 1",
                 "silent samples 1", "1 of 3 channels silent", "a            0", "b            3",
                 "4 (median), 9 at the latest"):
        assert part in lines, part


@pytest.mark.parametrize(
    "encoding, expected",
    [({"step_ms": 3}, 3), ({"bsa_steps_per_bin": 7, "frame_ms": 16}, 11.2), ({"frame_ms": 16}, 16), ({}, None)],
)
def test_the_length_of_a_step(tmp_path, encoding, expected):
    assert step_ms(written(tmp_path / "x.h5", encoding).meta) == (pytest.approx(expected) if expected else None)


@pytest.mark.parametrize("value", [np.uint8, np.float32])
def test_a_picture_of_any_cache(tmp_path, value):
    pytest.importorskip("matplotlib")
    cache = written(tmp_path / "x.h5", {}, value)
    raster(cache, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_title_names_data_set_and_provenance(cache, tmp_path):
    pytest.importorskip("matplotlib")
    raster(cache, tmp_path / "x.svg", "test")
    assert "nmnist: one test sample of each class (real)" in (tmp_path / "x.svg").read_text()
    for bad in ("x.nothing", "no/where/x.png"):
        with pytest.raises(InputError, match=f"{bad}: the picture cannot be written"):
            raster(cache, tmp_path / bad)


def test_without_matplotlib_the_extra_is_named(cache, tmp_path, monkeypatch):
    real = builtins.__import__

    def fake(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(InputError, match=r"extra `plots`: .*pip install -e '.\[plots\]'"):
        raster(cache, tmp_path / "x.png")


def test_the_commands(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    write_nmnist(tmp_path / "raw")
    assert main(["data", "info", "nmnist", "--raw", "raw", "--raster", "x.png"]) == 0
    out = capsys.readouterr().out
    assert "nmnist: 2 train, 1 test samples (real)" in out and "x.png: one sample of each class" in out
    path = out.splitlines()[0]
    assert main(["data", "verify", path]) == 0 and capsys.readouterr().out == f"{path}: sound\n"
    with h5py.File(path, "r+") as file:
        file["train/value"][0] = 2
    assert main(["data", "verify", path]) == 2 and path in capsys.readouterr().err
    assert main(["data", "download", "ti46"]) == 2
    assert "LDC93S9" in capsys.readouterr().err
