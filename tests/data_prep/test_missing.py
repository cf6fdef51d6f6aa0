"""Recordings that are not there: links to nothing, pointers of Git LFS; and those that are, under other names."""

import pytest

from data_prep import prepare
from data_prep.source import Source, check_there, recordings
from hrmas_sparse.settings.load import load
from hrmas_sparse.storage.errors import InputError

EVENT = bytes([1, 2, 128, 0, 9])
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def raw(tmp_path):
    for part in ("Train", "Test"):
        for n, name in enumerate(("00001.bin", "00002.BIN", "00003.bin")):
            path = tmp_path / "raw" / part / str(n) / name
            path.parent.mkdir(parents=True)
            path.write_bytes(EVENT)
    return tmp_path / "raw"


def build(raw):
    from hrmas_sparse.data.cache import open_cache
    return open_cache(prepare(load("nmnist").data, raw, raw.parent / "cache", say=lambda line: None))


def test_capitals_count_and_leftovers_do_not(raw):
    (raw / "Train/0/._00001.bin").write_bytes(b"left behind")
    (raw / "Train/0/.DS_Store").write_bytes(b"left behind")
    data = build(raw)
    assert (len(data.train), len(data.test)) == (3, 3)


def test_a_link_to_nothing_is_a_recording_that_is_missing(raw):
    (raw / "Train/0/00009.bin").symlink_to("nowhere.bin")
    with pytest.raises(InputError, match=r"00009.bin: expected a recording, found a link to nothing; 1 of 7"):
        build(raw)


def test_pointers_of_git_lfs_are_no_recordings(raw):
    for name in ("Train/0/00001.bin", "Test/0/00001.bin"):
        (raw / name).write_bytes(POINTER)
    with pytest.raises(InputError, match=r"00001.bin: .*a pointer of Git LFS; 2 of 6 files are such; `git lfs pull`"):
        build(raw)


def test_links_to_recordings_are_recordings(raw, tmp_path):
    (tmp_path / "elsewhere.bin").write_bytes(EVENT)
    (raw / "Train/0/00009.bin").symlink_to(tmp_path / "elsewhere.bin")
    found = recordings(raw / "Train", "*/*.bin")
    assert len(found) == 4
    check_there(Source(raw, tuple(found)))
